import json
import math
import os
import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from analysis.logs import TRIAL_KEYS, read_logs
from analysis.scoring import score_trials
from common.cli import UserError
from scripts.local.metrics_log import EVALUATIONS
from tests.analysis.made_up import write_status, write_trial


def test_reads_every_column_of_the_layout(tmp_path):
    write_trial(tmp_path, "shampoo", "flights_dlrm", 2, 10, [0.3], framework="jax")
    write_trial(tmp_path, "adamw", "mnist_vit", 0, 1, [0.5, 0.7])
    logs = read_logs(tmp_path)
    assert logs.problems == []
    assert list(logs.frame.columns) == [
        *TRIAL_KEYS,
        *("hyperparameters", "finished", "cut"),
        *("global_step", "score", "validation_metric"),
    ]
    first, second, third = logs.frame.itertuples(index=False)
    assert tuple(first)[:5] == ("adamw", "mnist_vit", "pytorch", 0, 1)
    assert (second.global_step, second.score, second.validation_metric) == (40, 2.0, 0.7)
    assert tuple(third)[:5] == ("shampoo", "flights_dlrm", "jax", 2, 10)


def test_missing_metrics_are_unknown(tmp_path):
    folder = write_trial(tmp_path, "adamw", "mnist_vit", 0, 1, [0.5])
    (folder / EVALUATIONS).write_text(
        "global_step,score,validation/accuracy\n1,0.5,\n20,1.5,nan\n40,2.5,0.5\n"
    )
    logs = read_logs(tmp_path)
    assert [str(problem) for problem in logs.problems] == [
        f"{folder}: 2 of 3 evaluations have no validation metric; these count as missed"
    ]
    assert logs.frame["validation_metric"].isna().tolist() == [True, True, False]


HEADER = "global_step,score,validation/accuracy"
DAMAGE = {
    "empty": (b"", "is empty"),
    "header only": (f"{HEADER}\n".encode(), "holds no evaluation"),
    "cut within a row": (f"{HEADER}\n20,1.5,0.5\n40,2.".encode(), "truncated"),
    "a short row": (f"{HEADER}\n20,1.5\n40,2.5,0.6\n".encode(), "line 2 has 2 of 3 columns"),
    "no metric": (b"global_step,score\n20,1.5\n", "missing columns validation/accuracy"),
    "words": (f"{HEADER}\n20,fast,0.5\n".encode(), "line 2: score is 'fast', not a number"),
    "no step": (f"{HEADER}\n,1.5,0.5\n".encode(), "line 2: global_step is nan"),
    "negative time": (f"{HEADER}\n20,-1.5,0.5\n".encode(), "line 2: score is -1.5"),
    "a step beyond all bounds": (f"{HEADER}\n1e30,1.5,0.5\n".encode(), "not a whole number"),
    "not text": (b"\xff\xfe\x00\x01\n", "is not text"),
    "a column twice": (f"{HEADER},score\n20,1.5,0.5,9\n".encode(), "has column 'score' twice"),
}


@pytest.mark.parametrize(("content", "reason"), DAMAGE.values(), ids=DAMAGE.keys())
def test_damaged_file_is_reported_and_the_rest_used(tmp_path, content, reason):
    write_trial(tmp_path, "adamw", "mnist_vit", 0, 1, [0.5, 0.6])
    path = write_trial(tmp_path, "adamw", "mnist_vit", 0, 2, [0.5]) / EVALUATIONS
    path.write_bytes(content)
    logs = read_logs(tmp_path)
    assert logs.frame["trial"].tolist() == [1, 1]
    (problem,) = logs.problems
    assert problem.path == path
    assert reason in problem.reason
    assert "\n" not in str(problem)
    assert path.read_bytes() == content


@settings(max_examples=25)
@given(
    start=st.floats(0, 1),
    length=st.integers(0, 60),
    inserted=st.one_of(
        st.binary(max_size=8), st.sampled_from([b"\n", b",", b'"', b"nan", b"-", b"1e400", b"\r"])
    ),
)
def test_no_damage_stops_the_rest(start, length, inserted):
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        write_trial(root, "adamw", "mnist_vit", 0, 1, [0.5, 0.6])
        folder = write_trial(root, "adamw", "mnist_vit", 0, 2, [0.5, 0.6, 0.7])
        path = folder / EVALUATIONS
        content = path.read_bytes()
        place = int(start * len(content))
        path.write_bytes(content[:place] + inserted + content[place + length :])
        read = read_logs(root)
        assert (read.frame["trial"] == 1).sum() == 2
        assert all(problem.path in (path, folder) for problem in read.problems)
        assert len(read.problems) <= 1 and "\n" not in "".join(map(str, read.problems))
        used = read.frame["trial"].eq(2).sum()
        assert used > 0 or len(read.problems) == 1


def test_strays_are_reported_by_path(tmp_path):
    trial = write_trial(tmp_path, "adamw", "mnist_vit", 0, 1, [0.95])
    crashed = write_trial(tmp_path, "adamw", "mnist_vit", 0, 2, [0.5])
    (crashed / EVALUATIONS).unlink()
    unfinished = write_trial(tmp_path, "adamw", "mnist_vit", 0, 3, [0.5])
    (unfinished / "checkpoint.pt").touch()
    study = trial.parent.parent
    strays = {
        tmp_path / "notes": "holds no study_K folder",
        study.parent / "old": "stray folder, expected study_K",
        study / "scratch": "stray folder, expected WORKLOAD_FRAMEWORK",
        study / "cifr_pytorch": "unknown workload 'cifr'",
        study / "stdlib_lm_pytorch": "holds no trial_I folder",
        trial.parent / "trial_x": "stray folder, expected trial_I",
    }
    for folder in strays:
        folder.mkdir()
    for ignored in (tmp_path / "manifest.json", study / "mnist_vit_pytorch_01.log"):
        ignored.write_text("{}")
    (tmp_path / ".git").mkdir()
    logs = read_logs(tmp_path)
    result = {problem.path: problem.reason for problem in logs.problems}
    for folder, reason in strays.items():
        assert reason in result.pop(folder)
    assert result.pop(crashed) == "no eval_measurements.csv; left out"
    assert result.pop(unfinished) == "unfinished trial; used as far as it got"
    assert result == {}
    assert logs.frame["trial"].tolist() == [1, 3]


def test_a_folder_that_may_not_be_read_is_told(tmp_path, monkeypatch):
    for study in (0, 1):
        write_trial(tmp_path, "adamw", "mnist_vit", study, 1, [0.5, 0.6])
    write_trial(tmp_path, "shampoo", "mnist_vit", 0, 1, [0.5, 0.6])
    closed = {tmp_path / "adamw" / "study_0", tmp_path / "shampoo"}
    # The tests may run as a user who may read everything.
    monkeypatch.setattr(os, "access", lambda path, mode: path not in closed)
    read = read_logs(tmp_path)
    assert read.frame["study"].tolist() == [1, 1]
    assert {problem.path for problem in read.problems} == closed


def test_the_reports_own_folder_is_no_stray(tmp_path):
    write_trial(tmp_path, "adamw", "mnist_vit", 0, 1, [0.5, 0.6])
    output = tmp_path / "reports" / "today"
    output.mkdir(parents=True)
    assert read_logs(tmp_path, ignore=output).problems == []
    assert len(read_logs(tmp_path).problems) == 1


def test_nothing_usable_says_what_was_expected(tmp_path):
    def fails(path, match, version=None):
        with pytest.raises(UserError, match=match):
            read_logs(path, version)

    fails(tmp_path / "absent", r"does not exist; give a folder of logs, or one of \.csv")
    fails(tmp_path, r"no usable trial under .* \(expected SUBMISSION/study_K")
    path = write_trial(tmp_path, "adamw", "mnist_vit", 0, 1, [0.5]) / EVALUATIONS
    path.write_text("")
    fails(tmp_path, f"{path}: is empty")
    fails(tmp_path / "adamw", "is one submission; give the folder that holds it")
    fails(Path(__file__), r"test_logs.py is no folder or table")
    fails(tmp_path, r"unknown benchmark version .v0\.9.", "v0.9")


def test_a_trial_without_a_status_is_unfinished_where_others_have_one(tmp_path):
    killed = write_trial(tmp_path, "adamw", "mnist_vit", 0, 1, [0.5, 0.6])
    # Nothing ends with a status here: these are logs of the official runner.
    logs = read_logs(tmp_path)
    assert logs.problems == [] and logs.frame["finished"].all()
    done = write_trial(tmp_path, "shampoo", "flights_dlrm", 0, 1, [0.5], reason="steps")
    # A status outweighs a leftover checkpoint.
    (done / "checkpoint.pt").touch()
    logs = read_logs(tmp_path)
    (problem,) = logs.problems
    assert problem.path == killed and "no status.json" in problem.reason
    assert logs.frame["finished"].tolist() == [False, False, True]


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ("{", "is not valid JSON"),
        ("[]", "holds no JSON object"),
        ('{"status": "complete"}', "does not say"),
    ],
)
def test_a_damaged_status_makes_a_trial_unfinished(tmp_path, content, reason):
    folder = write_trial(tmp_path, "adamw", "mnist_vit", 0, 1, [0.5])
    (folder / "status.json").write_text(content)
    logs = read_logs(tmp_path)
    (problem,) = logs.problems
    assert problem.path == folder / "status.json" and reason in problem.reason
    assert not logs.frame["finished"].any()


def test_time_up_before_the_first_evaluation_is_a_miss(tmp_path):
    write_trial(tmp_path, "adamw", "mnist_vit", 0, 1, [0.5], reason="targets")
    for trial, reason in ((2, "time"), (3, "steps")):
        folder = write_trial(tmp_path, "adamw", "mnist_vit", 0, trial, [0.5])
        (folder / EVALUATIONS).unlink()
        write_status(folder, reason, 17, 600.5)
    logs = read_logs(tmp_path)
    assert [problem.reason for problem in logs.problems] == ["no eval_measurements.csv; left out"]
    row = logs.frame.set_index("trial").loc[2]
    assert (row["global_step"], row["score"]) == (17, 600.5) and row["finished"]
    assert math.isnan(row["validation_metric"]) and 3 not in set(logs.frame["trial"])


@pytest.mark.parametrize("reason", ["targets", "steps", "submission", "time"])
def test_lines_lost_at_a_tables_end_are_told_by_the_status(tmp_path, reason):
    write_trial(tmp_path, "adamw", "mnist_vit", 0, 1, [0.5, 0.6], reason=reason)
    folder = write_trial(tmp_path, "adamw", "mnist_vit", 0, 2, [0.5, 0.6, 0.95], reason=reason)
    path = folder / EVALUATIONS
    *lines, _ = path.read_text().splitlines(keepends=True)
    path.write_text("".join(lines))
    if reason == "time":  # a trial ends then without an evaluation, so it counts them
        status = json.loads((folder / "status.json").read_text()) | {"evaluations": 3}
        (folder / "status.json").write_text(json.dumps(status))
    logs = read_logs(tmp_path)
    (problem,) = logs.problems
    assert problem.path == path and problem.reason.endswith("rows are lost; left out")
    assert logs.frame["trial"].tolist() == [1, 1]
    path.unlink()
    (problem,) = read_logs(tmp_path).problems
    assert problem.path == folder and problem.reason == f"no {EVALUATIONS}; left out"


def test_a_trial_ended_by_max_steps_is_cut(tmp_path):
    for trial, limit in enumerate((40, 800, None, 40), start=1):
        reason = "steps" if trial < 4 else "targets"
        folder = write_trial(tmp_path, "adamw", "mnist_vit", 0, trial, [0.5, 0.6], reason=reason)
        flags = {"max_steps": limit, "step_hint": 800 if trial == 1 else 40}
        (folder / "flags_0.json").write_text(json.dumps(flags))
    logs = read_logs(tmp_path)
    assert logs.problems == []
    assert logs.frame.groupby("trial")["cut"].first().tolist() == [True, False, False, False]
    (folder.parent / "trial_1" / "flags_0.json").write_text("[")
    logs = read_logs(tmp_path)
    (problem,) = logs.problems
    assert problem.path.name == "flags_0.json" and not logs.frame["cut"].any()


def test_pipes_and_odd_names_are_told_and_the_rest_read(tmp_path):
    write_trial(tmp_path, "adamw", "mnist_vit", 0, 1, [0.5, 0.6], reason="steps")
    pipes = []
    for trial, name in ((2, EVALUATIONS), (3, "hparams.json"), (4, "status.json")):
        folder = write_trial(tmp_path, "adamw", "mnist_vit", 0, trial, [0.5], reason="steps")
        pipes.append(folder / name)
        pipes[-1].unlink()
        os.mkfifo(pipes[-1])
    odd = [tmp_path / os.fsdecode(b"\xff"), tmp_path / "two\nlines"]
    for folder in odd:
        write_trial(folder.parent, folder.name, "mnist_vit", 0, 1, [0.5, 0.6], reason="steps")
    logs = read_logs(tmp_path)
    assert {problem.path for problem in logs.problems} == {*pipes, *odd}
    assert logs.frame["trial"].tolist() == [1, 1, 3, 4]
    assert logs.frame.groupby("trial")["finished"].first().tolist() == [True, True, False]


@pytest.mark.parametrize(
    ("workload", "impossible"),
    [
        *(("mnist_vit", value) for value in (math.inf, 1e308, 1.5)),
        *(("flights_dlrm", value) for value in (-math.inf, -1e308, -0.5)),
        *(("stdlib_lm", value) for value in (-math.inf, -1e308, 0.5)),
    ],
)
def test_an_impossible_value_reaches_no_target(tmp_path, workload, impossible):
    worst = -math.inf if workload == "mnist_vit" else math.inf
    folder = write_trial(tmp_path, "adamw", workload, 0, 1, [worst, impossible, worst])
    logs = read_logs(tmp_path)
    (problem,) = logs.problems
    assert problem.path == folder
    assert "1 of 3 evaluations have an impossible validation metric" in problem.reason
    assert logs.frame["validation_metric"].isna().tolist() == [False, True, False]
    assert not score_trials(logs.frame)["reached"].any()


def test_hyperparameters_are_compact_json(tmp_path):
    point = {"weight_decay": 0.1, "learning_rate": 1e-3}
    write_trial(tmp_path, "adamw", "mnist_vit", 0, 1, [0.5, 0.6], hyperparameters=point)
    write_trial(tmp_path, "adamw", "mnist_vit", 0, 2, [0.95], hyperparameters=None)
    damaged = write_trial(tmp_path, "adamw", "mnist_vit", 0, 3, [0.95]) / "hparams.json"
    damaged.write_text("{")
    logs = read_logs(tmp_path)
    text = '{"learning_rate":0.001,"weight_decay":0.1}'
    assert logs.frame["hyperparameters"].tolist() == [text, text, "", ""]
    (problem,) = logs.problems
    assert problem.path == damaged and "not valid JSON" in problem.reason


def _write_evaluations(folder, rows):
    lines = [HEADER, *(f"{step},{seconds},{value}" for step, seconds, value in rows)]
    (folder / EVALUATIONS).write_text("\n".join(lines) + "\n")


def test_a_resumed_run_counts_what_it_did_last(tmp_path):
    folder = write_trial(tmp_path, "adamw", "mnist_vit", 0, 1, [0.5])
    other = write_trial(tmp_path, "adamw", "mnist_vit", 0, 2, [0.5, 0.6])
    _write_evaluations(
        folder,
        # Restored at step 20, and once more at step 40.
        [(20, 1, 0.1), (40, 2, 0.95), (60, 3, 0.3), (40, 2.5, 0.4), (60, 4, 0.5), (60, 5, 0.6)],
    )
    read = read_logs(tmp_path)
    rows = read.frame[read.frame["trial"] == 1]
    assert rows["global_step"].tolist() == [20, 40, 60]
    assert rows["score"].tolist() == [1, 2.5, 5]
    assert rows["validation_metric"].tolist() == [0.1, 0.4, 0.6]
    assert (read.frame["trial"] == 2).sum() == 2 and other.exists()
    (problem,) = read.problems
    assert problem.path == folder
    assert problem.reason.startswith("resumed: steps go back, 3 evaluations were done again")


def test_a_clock_that_goes_back_cannot_be_trusted(tmp_path):
    write_trial(tmp_path, "adamw", "mnist_vit", 0, 1, [0.5, 0.6])
    folder = write_trial(tmp_path, "adamw", "mnist_vit", 0, 2, [0.5])
    _write_evaluations(folder, [(20, 5, 0.1), (40, 2, 0.95), (60, 1, 0.3)])
    read = read_logs(tmp_path)
    assert set(read.frame["trial"]) == {1}
    assert [str(problem) for problem in read.problems] == [
        f"{folder}: submission time goes back to 2 s at step 40; left out"
    ]


def test_one_evaluation_is_told_unless_it_is_enough(tmp_path):
    write_trial(tmp_path, "adamw", "mnist_vit", 0, 1, [0.95])
    died = write_trial(tmp_path, "adamw", "mnist_vit", 0, 2, [0.5])
    unmeasured = write_trial(tmp_path, "adamw", "mnist_vit", 0, 3, [math.nan])
    read = read_logs(tmp_path)
    assert len(read.frame) == 3
    assert [problem.path for problem in read.problems] == [died, unmeasured]
    assert all("one evaluation only" in problem.reason for problem in read.problems)
    assert "1 of 1 evaluations have no validation metric" in read.problems[1].reason
