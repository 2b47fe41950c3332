import dataclasses
import json
import math
import os
import subprocess
import sys
import xml.etree.ElementTree
from pathlib import Path

import pandas as pd
import pytest
from PIL import Image

from analysis.report import Report, write_report
from analysis.trial_files import EVALUATIONS_FILE
from common.cli import UserError
from tests.analysis.made_up import write_study, write_trial
from workloads import registry

ROOT = Path(__file__).resolve().parents[2]


@dataclasses.dataclass(frozen=True)
class Written:
    """A full study's logs, and the report on them."""

    logs: Path
    output: Path
    report: Report


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Written:
    root = tmp_path_factory.mktemp("study")
    logs, output = write_study(root / "logs", trials=2), root / "out"
    return Written(logs, output, write_report(logs, output))


@pytest.fixture
def logs(tmp_path: Path) -> Path:
    """A small study that a test may damage."""
    return write_study(tmp_path / "logs", ["mnist_vit"])


def test_writes_tables_and_figures(written: Written) -> None:
    output, report = written.output, written.report
    assert report.problems == []
    table = pd.read_csv(output / "time_to_target.csv").set_index(["workload", "submission"])
    assert table.columns.tolist() == [
        *("points", "studies", "runs", "unfinished", "reached", "best_trials"),
        *("median_steps", "min_steps", "max_steps"),
        *("median_seconds", "min_seconds", "max_seconds"),
        *("median_cpu_seconds", "seconds_per_step"),
        *("steps_ratio", "seconds_ratio", "step_cost_ratio"),
    ]
    shampoo = table.loc["mnist_vit", "shampoo"]
    assert shampoo["steps_ratio"] < shampoo["seconds_ratio"] < 1 < shampoo["step_cost_ratio"]
    assert math.isinf(table.loc[("stdlib_lm", "adamw"), "median_seconds"])
    points = pd.read_csv(output / "points.csv")
    assert points.columns.tolist() == [
        *("entry", "workload", "trial", "studies", "reached", "median_steps", "median_seconds"),
        *("best", "hyperparameters"),
    ]
    assert len(points) == 12
    assert set(points["hyperparameters"]) == {'{"learning_rate":0.001}'}
    stems = ["time_to_target"] + [f"learning_curves_{name}" for name in sorted(registry.names())]
    expected = [output / "figures" / f"{stem}.{kind}" for stem in stems for kind in ("png", "svg")]
    assert report.figures == expected
    for path in report.figures:
        if path.suffix == ".svg":
            assert xml.etree.ElementTree.parse(path).getroot().tag.endswith("svg")
        else:
            with Image.open(path) as image:
                assert image.info["dpi"] == pytest.approx((150, 150), abs=0.1)
                assert len(image.convert("RGB").getcolors(2**20)) > 50


def test_page_says_who_wins_and_what_a_step_costs(written: Written) -> None:
    page = (written.output / "report.md").read_text()
    assert "They are **not** AlgoPerf results." in page
    assert "- git_commit_hash: 1a2b3c4; 5d6e7f8\n" in page
    assert "- packages: torch 2.13.0, numpy 2.0\n" in page
    lines = {line.split("**")[1]: line for line in page.splitlines() if line.startswith("- **")}
    assert "Shampoo needs fewer steps (Shampoo 240, studies" in lines["mnist_vit"]
    assert "no clear difference in seconds: the studies' ranges" in lines["mnist_vit"]
    assert "Only the median study of Shampoo reaches the target." in lines["stdlib_lm"]
    assert "AdamW in 0 of 3" in lines["stdlib_lm"]
    assert "Problems in the logs" not in page
    assert not any("udgets differ" in line for line in lines.values())
    assert page.count(" 2 x 3 |") == 6


def test_the_same_logs_give_the_same_bytes(written: Written, tmp_path: Path) -> None:
    first, second = written.output, tmp_path
    write_report(written.logs, second)
    written = sorted(path.relative_to(first) for path in first.rglob("*") if path.is_file())
    assert len(written) == 11
    for path in written:
        assert (first / path).read_bytes() == (second / path).read_bytes(), path


def test_oddities_of_the_leaderboard_do_not_stop_the_report(logs: Path, tmp_path: Path) -> None:
    write_trial(logs, "shampoo", "mnist_vit", 0, 3, [math.nan])
    write_trial(logs, "nadamw", "mnist_vit", 0, 1, [0.3])
    write_trial(logs, "nadamw", "mnist_vit", 4, 1, [math.nan, math.nan])
    cut = logs / "adamw" / "study_0" / "mnist_vit_pytorch" / "trial_1" / EVALUATIONS_FILE
    cut.write_text(cut.read_text()[:-30])
    gone = logs / "adamw" / "study_1" / "mnist_vit_pytorch" / "trial_1" / EVALUATIONS_FILE
    gone.unlink()
    (logs / "manifest.json").write_text("{")
    report = write_report(logs, logs / "report")
    assert [problem.path for problem in report.problems] == [
        *(cut, gone.parent),
        logs / "manifest.json",
        logs,
    ]
    page = (logs / "report" / "report.md").read_text()
    assert f"- `{cut.relative_to(logs)}`: " in page
    assert "## The run" not in page


def test_unequal_budgets_are_told(logs: Path, tmp_path: Path) -> None:
    write_trial(logs, "shampoo", "mnist_vit", 1, 2, [0.5, 0.6])
    report = write_report(logs, tmp_path / "out")
    (problem,) = report.problems
    assert problem.reason == (
        "workload mnist_vit: budgets differ (points x studies): "
        "adamw 3 trials (1 x 3); shampoo 4 trials (4 of 2 x 3)"
    )
    page = (tmp_path / "out" / "report.md").read_text()
    told = "The budgets differ: Shampoo ran 4 of 2 x 3 (points x studies), AdamW 1 x 3."
    (line,) = [line for line in page.splitlines() if line.startswith("- **")]
    assert told in line


def test_studies_that_disagree_on_a_point_are_told(logs: Path, tmp_path: Path) -> None:
    path = logs / "adamw" / "study_1" / "mnist_vit_pytorch" / "trial_1" / "hparams.json"
    path.write_text('{"learning_rate": 0.5}')
    report = write_report(logs, tmp_path / "out")
    (problem,) = report.problems
    assert problem.path == logs / "adamw"
    assert "workload mnist_vit, trial 1: studies disagree on learning_rate" in problem.reason
    points = pd.read_csv(tmp_path / "out" / "points.csv").set_index("entry")
    adamw = json.loads(points.loc["adamw", "hyperparameters"])
    assert adamw == [{"learning_rate": 0.001}, {"learning_rate": 0.5}]


def test_a_point_without_any_evaluation_is_drawn_and_scored(tmp_path: Path) -> None:
    folder = write_trial(tmp_path / "logs", "adamw", "mnist_vit", 0, 1, [0.5], reason="time")
    (folder / EVALUATIONS_FILE).unlink()
    report = write_report(tmp_path / "logs", tmp_path / "out")
    (row,) = report.workloads.itertuples()
    assert (row.runs, row.reached, row.seconds_per_step) == (1, 0, pytest.approx(0.05))
    assert report.problems == [] and all(path.is_file() for path in report.figures)


def test_without_the_baseline_there_are_no_ratios(logs: Path, tmp_path: Path) -> None:
    (logs / "adamw").rename(tmp_path / "elsewhere")
    report = write_report(logs, tmp_path / "out")
    assert report.workloads["steps_ratio"].isna().all()
    assert [problem.reason for problem in report.problems] == [
        "no usable logs of adamw; no ratios to it"
    ]
    assert not (tmp_path / "out" / "figures" / "time_to_target.png").exists()
    assert "AdamW has no usable run" in (tmp_path / "out" / "report.md").read_text()
    with pytest.raises(UserError, match="--baseline=adamw has no usable logs; those have: shampoo"):
        write_report(logs, tmp_path / "out", "adamw")


def test_without_a_target_nothing_is_reached(
    logs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    facts = {
        name: dataclasses.replace(registry.facts(name), validation_target=None)
        for name in registry.names()
    }
    monkeypatch.setattr(registry, "_ALL", facts)
    report = write_report(logs, tmp_path / "out")
    assert len(report.problems) == 1
    assert not report.points["reached"].any()
    assert "No target is set" in (tmp_path / "out" / "report.md").read_text()


def _command(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "analysis.report", *arguments]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)


def test_command_line_prints_the_table_and_the_paths(logs: Path, tmp_path: Path) -> None:
    (logs / "notes").mkdir()
    done = _command(f"--logs={logs}", f"--output={tmp_path / 'out'}")
    assert done.returncode == 0, done.stderr
    assert f"{logs / 'notes'}: holds no study_K folder; left out" in done.stderr.splitlines()
    table = done.stdout.split("\n\n")[0].splitlines()
    assert len(table) == 5 and max(len(line) for line in table) <= 125
    paths = [Path(line) for line in done.stdout.splitlines() if line.startswith(str(tmp_path))]
    assert len(paths) == 7 and all(path.is_file() for path in paths)


def test_command_line_errors_are_one_line(tmp_path: Path) -> None:
    for arguments, said in (
        ([f"--output={tmp_path}"], "--logs"),
        ([f"--logs={tmp_path}", f"--output={tmp_path / 'out'}"], "no usable trial"),
    ):
        done = _command(*arguments)
        assert done.returncode == 2
        assert said in done.stderr and done.stderr.count("\n") == 1
        assert not (tmp_path / "out").exists()


def test_unwritable_output_is_a_users_error(logs: Path, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match="cannot write to"):
        write_report(logs, tmp_path / "file")
