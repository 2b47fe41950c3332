"""Hours of published runs: read from logs in the leaderboards' layout."""

from pathlib import Path

import pandas as pd
import pytest

from analysis import published_hours
from common.cli import UserError


def write_trial(root: Path, study: int, trial: int, hours: float, rows: int = 3) -> Path:
    folder = (
        root / "algoperf_v06/logs/external_tuning/mine" / f"study_{study}/librispeech_x_jax"
    ) / f"trial_{trial}"
    folder.mkdir(parents=True)
    share = [(row + 1) / rows for row in range(rows)]
    table = pd.DataFrame({"total_duration": share, "accumulated_submission_time": share})
    table["total_duration"] *= 3600 * hours
    table["accumulated_submission_time"] *= 1800 * hours
    table.to_csv(folder / "eval_measurements.csv", index=False)
    return folder / "eval_measurements.csv"


def test_medians_are_over_the_trials_that_ran(tmp_path: Path) -> None:
    for trial, hours in ((1, 2.0), (2, 4.0), (3, 9.0)):
        write_trial(tmp_path, 0, trial, hours)
    write_trial(tmp_path, 1, 1, 100.0, rows=2)
    (row,) = published_hours.hours(tmp_path).to_dict("records")
    assert row == {
        "version": "v0.6",
        "ruleset": "external",
        "submission": "mine",
        "workload": "librispeech_x",
        "trials": 3,
        "median_hours": 4.0,
        "longest_hours": 9.0,
        "median_submission_hours": 2.0,
        "median_evaluations": 3.0,
    }


def test_what_is_missing_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="holds no logs of"):
        published_hours.hours(tmp_path)
    path = write_trial(tmp_path, 0, 1, 1.0)
    path.write_text("score\n1\n2\n3\n")
    with pytest.raises(
        UserError, match=r"trial_1/eval_measurements\.csv has no column accumulated"
    ):
        published_hours.hours(tmp_path)


def test_the_committed_table_agrees_with_the_tidy_one_about_the_timed_part() -> None:
    from analysis.published import read_trials

    table = published_hours.read_hours()
    trials = read_trials("v0.6")
    for row in table[(table["version"] == "v0.6") & (table["ruleset"] == "external")].itertuples():
        own = trials[
            (trials["submission"] == row.submission)
            & (trials["workload"] == row.workload)
            & (trials["evaluations"] >= 3)
        ]
        assert len(own) == row.trials
        assert own["last_seconds"].median() / 3600 == pytest.approx(
            row.median_submission_hours, abs=1e-3
        )
