import dataclasses
import json
import math
import os
import re
import shutil
import subprocess
import sys
import xml.etree.ElementTree
from pathlib import Path

import pandas as pd
import pytest
from PIL import Image

from analysis import figures, published, style
from analysis.report import Report, write_report
from analysis.trial_files import EVALUATIONS_FILE
from common.cli import UserError
from tests.analysis.made_up import write_study, write_trial
from workloads import registry

ROOT = Path(__file__).resolve().parents[2]
RESAMPLES = 100


@dataclasses.dataclass(frozen=True)
class Written:
    """A full study's logs, and the report on them."""

    logs: Path
    output: Path
    report: Report


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Written:
    root = tmp_path_factory.mktemp("study")
    logs, output = write_study(root / "logs", ["mnist_vit", "stdlib_lm"], trials=2), root / "out"
    return Written(logs, output, write_report(logs, output, resamples=RESAMPLES))


@pytest.fixture
def logs(tmp_path: Path) -> Path:
    """A small study that a test may damage."""
    return write_study(tmp_path / "logs", ["mnist_vit"])


@pytest.fixture
def undrawn(monkeypatch: pytest.MonkeyPatch) -> None:
    """For tests of everything but the figures, which take the most time by far."""
    monkeypatch.setattr(figures, "draw", lambda judged, directory: [])


def _write(logs: Path, output: Path, baseline: str | None = None, **settings: object) -> Report:
    return write_report(logs, output, baseline, resamples=RESAMPLES, **settings)  # type: ignore[arg-type]


def test_the_files_are_those_promised(written: Written) -> None:
    output = written.output
    names = {path.name for path in output.iterdir()}
    assert names == {
        *("scores.csv", "time_to_target.csv", "points.csv"),
        *("report.md", "index.html", "figures"),
    }
    for name, columns in (
        ("scores", ["submission", "score", "ci_low", "ci_high"]),
        (
            "time_to_target",
            [
                *("submission", "workload", "studies", "median_seconds", "median_steps"),
                *("ratio_to_baseline", "ci_low", "ci_high"),
            ],
        ),
        (
            "points",
            [
                *("entry", "workload", "trial", "studies", "reached"),
                *("median_steps", "median_seconds", "best", "hyperparameters"),
            ],
        ),
    ):
        assert pd.read_csv(output / f"{name}.csv").columns.tolist() == columns


def test_tables_hold_the_judgement(written: Written) -> None:
    output, judged = written.output, written.report.judged
    scores = pd.read_csv(output / "scores.csv").set_index("submission")
    assert scores.index.tolist() == ["shampoo", "adamw"] == judged.entries
    assert scores["score"].to_dict() == pytest.approx(judged.profile.scores.to_dict(), rel=1e-12)
    assert (scores["ci_low"] <= scores["score"]).all()
    times = pd.read_csv(output / "time_to_target.csv").set_index(["workload", "submission"])
    assert len(times) == 4
    shampoo = times.loc[("mnist_vit", "shampoo")]
    adamw = times.loc[("mnist_vit", "adamw")]
    ratio = shampoo["median_seconds"] / adamw["median_seconds"]
    assert shampoo["ratio_to_baseline"] == pytest.approx(ratio, rel=1e-12)
    assert shampoo["ci_low"] <= ratio <= shampoo["ci_high"]
    assert times.loc[("mnist_vit", "adamw"), "ratio_to_baseline"] == 1
    assert math.isinf(times.loc[("stdlib_lm", "adamw"), "median_steps"])
    assert math.isnan(times.loc[("stdlib_lm", "shampoo"), "ratio_to_baseline"])
    points = pd.read_csv(output / "points.csv")
    assert len(points) == 8
    assert set(points["hyperparameters"]) == {'{"learning_rate":0.001}'}


def test_figures_are_pictures(written: Written) -> None:
    drawn = [path for path in written.report.files if path.parent.name == "figures"]
    assert len({path.stem for path in drawn}) == len(drawn) / 2 == 8
    for path in drawn:
        if path.suffix == ".svg":
            assert xml.etree.ElementTree.parse(path).getroot().tag.endswith("svg")
        else:
            with Image.open(path) as image:
                assert image.info["dpi"] == pytest.approx((150, 150), abs=0.1)
                assert len(image.convert("RGB").getcolors(2**20)) > 50


def test_page_says_who_wins_and_what_a_step_costs(written: Written) -> None:
    page = (written.output / "report.md").read_text()
    assert "They are **not** AlgoPerf results." in page
    assert "By the rules of AlgoPerf v0.6, external tuning, over the stand-ins." in page
    assert "- git_commit_hash: 1a2b3c4; 5d6e7f8\n" in page
    assert "- packages: torch 2.13.0, numpy 2.0\n" in page
    lines = {line.split("**")[1]: line for line in page.splitlines() if line.startswith("- **")}
    assert "score " in lines["Shampoo"] and "place 1 of 2" in lines["Shampoo"]
    assert "reaches the target, which the baseline's median misses" in lines["Shampoo"]
    assert page.count(" 2 x 3 |") == 4
    for path in written.report.files:
        if path.suffix == ".png":
            assert f"](figures/{path.name})" in page


def test_the_web_page_has_all_of_it(written: Written) -> None:
    page = (written.output / "index.html").read_text()
    assert page.count("<img") == page.count('src="data:image/svg+xml;base64,') == 8
    assert "<td" in page and "place 1 of 2" in page


def test_the_same_logs_give_the_same_bytes(written: Written, tmp_path: Path) -> None:
    first, second = written.output, tmp_path
    _write(written.logs, second)
    names = sorted(path.relative_to(first) for path in first.rglob("*") if path.is_file())
    assert len(names) == 5 + 2 * 8
    for name in names:
        assert (first / name).read_bytes() == (second / name).read_bytes(), name


@pytest.mark.usefixtures("undrawn")
def test_oddities_of_the_leaderboard_do_not_stop_the_report(logs: Path, tmp_path: Path) -> None:
    write_trial(logs, "shampoo", "mnist_vit", 0, 3, [math.nan])
    write_trial(logs, "nadamw", "mnist_vit", 0, 1, [0.3])
    write_trial(logs, "nadamw", "mnist_vit", 4, 1, [math.nan, math.nan])
    cut = logs / "adamw" / "study_0" / "mnist_vit_pytorch" / "trial_1" / EVALUATIONS_FILE
    cut.write_text(cut.read_text()[:-30])
    gone = logs / "adamw" / "study_1" / "mnist_vit_pytorch" / "trial_1" / EVALUATIONS_FILE
    gone.unlink()
    (logs / "manifest.json").write_text("{")
    report = _write(logs, logs / "report")
    assert [problem.path for problem in report.unusable] == [
        *(cut, gone.parent),
        logs / "nadamw" / "study_0" / "mnist_vit_pytorch" / "trial_1",
        logs / "nadamw" / "study_4" / "mnist_vit_pytorch" / "trial_1",
        logs / "shampoo" / "study_0" / "mnist_vit_pytorch" / "trial_3",
        logs / "manifest.json",
    ]
    page = (logs / "report" / "report.md").read_text()
    assert f"- `{cut.relative_to(logs)}`: " in page
    assert "## The run" not in page


@pytest.mark.usefixtures("undrawn")
def test_unequal_budgets_are_told(logs: Path, tmp_path: Path) -> None:
    write_trial(logs, "shampoo", "mnist_vit", 1, 2, [0.5, 0.6])
    report = _write(logs, tmp_path / "out")
    reasons = [problem.reason for problem in report.judged.problems]
    assert (
        "workload mnist_vit: budgets differ (points x studies): "
        "adamw 3 trials (1 x 3); shampoo 4 trials (4 of 2 x 3)"
    ) in reasons
    page = (tmp_path / "out" / "report.md").read_text()
    assert "| 4 of 2 x 3 |" in page.replace("  ", " ").replace("  ", " ")


@pytest.mark.usefixtures("undrawn")
def test_studies_that_disagree_on_a_point_are_told(logs: Path, tmp_path: Path) -> None:
    path = logs / "adamw" / "study_1" / "mnist_vit_pytorch" / "trial_1" / "hparams.json"
    path.write_text('{"learning_rate": 0.5}')
    report = _write(logs, tmp_path / "out")
    told = "workload mnist_vit, trial 1: studies disagree on learning_rate"
    (problem,) = [row for row in report.judged.problems if row.reason.startswith(told)]
    assert problem.path == logs / "adamw"
    points = pd.read_csv(tmp_path / "out" / "points.csv").set_index("entry")
    adamw = json.loads(points.loc["adamw", "hyperparameters"])
    assert adamw == [{"learning_rate": 0.001}, {"learning_rate": 0.5}]


def test_a_point_without_any_evaluation_is_drawn_and_scored(tmp_path: Path) -> None:
    folder = write_trial(tmp_path / "logs", "adamw", "mnist_vit", 0, 1, [0.5], reason="time")
    (folder / EVALUATIONS_FILE).unlink()
    report = _write(tmp_path / "logs", tmp_path / "out")
    (row,) = report.judged.cells.itertuples()
    assert (row.runs, row.reached, row.steady_seconds_per_step) == (1, 0, pytest.approx(0.05))
    assert report.unusable == [] and all(path.is_file() for path in report.files)


@pytest.mark.usefixtures("undrawn")
def test_without_the_baseline_there_are_no_ratios(logs: Path, tmp_path: Path) -> None:
    (logs / "adamw").rename(tmp_path / "elsewhere")
    report = _write(logs, tmp_path / "out")
    times = pd.read_csv(tmp_path / "out" / "time_to_target.csv")
    assert times["ratio_to_baseline"].isna().all() and len(times) == 1
    assert report.judged.baseline is None
    reasons = [problem.reason for problem in report.judged.problems]
    assert "no usable logs of adamw, nadamw, baseline; no ratios to a baseline" in reasons
    page = (tmp_path / "out" / "report.md").read_text()
    assert "There is no baseline to compare times with." in page and "nan" not in page
    with pytest.raises(UserError, match="--baseline=adamw has no usable logs; those have: shampoo"):
        _write(logs, tmp_path / "out", "adamw")


@pytest.mark.usefixtures("undrawn")
def test_a_baseline_whose_logs_are_all_damaged_does_not_stop_the_rest(
    logs: Path, tmp_path: Path
) -> None:
    for path in (logs / "adamw").rglob(EVALUATIONS_FILE):
        path.write_text("")
    report = _write(logs, tmp_path / "out", "adamw")
    assert len(report.unusable) == 3
    assert pd.read_csv(tmp_path / "out" / "scores.csv")["submission"].tolist() == ["shampoo"]


@pytest.mark.usefixtures("undrawn")
def test_without_a_target_nothing_is_reached(
    logs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    facts = {
        name: dataclasses.replace(registry.facts(name), validation_target=None)
        for name in registry.names("standin")
    }
    monkeypatch.setattr(registry, "_ALL", facts)
    report = _write(logs, tmp_path / "out")
    told = "workload mnist_vit has no validation target; nothing reaches it"
    assert told in [problem.reason for problem in report.judged.problems]
    assert not report.judged.points["reached"].any()


@pytest.mark.usefixtures("undrawn")
def test_names_from_outside_are_no_markup(logs: Path, tmp_path: Path) -> None:
    bad = "<script>alert(1)</script>|"
    (logs / "shampoo").rename(logs / bad.replace("/", ""))
    _write(logs, tmp_path / "out")
    assert "<script" not in (tmp_path / "out" / "index.html").read_text()
    # What Markdown quotes as code is no markup.
    text = re.sub("`[^`]*`", "", (tmp_path / "out" / "report.md").read_text())
    assert "&lt;script&gt;" in text and "<script" not in text


@pytest.mark.usefixtures("undrawn")
def test_the_published_leaderboard_can_be_set_beside(tmp_path: Path) -> None:
    trials = published.read_trials("v0.6")
    mine = trials[(trials["submission"] == "shampoo") & (trials["workload"] == "ogbg")]
    table = mine.assign(submission="mine").rename(columns={"last_step": "global_step"})
    table = table.assign(score=table["last_seconds"], validation_metric=0.9)
    table.to_parquet(tmp_path / "evaluations.parquet")
    report = _write(
        tmp_path / "evaluations.parquet", tmp_path / "out", version="v0.6", compare_published=True
    )
    judged = report.judged
    assert set(judged.entries) == {"mine", "shampoo (published)", "baseline (published)"}
    assert judged.baseline == style.published_name("baseline")
    page = (tmp_path / "out" / "report.md").read_text()
    assert "the leaderboard's own, published runs" in page and "| Shampoo † " in page


@pytest.mark.usefixtures("undrawn")
def test_standins_are_not_on_the_leaderboard(logs: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="stand-in workloads are not on the leaderboard"):
        _write(logs, tmp_path / "out", compare_published=True)


@pytest.mark.usefixtures("undrawn")
@pytest.mark.parametrize("version", [None, "standin", "v0.5", "v0.6"])
def test_standins_are_judged_as_such_whatever_the_version(
    logs: Path, tmp_path: Path, version: str | None
) -> None:
    report = _write(logs, tmp_path / "out", version=version)
    assert report.judged.rules.version == "standin"
    assert bool(report.told) == (version in ("v0.5", "v0.6"))


@pytest.mark.usefixtures("undrawn")
@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"version": "v0.7"}, "unknown benchmark version"),
        ({"ruleset": "internal"}, "has no ruleset 'internal'"),
        ({"ruleset": "self_tuning"}, "standin has no ruleset 'self_tuning'"),
    ],
)
def test_unknown_rules_are_a_users_error(
    logs: Path, tmp_path: Path, settings: dict[str, str], said: str
) -> None:
    with pytest.raises(UserError, match=said):
        _write(logs, tmp_path / "out", **settings)
    assert not (tmp_path / "out").exists()


def test_unwritable_output_is_a_users_error(logs: Path, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match="cannot write to"):
        _write(logs, tmp_path / "file")


def _command(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "analysis.report", "--resamples=20", *arguments]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)


def test_command_line_prints_the_tables_and_the_paths(logs: Path, tmp_path: Path) -> None:
    (logs / "notes").mkdir()
    cut = logs / "adamw" / "study_0" / "mnist_vit_pytorch" / "trial_1" / EVALUATIONS_FILE
    cut.write_text(cut.read_text()[:-30])
    done = _command(f"--logs={logs}", f"--output={tmp_path / 'out'}")
    assert done.returncode == 0, done.stderr
    said = done.stderr.splitlines()
    assert f"{logs / 'notes'}: holds no study_K folder; left out" in said
    assert len([line for line in said if line.startswith(f"{cut}: ")]) == 1
    scores, times = (part.splitlines() for part in done.stdout.split("\n\n")[:2])
    assert sorted(line.split()[0] for line in scores[-2:]) == ["AdamW", "Shampoo"]
    assert max(len(line) for line in (*scores, *times)) <= 125
    paths = [Path(line) for line in done.stdout.splitlines() if line.startswith(str(tmp_path))]
    assert len(paths) >= 15 and all(path.is_file() for path in paths)


def test_command_line_errors_are_one_line(logs: Path, tmp_path: Path) -> None:
    shutil.rmtree(logs)
    logs.mkdir()
    for arguments, said in (
        ([f"--output={tmp_path}"], "--logs"),
        ([f"--logs={logs}", f"--output={tmp_path / 'out'}"], "no usable trial"),
    ):
        done = _command(*arguments)
        assert done.returncode == 2
        assert said in done.stderr and done.stderr.count("\n") == 1
        assert not (tmp_path / "out").exists()


def test_the_readme_shows_the_committed_study() -> None:
    report = (ROOT / "results" / "standins" / "report" / "report.md").read_text()
    section = report.split("## Time to target\n\n")[1]
    table = section.split("\n\n")[0]
    assert table.startswith("| workload") and table in (ROOT / "README.md").read_text()
