"""What AlgoPerf v1.0's published runs, on 4 A100, say of our entries' time, before any of ours.

Measured are other submissions' seconds per step and, in v0.5 on 8 V100, the steps that the
winner's points took. Their product is an estimate of what those points would take on A100.
"""

import functools
from collections.abc import Iterable, Mapping

import numpy as np
import pandas as pd

from analysis import entry_plans, published
from analysis.texts import met_text
from common import documents
from submission.algoperf_api.batch_sizes import get_batch_size, get_shampoo_batch_size
from submission.entries.shampoo_self_tuning.point import POINT
from workloads import registry
from workloads.rulesets import ruleset

VERSION = "v1.0"
SELF_TUNING = ruleset(VERSION, "self_tuning")
_EXTERNAL = ruleset(VERSION, "external")
_WINNER = "shampoo_submission"
# Of fastMRI and both LibriSpeech workloads, their batches are not the baselines' (get_batch_size in
# their submission.py, branch a100_scoring of mlcommons/submissions_algorithms).
_OTHER_BATCHES = ("schedule_free_adamw", "schedule_free_adamw_v2")
# As in their submission.py there: learning rate, 1 - beta1, 1 - beta2, weight decay, warm-up as a
# share of the hint, label smoothing. Rates decay by a cosine to the hint's end, or schedule-free.
# Where an entry reads its smoothing from hyperparameters, which the ruleset has none of, it is 0.
_SETTINGS = {
    "nadamw_baselinev05": (0.00174864, 0.0673393, 0.00448403, 0.0812162, 0.02, 0.0),
    "nadamw_resnet": (0.00412654, 0.0078031, 0.00339453, 0.0537181, 0.05, 0.0),
    "nadamw": (0.00190835, 0.0909065, 0.00110168, 0.0812162, 0.1, 0.0),
    "cautious_nadamw": (0.00174864, 0.0673393, 0.00448403, 0.0812162, 0.02, 0.0),
    "ademamix": (0.002, 0.2, 0.005, 0.1, 0.02, 0.0),
    "schedule_free_adamw_jax": (0.0025, 0.1, 0.00448403, 0.0812162, 0.015, 0.0),
    "schedule_free_adamw_jax_v2": (0.0025, 0.1, 0.00448403, 0.0812162, 0.015, 0.0),
    "schedule_free_adamw": (0.0025, 0.1, 0.00448403, 0.0812162, 0.015, 0.2),
    "schedule_free_adamw_v2": (0.0025, 0.1, 0.00448403, 0.0812162, 0.015, 0.2),
}
LANGUAGE_MODEL = "finewebedu_lm"


@functools.cache
def seconds_per_step() -> pd.DataFrame:
    """Steady seconds per step on 4 A100: a row per submission, a column per workload.

    Of PyTorch submissions with the baselines' batch sizes, each the median over its studies, which
    one slow study of three does not move.
    """
    trials = published.read_trials(VERSION, "self_tuning")
    same = (trials["framework"] == "pytorch") & ~trials["submission"].isin(_OTHER_BATCHES)
    trials = trials[same]
    pace = trials["steady_seconds_per_step"].replace(0, np.nan)
    medians = pace.groupby([trials["submission"], trials["workload"]]).median()
    return medians.unstack("workload")


def estimate(workload: str) -> float:
    """Seconds per step that our entry is expected to take on 4 A100.

    The median over submissions, which two slow ones of six do not move, times our batch size over
    theirs; and what our step takes longer than AdamW's, as modelled.
    """
    share = get_shampoo_batch_size(workload) / get_batch_size(workload)
    measured = float(seconds_per_step()[workload].median())
    return measured * share + entry_plans.added_seconds(workload)


def steps_in_time(workload: str, budget_factor: float) -> float:
    """Steps until a schedule of this `budget_factor` has ended, at `estimate`'s pace."""
    return budget_factor * _EXTERNAL.budget_seconds(workload) / estimate(workload)


def pace_table() -> str:
    """Measured and estimated seconds per step, and the share of the hint until schedules end."""
    external = max(point.budget_factor for point in entry_plans.external_points())
    own, rows = POINT.budget_factor, []
    for workload in _EXTERNAL.base_workloads:
        measured = seconds_per_step()[workload].dropna()
        hint = registry.facts(workload, VERSION).step_hint
        batches = f"{get_shampoo_batch_size(workload)}"
        if get_shampoo_batch_size(workload) != get_batch_size(workload):
            batches += f" ({get_batch_size(workload)})"
        rows.append(
            {
                "workload": workload,
                "budget, s": f"{_EXTERNAL.budget_seconds(workload):,.0f}",
                "measured s per step": (
                    f"{measured.median():.3f} ({measured.min():.3f} to {measured.max():.3f})"
                ),
                "our batch (theirs)": batches,
                "Shampoo's, modelled": f"+{entry_plans.added_seconds(workload):.3f}",
                "estimate": f"{estimate(workload):.3f}",
                "external: of hint": f"{steps_in_time(workload, external) / hint:.2f}",
                "self-tuning: of hint": f"{steps_in_time(workload, own) / hint:.2f}",
            }
        )
    return documents.table(rows)


def shares_of_budget() -> pd.DataFrame:
    """Of each v0.5 study in which a point of the winner met a target, what it would take on A100.

    Returns:
      A row per base workload, point and study of the winner's v0.5 runs: `workload`, `trial`,
      `share`: its steps at `estimate`'s pace as a share of v1.0's external budget, infinite where
      it missed the target.
    """
    trials = published.read_trials("v0.5")
    is_base = trials["workload"].isin(ruleset("v0.5").base_workloads)
    trials = trials[is_base & (trials["submission"] == _WINNER)]
    seconds = trials["steps"] * trials["workload"].map(estimate)
    shares = seconds / trials["workload"].map(_EXTERNAL.budget_seconds)
    return trials[["workload", "trial"]].assign(share=shares)


def in_time_table() -> str:
    """By workload and point, the studies in time, and the median share of the external budget.

    A cell: studies of v0.5 in which the winner's point met the target within steps that there is
    time for under external tuning, and under self-tuning where that is more; and when.
    """
    shares = shares_of_budget()
    factor = SELF_TUNING.budget_seconds("wmt") / _EXTERNAL.budget_seconds("wmt")
    rows = []
    for workload, of_workload in shares.groupby("workload", sort=False):
        cells = {"workload": str(workload)}
        for point, runs in of_workload.groupby("trial"):
            cells[f"point {point}"] = _counted(runs["share"], factor)
        rows.append(cells)
    totals = {
        f"point {point}": f"{(runs['share'] <= 1).sum()}, {(runs['share'] <= factor).sum()}"
        for point, runs in shares.groupby("trial")
    }
    return documents.table([*rows, {"workload": "all, external and self-tuning", **totals}])


def _counted(shares: Iterable[float], factor: float) -> str:
    listed = np.array(list(shares))
    met = listed[np.isfinite(listed)]
    if not len(met):
        return "–"
    external, longer = (met <= 1).sum(), (met <= factor).sum()
    counts = f"{external}" if external == longer else f"{external}, {longer}"
    return f"{counts} of {len(listed)}, at {np.median(met):.2f}"


def met_table(
    trials: pd.DataFrame, version: str, workloads: Iterable[str], columns: Mapping[str, pd.Series]
) -> str:
    """By workload: studies that met the target, and the median step as a share of the step hint.

    Args:
      trials: of a published track of the version.
      workloads: the rows.
      columns: by heading, which of the trials a column is of.
    """
    rows = []
    for workload in workloads:
        hint = registry.facts(workload, version).step_hint
        cells = {"workload": workload}
        for heading, chosen in columns.items():
            runs = trials[chosen & (trials["workload"] == workload)]
            cells[heading] = met_text(list(runs["steps"][runs["reached"]]), len(runs), hint)
        rows.append(cells)
    return documents.table(rows)


def nadamw_table() -> str:
    """Of v1.0's submissions with NAdamW, by workload: studies that met the target, and when."""
    trials = published.read_trials(VERSION, "self_tuning")
    names = [name for name in _SETTINGS if "nadamw" in name]
    columns = {f"`{name}`": trials["submission"] == name for name in names}
    return met_table(trials, VERSION, SELF_TUNING.base_workloads, columns)


def language_model_table() -> str:
    """Adam's relatives on the language model: their settings, studies and steps to the target."""
    trials = published.read_trials(VERSION, "self_tuning")
    trials = trials[trials["workload"] == LANGUAGE_MODEL]
    hint = registry.facts(LANGUAGE_MODEL, VERSION).step_hint
    rows = []
    for name, (rate, beta1, beta2, decay, warmup, smoothing) in _SETTINGS.items():
        runs = trials[trials["submission"] == name]
        steps = runs["steps"][runs["reached"]]
        rows.append(
            {
                "submission": f"`{name}`",
                "learning rate": f"{rate:.5g}",
                "1 − β₁": f"{beta1:.3g}",
                "1 − β₂": f"{beta2:.3g}",
                "decay": f"{decay:.3g}",
                "warm-up": f"{warmup:g}",
                "smoothing": f"{smoothing:g}",
                "met": f"{len(steps)} of {len(runs)}",
                "steps": f"{steps.median():,.0f}" if len(steps) else "–",
                "of hint": f"{steps.median() / hint:.2f}" if len(steps) else "–",
            }
        )
    return documents.table(rows)
