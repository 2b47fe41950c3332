"""The figures of a report: time to target as bars, learning curves of every workload."""

from collections.abc import Mapping
from pathlib import Path

import pandas as pd

from analysis import bars, curves, scoring, style
from workloads.facts import WorkloadFacts


def draw(
    frame: pd.DataFrame,
    trials: pd.DataFrame,
    baseline: str,
    facts: Mapping[str, WorkloadFacts],
    directory: Path,
) -> list[Path]:
    """Draws and saves every figure, each as PNG and SVG.

    Args:
      frame: evaluations, as `analysis.logs.Logs.frame`.
      trials: as `analysis.scoring.score_trials` returns.
      baseline: the submission that bars are relative to; without its logs there are none.
      facts: of every workload in `frame`.
      directory: where the files go.
    """
    styles = style.entry_styles(sorted(set(trials["submission"])))
    paths: list[Path] = []
    if baseline in styles:
        figure = bars.time_to_target_bars(trials, baseline, styles)
        paths.extend(style.save(figure, directory, "time_to_target"))
    points = scoring.score_points(trials)
    best = points[points["best"]]
    for workload, row in sorted(facts.items()):
        figure = curves.learning_curves(
            frame[frame["workload"] == workload],
            best[best["workload"] == workload],
            row,
            styles,
        )
        paths.extend(style.save(figure, directory, f"learning_curves_{workload}"))
    return paths
