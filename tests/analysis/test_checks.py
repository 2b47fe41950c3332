import itertools
from pathlib import Path

import pandas as pd
import pytest

from analysis.checks import ruleset_problems, smaller_plan
from analysis.logs import read_logs
from analysis.published import read_trials
from analysis.scoring import score_trials
from tests.analysis.made_up import write_trial
from workloads.rulesets import ruleset

RULES = ruleset("v0.6")
FULL = [(study, trial) for study in range(3) for trial in range(1, 6)]
TRIAL = {
    "submission": "a",
    "workload": "wmt",
    "framework": "jax",
    "reached": True,
    "evaluations": 30,
    "evaluation": 20,
    "evaluation_period": 841,
    "steps": 50_000.0,
    "seconds": 20_000.0,
    "earliest_seconds": 19_000.0,
    "last_step": 60_000,
    "last_seconds": 25_000.0,
    "steady_seconds_per_step": 0.4,
    "hyperparameters": "",
    "finished": True,
    "cut": False,
}


def _trials(study, trial, **changes):
    """A trial on wmt as the rules of v0.6 have it, but for the changes."""
    return {**TRIAL, "study": study, "trial": trial, **changes}


def _problems(rows):
    problems = ruleset_problems(pd.DataFrame(rows), RULES, Path("logs"))
    return [str(problem) for problem in problems if "no runs on" not in problem.reason]


@pytest.mark.parametrize(
    ("changed", "reason"),
    [
        ({}, None),
        ({"framework": "pytorch"}, "trials of jax and pytorch are counted together"),
        ({"seconds": 43_400.0}, "1 trials reach the target after the 43336 s"),
        ({"seconds": 19_000.0, "evaluation": 21}, "fastest in study 0 (up to 5.26% slower)"),
    ],
)
def test_one_odd_trial_is_told(changed, reason):
    rows = [_trials(*place, **(changed if place == (0, 1) else {})) for place in FULL]
    problems = _problems(rows)
    assert len(problems) == (reason is not None)
    for problem in problems:
        assert problem.startswith("logs: a: workload wmt: ") and str(reason) in problem


def test_reasons_of_one_workload_share_a_line():
    rows = [_trials(*place, evaluation_period=3000.0) for place in FULL if place[0] < 2]
    (problem,) = _problems(rows[1:])
    for part in ("2 of 3 studies", "4 in study 0", "every 3000 s instead of 840 s"):
        assert part in problem


def test_workloads_without_runs_are_told_once():
    v05 = ruleset("v0.5")
    rows = [_trials(*place) for place in FULL]
    rows += [_trials(*place, submission="b", workload="wmt_glu_tanh") for place in FULL]
    problems = [str(row) for row in ruleset_problems(pd.DataFrame(rows), v05, Path("logs"))]
    bases = [name for name in v05.base_workloads if name != "wmt"]
    assert problems[:2] == [
        f"logs: a: no runs on {', '.join([*bases, 'wmt_glu_tanh'])}; counted as missed",
        f"logs: b: no runs on {', '.join(v05.base_workloads)}; counted as missed",
    ]
    unrun = [problem for problem in problems if "nobody has run" in problem]
    assert len(unrun) == 5 and not any("wmt" in problem for problem in unrun)


def _planned(root, entries, studies):
    """Stand-ins with so many points per entry, and their rules."""
    for entry, points in entries.items():
        for study, trial in itertools.product(range(studies), range(1, points + 1)):
            write_trial(root, entry, "mnist_vit", study, trial, [0.95])
    return score_trials(read_logs(root).frame), ruleset("standin")


@pytest.mark.parametrize(("points", "studies"), [(1, 3), (5, 1), (2, 2)])
def test_a_smaller_plan_that_all_share_is_no_problem(tmp_path, points, studies):
    trials, rules = _planned(tmp_path, {"adamw": points, "shampoo": points}, studies)
    assert smaller_plan(trials, rules) == (points, studies)
    problems = [row.reason for row in ruleset_problems(trials, rules, tmp_path)]
    assert not any("workload mnist_vit" in reason for reason in problems)


def test_a_plan_by_the_rules_is_not_smaller(tmp_path):
    assert smaller_plan(*_planned(tmp_path, {"adamw": 5}, 3)) is None


def test_entries_with_unequal_plans_are_told(tmp_path):
    trials, rules = _planned(tmp_path, {"adamw": 1, "shampoo": 2}, 3)
    assert smaller_plan(trials, rules) is None
    reasons = [row.reason for row in ruleset_problems(trials, rules, tmp_path)]
    assert sum("workload mnist_vit: not 5 trials but" in reason for reason in reasons) == 2


def test_official_logs_have_no_smaller_plan():
    assert smaller_plan(pd.DataFrame([_trials(0, 1)]), RULES) is None


def test_problems_name_the_submissions_folder(tmp_path):
    for trial in (1, 2):
        write_trial(tmp_path, "adamw", "mnist_vit", 0, trial, [0.95])
    write_trial(tmp_path, "adamw", "mnist_vit", 1, 1, [0.95])
    trials = score_trials(read_logs(tmp_path).frame)
    paths = {row.path for row in ruleset_problems(trials, ruleset("standin"), tmp_path)}
    assert paths == {tmp_path / "adamw"}


def test_known_oddities_of_the_leaderboard_are_told():
    problems = ruleset_problems(read_trials("v0.5"), ruleset("v0.5"), Path("v05"))
    reasons = {problem.reason for problem in problems}
    for name, part in (
        ("baseline: workload criteo1tb", "evaluated every 1200 s instead of 120 s"),
        ("lawa_ema: workload librispeech_deepspeech", "3 of 5 studies"),
        ("caspr_adaptive", "no runs on criteo1tb, criteo1tb_embed_init, wmt_glu_tanh"),
    ):
        assert any(reason.startswith(f"{name}: {part}") for reason in reasons)
    assert len(reasons) < 30
