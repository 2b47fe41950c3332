"""Rules by what logs say, and warnings where they were made by others."""

import json

import numpy as np
import pandas as pd
import pytest

from analysis.choice import choose_rules
from analysis.logs import read_logs
from analysis.report import write_report
from common.cli import UserError
from tests.analysis.made_up import write_trial
from workloads import registry

V100 = {"gpu_model_name": "Tesla V100-SXM2-16GB", "gpu_count": 8}
A100 = {"gpu_model_name": "NVIDIA A100-SXM4-40GB", "gpu_count": 4}
HARDWARE = {"v0.5": V100, "v0.6": V100, "v1.0": A100}


@pytest.fixture(autouse=True)
def real_facts_and_no_figures(monkeypatch):
    monkeypatch.undo()
    monkeypatch.setattr("analysis.figures.draw", lambda judged, directory: [])


def _write(
    root,
    submission,
    workload,
    version,
    *,
    study=0,
    trial=1,
    tuning="self",
    point=None,
    seconds_per_step=0.5,
    **meta,
):
    """One trial of an official workload that reaches its target at the third evaluation."""
    row = registry.official(workload, version)
    folder = root / submission / f"study_{study}" / f"{workload}_pytorch" / f"trial_{trial}"
    folder.mkdir(parents=True)
    steps = 1000 * np.arange(1, 5)
    target = row.validation_target
    far = target * (0.5 if row.direction == "max" else 2.0)
    columns = {
        "global_step": steps,
        "score": steps * seconds_per_step,
        f"validation/{row.metric}": [far, far, target, target],
    }
    pd.DataFrame(columns).to_csv(folder / "eval_measurements.csv", index=False)
    facts = {
        "workload.max_allowed_runtime_sec": row.max_runtime_seconds,
        "workload.eval_period_time_sec": row.eval_period_seconds,
        "workload.step_hint": row.step_hint,
        "workload.validation_target_value": target,
        **HARDWARE[version],
        **meta,
    }
    (folder / "meta_data_0.json").write_text(json.dumps(facts))
    if tuning is not None:
        (folder / "flags_0.json").write_text(json.dumps({"tuning_ruleset": tuning}))
    if point is not None:
        (folder / "hparams.json").write_text(json.dumps(dict(point)))


@pytest.mark.parametrize("version", ["v0.5", "v0.6", "v1.0"])
def test_the_version_and_the_ruleset_are_those_of_the_logs(tmp_path, version):
    for workload in ("fastmri", "wmt"):
        _write(tmp_path, "mine", workload, version)
    rules, note = choose_rules(read_logs(tmp_path))
    assert (rules.version, rules.name) == (version, "self_tuning")
    assert f"version {version}, by the budgets and periods of 2 of 2 trials" in note
    assert "ruleset self_tuning, by the flags of 2 of 2 trials" in note
    asked, note = choose_rules(read_logs(tmp_path), "v0.5", "external")
    assert (asked.version, asked.name, note) == ("v0.5", "external", "")


def test_budgets_that_two_versions_share_are_told_apart_by_the_gpus(tmp_path):
    """criteo1tb has the same facts in v0.5 and v0.6, mnist in all three."""
    _write(tmp_path, "mine", "mnist", "v1.0")
    assert choose_rules(read_logs(tmp_path))[0].version == "v1.0"
    _write(tmp_path, "other", "mnist", "v0.6")
    _write(tmp_path, "third", "mnist", "v0.6")
    assert choose_rules(read_logs(tmp_path))[0].version == "v0.6"


@pytest.mark.parametrize(
    ("trials", "point", "name", "note"),
    [
        (1, None, "self_tuning", "one trial per study and no hyperparameters: taken as self_tu"),
        (1, {"rate": 1.0}, "external", "one trial per study and logged hyperparameters: taken as"),
        (2, {"rate": 1.0}, "external", ""),
    ],
)
def test_a_ruleset_that_no_log_names_is_assumed_aloud(tmp_path, trials, point, name, note):
    for trial in range(1, trials + 1):
        _write(tmp_path, "mine", "wmt", "v1.0", trial=trial, tuning=None, point=point)
    rules, told = choose_rules(read_logs(tmp_path))
    assert rules.name == name
    assert note in told and ("ruleset" in told) == bool(note)


def _warnings(root, **settings):
    report = write_report(root, root / "report", resamples=2, **settings)
    table = pd.read_csv(root / "report" / "remarks.csv")
    remarks = table.loc[table["kind"] == "warning", "remark"].tolist()
    text = (root / "report" / "report.md").read_text()
    assert text.count("> **Warning:**") == len(remarks)
    assert report.judged.rules is not None
    return remarks


def test_clean_logs_have_no_warning(tmp_path):
    for study in range(3):
        _write(tmp_path, "mine", "wmt", "v1.0", study=study)
    assert _warnings(tmp_path) == []


@pytest.mark.parametrize(
    ("changes", "reasons"),
    [
        (
            {"gpu_model_name": "NVIDIA H100", "gpu_count": 8},
            [
                "hardware is mixed, so seconds cannot be compared: 2 trials of mine on 4 x A100",
                "8 x",
            ],
        ),
        (
            {"workload.max_allowed_runtime_sec": 43336, "workload.eval_period_time_sec": 840},
            ["workload wmt was run by v0.6's rules: budget 43336 s instead of 16114 s, eval"],
        ),
        (
            {"workload.max_allowed_runtime_sec": 99},
            ["by rules of no known version: budget 99 s instead of 16114 s (1 trials of odd)"],
        ),
        (
            {"workload.validation_target_value": 29.0},
            ["the target in the log is 29; judged by 30.8491 (1 trials of odd)"],
        ),
    ],
)
def test_runs_by_other_rules_or_elsewhere_are_warned_of(tmp_path, changes, reasons):
    for study in (0, 1):
        _write(tmp_path, "mine", "wmt", "v1.0", study=study)
    _write(tmp_path, "odd", "wmt", "v1.0", **changes)
    told = "\n".join(_warnings(tmp_path))
    for reason in reasons:
        assert reason in told


def test_other_hardware_shows_in_the_tables(tmp_path):
    _write(tmp_path, "mine", "wmt", "v1.0")
    _write(tmp_path, "odd", "wmt", "v1.0", gpu_model_name="NVIDIA H100", gpu_count=8)
    _warnings(tmp_path)
    for name in ("scores.csv", "time_to_target.csv"):
        table = pd.read_csv(tmp_path / "report" / name).set_index("submission")
        assert table.loc["mine", "hardware"] == "4 x A100-SXM4-40GB"
        assert table.loc["odd", "hardware"] == "8 x H100"


def test_a_slow_study_and_an_unscored_workload_are_warned_of(tmp_path):
    for study, pace in enumerate((0.5, 0.52, 1.1)):
        _write(tmp_path, "mine", "wmt", "v1.0", study=study, seconds_per_step=pace)
    _write(tmp_path, "mine", "wmt_glu_tanh", "v1.0")
    slow, unscored = sorted(_warnings(tmp_path), reverse=False)
    assert slow.startswith("mine: workload wmt, study 2 took 1.1 s a step, 2.16 times as long")
    assert unscored.startswith("workload wmt_glu_tanh is not scored, v1.0 does not count it")


def test_a_workload_that_the_version_lacks_is_left_out_aloud(tmp_path):
    for workload in ("finewebedu_lm", "wmt"):
        _write(tmp_path, "mine", workload, "v1.0")
    told = _warnings(tmp_path, version="v0.6")
    assert any("workload finewebedu_lm is not scored, v0.6 does not have it" in t for t in told)
    times = pd.read_csv(tmp_path / "report" / "time_to_target.csv")
    assert times["workload"].tolist() == ["wmt"]


def test_a_budget_that_all_logs_agree_on_is_the_one_of_ratios(tmp_path):
    for submission in ("adamw", "mine"):
        _write(tmp_path, submission, "wmt", "v1.0", **{"workload.max_allowed_runtime_sec": 20_000})
    report = write_report(tmp_path, tmp_path / "report", resamples=2)
    assert report.judged.rules.budget_seconds("wmt") == 30_000
    assert report.judged.rules.budget_seconds("ogbg") == 1.5 * 11_303


@pytest.mark.parametrize("version", ["v0.6", "v1.0"])
def test_the_published_runs_are_ranked_with_their_own_hardware_alone(tmp_path, version):
    other = {"v0.6": A100, "v1.0": V100}[version]
    _write(tmp_path, "mine", "wmt", version)
    settings = {"compare_published": True, "ruleset": "self_tuning"}
    write_report(tmp_path, tmp_path / "report", resamples=2, **settings)
    _write(tmp_path, "odd", "wmt", version, **other)
    with pytest.raises(UserError, match=r"--compare_published: the published runs of v\d\.\d were"):
        write_report(tmp_path, tmp_path / "report", resamples=2, **settings)


@pytest.mark.parametrize("text", ["[", "3"])
@pytest.mark.parametrize("name", ["meta_data_0.json", "flags_0.json"])
def test_a_damaged_file_of_facts_is_told_and_the_trial_used(tmp_path, name, text):
    _write(tmp_path, "mine", "wmt", "v1.0")
    folder = tmp_path / "mine" / "study_0" / "wmt_pytorch" / "trial_1"
    (folder / name).write_text(text)
    logs = read_logs(tmp_path)
    (problem,) = logs.problems
    assert problem.path == folder / name and "facts of the run unknown" in problem.reason
    assert len(logs.frame) == 4
    rules, note = choose_rules(logs)
    assert rules.version == "v1.0" and "the logs name no budget; taken as v1.0" in note


@pytest.mark.parametrize(("version", "note"), [(None, ""), ("v0.5", "only stand-in workloads")])
def test_stand_ins_have_their_own_rules(tmp_path, version, note):
    write_trial(tmp_path, "adamw", "mnist_vit", 0, 1, [0.5, 0.95])
    rules, told = choose_rules(read_logs(tmp_path), version)
    assert rules.version == "standin"
    assert told.startswith(note) and bool(told) == bool(note)
    # A score is over what was run, not over stand-ins that nobody asked for.
    assert rules.base_workloads == ("mnist_vit",)


def test_gpus_that_a_trial_was_given_are_counted_not_those_of_the_machine(tmp_path):
    """Two trials side by side on eight GPUs."""
    _write(tmp_path, "mine", "wmt", "v1.0", gpu_count=8)
    folder = tmp_path / "mine" / "study_0" / "wmt_pytorch" / "trial_1"
    (facts,) = read_logs(tmp_path).runs.values()
    assert facts.hardware == "8 x A100-SXM4-40GB"
    (folder / "launch_0.json").write_text(json.dumps({"gpus": 4}))
    (facts,) = read_logs(tmp_path).runs.values()
    assert (facts.hardware, facts.gpus) == ("4 x A100-SXM4-40GB", 4)
