from pathlib import Path

import pandas as pd
import pytest

from analysis.checks import ruleset_problems
from analysis.logs import read_logs
from analysis.published import read_trials
from analysis.scoring import score_trials
from tests.analysis.made_up import write_trial
from workloads.rulesets import Ruleset, ruleset

RULES = ruleset("v0.6")
PERIOD = 840


def _trials(study: int, trial: int, **changes: object) -> dict[str, object]:
    """A trial on wmt as the rules of v0.6 have it, but for the changes."""
    row: dict[str, object] = {
        "submission": "a",
        "workload": "wmt",
        "framework": "jax",
        "study": study,
        "trial": trial,
        "reached": True,
        "evaluations": 30,
        "evaluation": 20,
        "evaluation_period": PERIOD + 1,
        "steps": 50_000.0,
        "seconds": 20_000.0,
        "cpu_seconds": float("nan"),
        "earliest_steps": 49_000.0,
        "earliest_seconds": 19_000.0,
        "last_step": 60_000,
        "last_seconds": 25_000.0,
        "steady_seconds_per_step": 0.4,
        "hyperparameters": "",
        "finished": True,
    }
    return {**row, **changes}


def _said(rows: list[dict[str, object]], rules: Ruleset = RULES) -> list[str]:
    problems = ruleset_problems(pd.DataFrame(rows), rules, Path("logs"))
    return [str(problem) for problem in problems if "no runs on" not in problem.reason]


FULL = [(study, trial) for study in range(3) for trial in range(1, 6)]


def test_runs_by_the_rules_raise_nothing() -> None:
    assert _said([_trials(*place) for place in FULL]) == []


@pytest.mark.parametrize(
    ("changed", "reason"),
    [
        ({"framework": "pytorch"}, "trials of jax and pytorch are counted together"),
        ({"seconds": 43_400.0}, "1 trials reach the target after the 43336 s of the budget"),
        (
            {"seconds": 19_000.0, "evaluation": 21},
            (
                "the trial with the earliest evaluation, which the official code takes, is not the "
                "fastest in study 0 (up to 5.26% slower)"
            ),
        ),
    ],
)
def test_one_odd_trial_is_told(changed: dict[str, object], reason: str) -> None:
    rows = [_trials(*place, **(changed if place == (0, 1) else {})) for place in FULL]
    assert _said(rows) == [f"logs: a: workload wmt: {reason}"]


def test_reasons_of_one_workload_share_a_line() -> None:
    rows = [_trials(*place, evaluation_period=3000.0) for place in FULL if place[0] < 2]
    (said,) = _said(rows[1:])
    assert said == (
        "logs: a: workload wmt: 2 of 3 studies; not 5 trials but 4 in study 0; evaluated every "
        "3000 s instead of 840 s, so its times to target are upper bounds by up to as much"
    )


def test_workloads_without_runs_are_told_once() -> None:
    v05 = ruleset("v0.5")
    rows = [_trials(*place) for place in FULL]
    rows += [_trials(*place, submission="b", workload="wmt_glu_tanh") for place in FULL]
    problems = [str(row) for row in ruleset_problems(pd.DataFrame(rows), v05, Path("logs"))]
    bases = [name for name in v05.base_workloads if name != "wmt"]
    assert problems[:2] == [
        f"logs: a: no runs on {', '.join([*bases, 'wmt_glu_tanh'])}; counted as missed",
        f"logs: b: no runs on {', '.join([*bases, 'wmt'])}; counted as missed",
    ]
    assert "logs: nobody has run ogbg_model_size; its rule for held-out workloads is not " in str(
        problems
    )


def test_problems_name_the_submissions_folder(tmp_path: Path) -> None:
    write_trial(tmp_path, "adamw", "mnist_vit", 0, 1, [0.5, 0.95])
    trials = score_trials(read_logs(tmp_path).frame)
    problems = ruleset_problems(trials, ruleset("standin"), tmp_path)
    assert {problem.path for problem in problems} == {tmp_path / "adamw"}


def test_what_is_odd_about_the_published_runs_is_found() -> None:
    found = {
        problem.reason
        for problem in ruleset_problems(read_trials("v0.5"), ruleset("v0.5"), Path("v05"))
    }
    assert (
        "baseline: workload criteo1tb: evaluated every 1200 s instead of 120 s, so its times to "
        "target are upper bounds by up to as much"
    ) in found
    assert (
        "lawa_ema: workload librispeech_deepspeech: 3 of 5 studies; not 5 trials but 1 in study 0, "
        "1 in study 1, 2 in study 2"
    ) in found
    assert (
        "caspr_adaptive: no runs on criteo1tb, criteo1tb_embed_init, wmt_glu_tanh; counted as "
        "missed"
    ) in found
    assert len(found) < 30
