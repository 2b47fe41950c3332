"""Trials that `--max_steps` ended: they miss no target, they were not let run to it."""

from collections.abc import Mapping
from pathlib import Path

import pandas as pd

from analysis.evaluations import Problem
from analysis.texts import CUT, span_text
from workloads.facts import WorkloadFacts

_KEYS = ["submission", "workload"]
# Trials that a sentence names.
_NAMED = 6


def cut_texts(
    trials: pd.DataFrame, facts: Mapping[str, WorkloadFacts]
) -> dict[tuple[str, str], str]:
    """Where the trials of a cell were cut, by submission and workload; only those that were.

    Args:
      trials: as `analysis.scoring.score_trials` returns.
      facts: of every workload in them.
    """
    texts = {}
    for (submission, workload), rows in trials[trials["cut"]].groupby(_KEYS):
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
    texts = cut_texts(trials, facts)
    for (submission, workload), rows in trials.groupby(_KEYS):
        cut = rows[rows["cut"]]
        if cut.empty:
            continue
        names = [f"study {row.study} trial {row.trial}" for row in cut.itertuples()]
        named = ", ".join(names[:_NAMED])
        more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
        text = texts[str(submission), str(workload)]
        reason = (
            f"{submission}: workload {workload}: cut short, {len(cut)} of {len(rows)} trials were "
            f"{text} by --max_steps, before the target, and are scored as if they had missed it: "
            f"{named}{more}"
        )
        folder = directory / str(submission)
        problems.append(Problem(folder if folder.is_dir() else directory, reason, is_warning=True))
    return problems
