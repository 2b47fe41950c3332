"""Our scoring against the values of the official code, on all published leaderboards."""

import dataclasses
import gzip

import numpy as np
import pandas as pd
import pytest

from analysis import published
from analysis.published import PUBLISHED, TRACKS, read_trials
from analysis.scoring import performance_profile, score_studies, time_to_target, times_table
from common.cli import UserError
from tests.analysis.made_up import write_trial
from tests.analysis.reference import speedup
from workloads.rulesets import ruleset


def _official(name, track):
    table = pd.read_csv(PUBLISHED / name)
    return table[(table["version"] == track[0]) & (table["ruleset"] == track[1])]


def _times(track):
    return times_table(time_to_target(score_studies(read_trials(*track))))


@pytest.mark.parametrize("track", TRACKS)
def test_every_median_is_the_official_one(track):
    times = _times(track)
    medians = _official("official_medians.csv", track)
    assert len(medians) > 0
    result = [times.loc[row.workload, row.submission] for row in medians.itertuples()]
    np.testing.assert_allclose(result, medians["median_seconds"], rtol=0, atol=1e-9)
    # And there is nothing that the official code does not have.
    used = times.loc[times.index.isin(set(medians["workload"]))]
    assert used.notna().sum(axis=None) == len(medians)


@pytest.mark.parametrize("track", TRACKS)
def test_every_score_is_the_official_and_the_published_one(track):
    scores = performance_profile(_times(track), ruleset(*track)).scores
    official = _official("official_scores.csv", track).set_index("submission")
    assert set(scores.index) == set(official.index)
    for submission, row in official.iterrows():
        assert scores[submission] == pytest.approx(row["official_score"], abs=1e-9)
        if not np.isnan(row["published_score"]):
            assert round(scores[submission], 4) == row["published_score"]


def test_every_pick_of_v05_external_is_the_official_one():
    keys = ["submission", "workload", "study"]
    official = pd.read_csv(PUBLISHED / "official_v05_external_studies.csv").set_index(keys)
    studies = score_studies(read_trials("v0.5")).set_index(keys).loc[official.index]
    assert len(official) == 743 and np.isfinite(official["seconds"]).sum() == 577
    assert (studies["trial"] == official["trial"]).all()
    assert (studies["steps"] == official["steps"]).all()
    np.testing.assert_allclose(studies["seconds"], official["seconds"], rtol=0, atol=1e-9)


def test_the_written_rule_gives_another_score_to_one_submission():
    rules = ruleset("v0.5")
    official, fastest = (
        performance_profile(
            times_table(time_to_target(score_studies(read_trials("v0.5"), rule))), rules
        ).scores
        for rule in ("official", "fastest")
    )
    differing = official.index[(official - fastest).abs() > 1e-9]
    assert differing.tolist() == ["lawa_ema"]
    assert fastest["lawa_ema"] == pytest.approx(0.3434343434343434, abs=1e-9)


@pytest.mark.parametrize(
    ("track", "submission", "official"),
    [
        # What `compute_speedups.py` prints; it takes the budgets of v0.5 for v0.6 as well.
        (("v0.5", "external"), "shampoo_submission", 0.7212957789529296),
        (("v0.5", "external"), "schedule_free_adamw", 0.7340264941114376),
        (("v0.5", "self_tuning"), "schedule_free_adamw", 0.9223676585996796),
        (("v0.6", "external"), "shampoo", 0.8358343191311296),
    ],
)
def test_speedups_are_the_official_ones(track, submission, official):
    rules = dataclasses.replace(ruleset(*track), version="v0.5")
    result = speedup(_times(track), submission, "baseline", rules)
    assert result == pytest.approx(official, abs=1e-12)


def test_the_medians_are_those_of_the_trials():
    table = pd.read_csv(PUBLISHED / published.MEDIANS)
    for (version, name), rows in table.groupby(published.TRACK_KEYS):
        cells = time_to_target(score_studies(read_trials(str(version), str(name))))
        measured = ["studies", "reached", "median_seconds", "median_steps"]
        tables = (table.set_index(["submission", "workload"])[measured] for table in (rows, cells))
        pd.testing.assert_frame_equal(*tables, rtol=1e-12)


def test_other_tracks_are_a_users_error(tmp_path):
    with pytest.raises(UserError, match=r"nothing is published for v0\.9 external; known: v0\.5 e"):
        read_trials("v0.9")
    with pytest.raises(UserError, match=r"cannot read .*trials\.csv\.gz"):
        read_trials("v0.5", directory=tmp_path)


def test_collects_from_logs_in_the_leaderboards_folders(tmp_path):
    logs = tmp_path / "leaderboards"
    for folder in TRACKS.values():
        for trial, values in ((1, [0.5, 0.95, 0.95]), (2, [0.5, 0.5, 0.5])):
            point = {"rate": 0.1 * trial}
            for study in (0, 1):
                write_trial(
                    logs / folder, "x", "mnist_vit", study, trial, values, hyperparameters=point
                )
    outputs = [tmp_path / name for name in ("a", "b")]
    for output in outputs:
        published.collect(logs, output)
    for name in (published.TRIALS, published.MEDIANS, published.POINTS, published.HOURS):
        assert (outputs[0] / name).read_bytes() == (outputs[1] / name).read_bytes()
    assert gzip.decompress((outputs[0] / published.TRIALS).read_bytes()).count(b"\n") == 21
    trials = read_trials("v0.6", "self_tuning", outputs[0])
    assert trials["seconds"].tolist() == [2.0, np.inf] * 2
    assert time_to_target(score_studies(trials))["median_steps"].tolist() == [40]
    points = pd.read_csv(outputs[0] / published.POINTS)
    assert points["trials"].tolist() == [2] * 10
    assert points["hyperparameters"].tolist() == ['{"rate":0.1}', '{"rate":0.2}'] * 5


def _write_hours(root, study, trial, hours, rows=3):
    folder = root / "mine" / f"study_{study}" / "librispeech_x_jax" / f"trial_{trial}"
    folder.mkdir(parents=True)
    share = np.arange(1, rows + 1) / rows
    durations = {"total_duration": 3600 * hours, "accumulated_submission_time": 1800 * hours}
    table = pd.DataFrame({name: share * seconds for name, seconds in durations.items()})
    table.to_csv(folder / "eval_measurements.csv", index=False)
    return folder / "eval_measurements.csv"


def test_hours_are_medians_over_the_trials_that_ran(tmp_path):
    for trial, hours in ((1, 2.0), (2, 4.0), (3, 9.0)):
        _write_hours(tmp_path, 0, trial, hours)
    _write_hours(tmp_path, 1, 1, 100.0, rows=2)
    (row,) = published.hours(tmp_path).to_dict("records")
    assert row == {
        "submission": "mine",
        "workload": "librispeech_x",
        "trials": 3,
        "median_hours": 4.0,
        "longest_hours": 9.0,
        "median_submission_hours": 2.0,
        "median_evaluations": 3.0,
    }
    path = _write_hours(tmp_path, 2, 1, 1.0)
    path.write_text("score\n1\n2\n3\n")
    with pytest.raises(UserError, match=r"trial_1/eval_measurements\.csv has no column accumul"):
        published.hours(tmp_path)


def test_committed_hours_agree_with_the_trials_about_the_timed_part():
    table = published.read_hours()
    trials = read_trials("v0.6")
    for row in table[(table["version"] == "v0.6") & (table["ruleset"] == "external")].itertuples():
        runs = trials[
            (trials["submission"] == row.submission)
            & (trials["workload"] == row.workload)
            & (trials["evaluations"] >= 3)
        ]
        assert len(runs) == row.trials
        assert runs["last_seconds"].median() / 3600 == pytest.approx(
            row.median_submission_hours, abs=1e-3
        )
