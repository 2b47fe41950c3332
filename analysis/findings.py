"""What the numbers say, in sentences that are generated from them."""

import math

from analysis import style
from analysis.judgement import Judgement
from analysis.tables import mean_text
from analysis.texts import interval_text

_KINDS = {
    "faster": "faster",
    "slower": "slower",
    "unclear": "no clear difference",
    "alone": "reaches the target, which the baseline's median misses,",
    "missed": "misses the target, which the baseline's median reaches,",
    "neither": "both medians miss the target",
}


def overview(judged: Judgement) -> list[str]:
    """One finding per entry: its score, and on which workloads it is faster or slower.

    An entry is said to be faster or slower than the baseline on a workload only where the whole
    interval of the ratio of their times is on that side of 1, and all that the evaluation periods
    allow.

    Args:
      judged: the logs' judgement.
    """
    scores = judged.intervals.scores.set_index("submission")
    better = judged.intervals.better.set_index(["a", "b"])["probability"]
    lines = []
    for place, name in enumerate(judged.entries, start=1):
        row = scores.loc[name]
        score = interval_text(row["score"], row["ci_low"], row["ci_high"], digits=3)
        rank = f"score {score}, place {place} of {len(judged.entries)}"
        sentences = [f"**{style.label(name)}**: {rank}."]
        if judged.baseline is not None and name != judged.baseline:
            against = style.label(judged.baseline)
            groups = compare_times(judged, name)
            parts = [
                f"{text} on {len(groups[kind])} ({', '.join(groups[kind])})"
                for kind, text in _KINDS.items()
                if groups[kind]
            ]
            if parts:
                sentences.append(f"Against {against}: {'; '.join(parts)}.")
            mean = mean_text(judged, name)
            sentences.append(f"Geometric mean of the time ratios: {mean} workloads.")
            share = better.get((name, judged.baseline))
            if share is not None:
                sentences.append(f"Its score is above {against}'s in {share:.0%} of resamples.")
        lines.append(" ".join(sentences))
    return lines


def compare_times(judged: Judgement, name: str) -> dict[str, list[str]]:
    """Workloads by how an entry's time compares with the baseline's.

    Args:
      judged: the logs' judgement, with a baseline.
      name: the entry.

    Returns:
      `faster` and `slower` (the whole interval of the ratio is on that side of 1, and all that the
      evaluation periods allow), `unclear` (it is not, or there is none), `alone` (only the entry's
      median reaches the target), `missed` (only the baseline's does), `neither`; each with its
      workloads, in the order of `judged`.
    """
    groups: dict[str, list[str]] = {kind: [] for kind in _KINDS}
    cells = judged.cells.set_index(["submission", "workload"])["median_seconds"]
    rows = judged.intervals.ratios
    rows = rows[rows["submission"] == name].set_index("workload")
    for workload in judged.facts:
        if workload not in rows.index or (judged.baseline, workload) not in cells.index:
            continue
        row = rows.loc[workload]
        if math.isnan(row["ratio"]):
            kind = "alone" if math.isfinite(cells[name, workload]) else "neither"
        elif math.isinf(row["ratio"]):
            kind = "missed"
        elif row["ci_high"] < 1 and row["latest"] < 1:
            kind = "faster"
        else:
            kind = "slower" if row["ci_low"] > 1 and row["earliest"] > 1 else "unclear"
        groups[kind].append(workload)
    return groups
