import dataclasses
import json
import math
import re
import xml.etree.ElementTree
from pathlib import Path

import pandas as pd
import pytest
from PIL import Image

from analysis import figures, heat, published, sections, style, tables
from analysis.report import Report, write_report
from common.cli import UserError
from scripts.local.metrics_log import EVALUATIONS
from tests.analysis.conftest import rows_of
from tests.analysis.made_up import write_study, write_trial
from tests.scripts.commands import finish, must_refuse
from workloads import registry


@dataclasses.dataclass(frozen=True)
class Written:
    """A full study's logs, and the report on them."""

    logs: Path
    output: Path
    report: Report


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    root = tmp_path_factory.mktemp("study")
    logs, output = write_study(root / "logs", ["mnist_vit", "stdlib_lm"], trials=2), root / "out"
    return Written(logs, output, write_report(logs, output, resamples=20))


@pytest.fixture
def logs(tmp_path):
    """A small study that a test may damage."""
    return write_study(tmp_path / "logs", ["mnist_vit"])


def _write(logs, output, baseline=None, **settings):
    """A report without figures, which take the most time by far."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(figures, "draw", lambda judged, directory: [])
        return write_report(logs, output, baseline, resamples=20, **settings)


def test_the_files_are_those_promised(written):
    names = {path.name for path in written.output.iterdir()}
    tables = {
        "scores.csv": "submission score ci_low ci_high hardware",
        "time_to_target.csv": "submission workload studies median_seconds median_steps "
        "ratio_to_baseline ci_low ci_high hardware",
        "remarks.csv": "kind path remark",
        "points.csv": "entry workload trial studies reached cut median_steps median_seconds best "
        "hyperparameters",
    }
    assert names == {*tables, "report.md", "index.html", "figures"}
    for name, columns in tables.items():
        assert pd.read_csv(written.output / name).columns.tolist() == columns.split()


def test_tables_hold_the_judgement(written):
    output, judged = written.output, written.report.judged
    scores = pd.read_csv(output / "scores.csv").set_index("submission")
    assert scores.index.tolist() == ["shampoo", "adamw"] == judged.entries
    expected = judged.intervals.scores.set_index("submission")["score"]
    assert scores["score"].to_dict() == pytest.approx(expected.to_dict(), rel=1e-12)
    assert (scores["ci_low"] <= scores["score"]).all()
    times = pd.read_csv(output / "time_to_target.csv").set_index(["workload", "submission"])
    assert len(times) == 4
    shampoo, adamw = (times.loc[("mnist_vit", name)] for name in ("shampoo", "adamw"))
    ratio = shampoo["median_seconds"] / adamw["median_seconds"]
    assert shampoo["ratio_to_baseline"] == pytest.approx(ratio, rel=1e-12)
    assert shampoo["ci_low"] <= ratio <= shampoo["ci_high"]
    assert adamw["ratio_to_baseline"] == 1
    assert math.isinf(times.loc[("stdlib_lm", "adamw"), "median_steps"])
    assert math.isnan(times.loc[("stdlib_lm", "shampoo"), "ratio_to_baseline"])
    points = pd.read_csv(output / "points.csv")
    assert len(points) == 8
    assert set(points["hyperparameters"]) == {'{"learning_rate":0.001}'}


def test_pages_have_figures_manifest_and_who_wins(written):
    drawn = [path for path in written.report.files if path.parent.name == "figures"]
    slim = [path for path in drawn if path.stem.endswith("_narrow")]
    drawn = [path for path in drawn if path not in slim]
    assert len({path.stem for path in drawn}) == len(drawn) / 2 == 8
    assert {path.name for path in slim} == {
        f"{name}_to_target_narrow.svg" for name in ("time", "steps")
    }
    page = (written.output / "report.md").read_text()
    for path in drawn:
        if path.suffix == ".svg":
            assert xml.etree.ElementTree.parse(path).getroot().tag.endswith("svg")
        else:
            with Image.open(path) as image:
                assert image.info["dpi"] == pytest.approx((150, 150), abs=0.1)
            assert f"](figures/{path.name})" in page
    assert "They are **not** AlgoPerf results." in page
    assert "- git_commit_hash: 1a2b3c4; 5d6e7f8\n" in page
    assert "- packages: torch 2.13.0, numpy 2.0\n" in page
    lines = {line.split("**")[1]: line for line in page.splitlines() if line.startswith("- **")}
    assert "score " in lines["Shampoo"] and "place 1 of 2" in lines["Shampoo"]
    assert "reaches the target, which the baseline's median misses" in lines["Shampoo"]
    assert page.count(" 2 x 3 |") == 4
    web = (written.output / "index.html").read_text()
    assert web.count('<div class="figure"><svg') == 6 and "<img" not in web
    assert web.count('class="figure broad"') == web.count('class="figure slim"') == 2
    assert "<td" in web and "place 1 of 2" in web


@pytest.mark.slow
def test_the_same_logs_give_the_same_bytes(written, tmp_path):
    write_report(written.logs, tmp_path, resamples=20)
    names = [path.relative_to(tmp_path) for path in tmp_path.rglob("*") if path.is_file()]
    assert len(names) == 6 + 2 * 8 + 2
    for name in names:
        assert (written.output / name).read_bytes() == (tmp_path / name).read_bytes(), name


def test_oddities_of_logs_are_told_with_their_paths(logs):
    write_trial(logs, "shampoo", "mnist_vit", 0, 3, [math.nan])
    write_trial(logs, "nadamw", "mnist_vit", 0, 1, [0.3])
    cut = logs / "adamw" / "study_0" / "mnist_vit_pytorch" / "trial_1" / EVALUATIONS
    cut.write_text(cut.read_text()[:-30])
    gone = logs / "adamw" / "study_1" / "mnist_vit_pytorch" / "trial_1" / EVALUATIONS
    gone.unlink()
    (logs / "manifest.json").write_text("{")
    report = _write(logs, logs / "report")
    assert [problem.path for problem in report.unusable] == [
        *(cut, gone.parent),
        logs / "nadamw" / "study_0" / "mnist_vit_pytorch" / "trial_1",
        logs / "shampoo" / "study_0" / "mnist_vit_pytorch" / "trial_3",
        logs / "manifest.json",
    ]
    page = (logs / "report" / "report.md").read_text()
    assert f"- `{cut.relative_to(logs)}`: " in page and "## The run" not in page


def _write_cut(logs, limits):
    for entry, limit in limits.items():
        for study in range(3):
            folder = write_trial(logs, entry, "mnist_vit", study, 1, [0.5, 0.6], reason="steps")
            flags = {"max_steps": limit, "step_hint": 800}
            (folder / "flags_0.json").write_text(json.dumps(flags))


def test_trials_ended_by_max_steps_are_cut_and_those_that_miss_are_not(tmp_path):
    logs = tmp_path / "logs"
    _write_cut(logs, {"adamw": None, "shampoo": 40})
    report = _write(logs, tmp_path / "out")
    table = tables.summary_table(report.judged, "pipe", brief=True)
    cells = {row[1]: row for row in rows_of(table)}
    assert "0 of 3" in cells["AdamW"] and cells["AdamW"].count("not reached") == 2
    assert (
        "0 of 3, 3 cut short" in cells["Shampoo"] and "cut at 40 of 800 steps" in cells["Shampoo"]
    )
    assert "not reached" not in cells["Shampoo"]
    (told,) = [p for p in report.judged.problems if "--max_steps" in p.reason]
    assert told.path == logs / "shampoo" and told.is_warning
    assert "3 of 3 trials were cut at 40 of 800 steps by --max_steps" in told.reason
    assert told.reason.endswith("study 0 trial 1, study 1 trial 1, study 2 trial 1")
    # Neither is said to have missed what it was not let run to.
    assert sections.compare_times(report.judged, "shampoo")["cut"] == ["mnist_vit"]
    text = (tmp_path / "out" / "report.md").read_text()
    assert "> **Warning:** shampoo: workload mnist_vit: cut short, 3 of 3 trials" in text
    assert "both medians miss" not in text


def test_a_small_study_is_told_in_the_header_and_its_report_is_no_submission(tmp_path):
    logs = tmp_path / "logs"
    for entry, trial in (("adamw", 3), ("shampoo", 1)):
        for study in (3, 4):
            write_trial(logs, entry, "mnist_vit", study, trial, [0.5, 0.95])
    write_report(logs, logs / "report", resamples=2)
    report = _write(logs, tmp_path / "out")
    assert report.unusable == [] and report.judged.problems == []
    text = (tmp_path / "out" / "report.md").read_text()
    assert "Problems in the logs" not in text
    assert "> Every entry ran 1 point on each workload, in 2 studies; the rules have 5" in text
    assert "over 1 of the 3 stand-ins, those that were run" in text


def test_a_target_that_a_cut_trial_met_is_reached(tmp_path):
    logs = tmp_path / "logs"
    _write_cut(logs, {"adamw": 40})
    folder = write_trial(logs, "shampoo", "mnist_vit", 0, 1, [0.5, 0.95], reason="steps")
    (folder / "flags_0.json").write_text('{"max_steps": 40, "step_hint": 800}')
    report = _write(logs, tmp_path / "out")
    (told,) = [p for p in report.judged.problems if "--max_steps" in p.reason]
    assert told.path == logs / "adamw"
    ratios, texts = heat.time_ratios(report.judged)
    assert texts.loc["mnist_vit"].to_dict() == {"shampoo": "✓", "adamw": "cut"}
    assert ratios.isna().all(axis=None)


def test_unequal_budgets_and_points_that_differ_are_told(logs, tmp_path):
    write_trial(logs, "shampoo", "mnist_vit", 1, 2, [0.5, 0.6])
    path = logs / "adamw" / "study_1" / "mnist_vit_pytorch" / "trial_1" / "hparams.json"
    path.write_text('{"learning_rate": 0.5}')
    report = _write(logs, tmp_path / "out")
    reasons = {problem.reason: problem.path for problem in report.judged.problems}
    (budgets,) = [reason for reason in reasons if "budgets differ" in reason]
    assert budgets.endswith("adamw 3 trials (1 x 3); shampoo 4 trials (4 of 2 x 3)")
    (points,) = [reason for reason in reasons if "studies disagree on learning_rate" in reason]
    assert reasons[points] == logs / "adamw"
    table = pd.read_csv(tmp_path / "out" / "points.csv").set_index("entry")
    adamw = json.loads(table.loc["adamw", "hyperparameters"])
    assert adamw == [{"learning_rate": 0.001}, {"learning_rate": 0.5}]


def test_a_point_without_any_evaluation_is_drawn_and_scored(tmp_path):
    folder = write_trial(tmp_path / "logs", "adamw", "mnist_vit", 0, 1, [0.5], reason="time")
    (folder / EVALUATIONS).unlink()
    report = write_report(tmp_path / "logs", tmp_path / "out", resamples=20)
    (row,) = report.judged.cells.itertuples()
    assert (row.runs, row.reached, row.steady_seconds_per_step) == (1, 0, pytest.approx(0.05))
    assert report.unusable == [] and all(path.is_file() for path in report.files)


def test_without_the_baseline_there_are_no_ratios(logs, tmp_path):
    for path in (logs / "adamw").rglob(EVALUATIONS):
        path.write_text("")
    assert len(_write(logs, tmp_path / "out", "adamw").unusable) == 3
    assert pd.read_csv(tmp_path / "out" / "scores.csv")["submission"].tolist() == ["shampoo"]
    (logs / "adamw").rename(tmp_path / "elsewhere")
    report = _write(logs, tmp_path / "out")
    times = pd.read_csv(tmp_path / "out" / "time_to_target.csv")
    assert times["ratio_to_baseline"].isna().all() and len(times) == 1
    assert report.judged.baseline is None
    page = (tmp_path / "out" / "report.md").read_text()
    assert "There is no baseline to compare times with." in page and "nan" not in page


def test_without_a_target_nothing_is_reached(logs, tmp_path, monkeypatch):
    facts = {
        name: dataclasses.replace(registry.facts(name), validation_target=None)
        for name in registry.names("standin")
    }
    monkeypatch.setattr(registry, "_ALL", facts)
    report = _write(logs, tmp_path / "out")
    warnings = [problem.reason for problem in report.judged.problems if problem.is_warning]
    assert any("mnist_vit has no validation target" in reason for reason in warnings)
    assert not report.judged.points["reached"].any()


def test_names_from_outside_are_no_markup(logs, tmp_path):
    (logs / "shampoo").rename(logs / "<script>alert(1)<script>|")
    _write(logs, tmp_path / "out")
    assert "<script" not in (tmp_path / "out" / "index.html").read_text()
    # What Markdown quotes as code is no markup.
    text = re.sub("`[^`]*`", "", (tmp_path / "out" / "report.md").read_text())
    assert "&lt;script&gt;" in text and "<script" not in text


def test_the_published_leaderboard_can_be_set_beside(tmp_path):
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


@pytest.mark.parametrize(
    ("settings", "reason"),
    [
        ({"version": "v0.7"}, "unknown benchmark version"),
        ({"ruleset": "internal"}, "has no ruleset 'internal'"),
        ({"ruleset": "self_tuning"}, "standin has no ruleset 'self_tuning'"),
        ({"compare_published": True}, "stand-in workloads are not on the leaderboard"),
    ],
)
def test_impossible_settings_are_a_users_error(logs, tmp_path, settings, reason):
    with pytest.raises(UserError, match=reason):
        _write(logs, tmp_path / "out", **settings)
    assert not (tmp_path / "out").exists()
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match="cannot write to"):
        _write(logs, tmp_path / "file")


@pytest.mark.slow
def test_command_line_prints_the_tables_and_the_paths(logs, tmp_path):
    command = ("-m", "analysis.report", "--resamples=20")
    (logs / "notes").mkdir()
    done = finish(*command, f"--logs={logs}", f"--output={tmp_path / 'out'}", "--version=v0.6")
    assert done.returncode == 0, done.stderr
    lines = done.stderr.splitlines()
    assert f"{logs / 'notes'}: holds no study_K folder; left out" in lines
    assert any("only stand-in workloads" in line for line in lines)
    scores, times = (part.splitlines() for part in done.stdout.split("\n\n")[:2])
    assert sorted(line.split()[0] for line in scores[-2:]) == ["AdamW", "Shampoo"]
    assert max(len(line) for line in (*scores, *times)) <= 125
    paths = [Path(line) for line in done.stdout.splitlines() if line.startswith(str(tmp_path))]
    assert len(paths) >= 15 and all(path.is_file() for path in paths)
    done = finish(*command, f"--logs={tmp_path / 'out'}", f"--output={tmp_path / 'none'}")
    assert "no usable trial" in must_refuse(done) and not (tmp_path / "none").exists()
