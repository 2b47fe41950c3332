"""Trials that `--max_steps` ended: they miss no target, they were not let run to it."""

from collections.abc import Mapping
from pathlib import Path

import pandas as pd

from analysis.evaluations import Problem
from analysis.run_facts import listed
from analysis.scoring import CELL_KEYS
from analysis.texts import CUT, span_text
from workloads.facts import WorkloadFacts


def cut_texts(
    trials: pd.DataFrame, facts: Mapping[str, WorkloadFacts]
) -> dict[tuple[str, str], str]:
    """Where the trials of a cell were cut, by submission and workload; only those that were.

    Args:
      trials: as `analysis.scoring.score_trials` returns.
      facts: of every workload in them.
    """
    texts = {}
    for (submission, workload), rows in trials[trials["cut"]].groupby(CELL_KEYS):
        step = span_text(rows["last_step"])
        hint = facts[str(workload)].step_hint
        texts[str(submission), str(workload)] = f"{CUT} at {step} of {hint:,} steps"
    return texts


def cut_problems(
    trials: pd.DataFrame, facts: Mapping[str, WorkloadFacts], directory: Path
) -> list[Problem]:
    """A warning per submission and workload that names the trials that were cut short.

    Args:
      trials, facts: as `cut_texts` takes them.
      directory: the folder or table of logs.
    """
    problems = []
    counts = trials.groupby(CELL_KEYS).size()
    for (submission, workload), text in cut_texts(trials, facts).items():
        of_cell = (trials["submission"] == submission) & (trials["workload"] == workload)
        cut = trials[of_cell & trials["cut"]]
        names = [f"study {row.study} trial {row.trial}" for row in cut.itertuples()]
        reason = (
            f"{submission}: workload {workload}: cut short, {len(cut)} of "
            f"{counts[submission, workload]} trials were {text} by --max_steps, before the target, "
            f"and are scored as if they had missed it: {listed(names, 6)}"
        )
        folder = directory / submission
        problems.append(Problem(folder if folder.is_dir() else directory, reason, is_warning=True))
    return problems
