"""How much a result depends on the hyperparameters, from a quasi-random search's table."""

import io
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator
from scipy import stats

from analysis import panels, style
from analysis.scoring import score_studies
from analysis.style import FAINT, INK, EntryStyle
from common import files
from common.cli import UserError
from workloads import registry

_REQUIRED = ("workload", "entry", "trial", "best_validation", "steps_to_target")
# Everything else in the table is a hyperparameter.
_MEASURED = (*_REQUIRED, "best_step", "steps", "seconds")
_DRAWS = 2000


def read_search(path: Path) -> pd.DataFrame:
    """A table of `scripts.tune`: a row per workload, entry and point, all entries at the same.

    Returns:
      The table with gap (by how much best_validation misses the validation target, as a share of
      the target; negative where it is better, inf where nothing was measured) and loss (what points
      are ranked by: -1 / steps_to_target where it was reached, where trials stop, else the gap).

    Raises:
      UserError: the table cannot be read, lacks columns, or names an unknown workload.
    """
    try:
        table = pd.read_csv(io.BytesIO(files.read_bytes(path)))
    except ValueError as error:
        raise UserError(f"cannot read {path}: {error}") from error
    missing = [name for name in _REQUIRED if name not in table]
    if missing:
        raise UserError(f"{path}: missing columns {', '.join(missing)}")
    for name in ("best_validation", "steps_to_target"):
        if table[name].dtype.kind not in "if":
            raise UserError(f"{path}: {name} is not always a number")
    facts = {name: registry.facts(name) for name in table["workload"].unique()}
    target = table["workload"].map({name: row.validation_target for name, row in facts.items()})
    signs = {name: -1 if row.direction == "max" else 1 for name, row in facts.items()}
    gap = table["workload"].map(signs) * (table["best_validation"] - target) / target
    gap = gap.fillna(np.inf)
    steps = table["steps_to_target"]
    return table.assign(gap=gap, loss=gap.where(steps.isna(), -1 / steps))


def hyperparameters(search: pd.DataFrame) -> list[str]:
    """The searched ones: numeric columns that take several values."""
    names = [name for name in search if name not in (*_MEASURED, "gap", "loss")]
    numeric = search[names].select_dtypes("number")
    return [str(name) for name in numeric if numeric[name].nunique() > 1]


def reach_counts(search: pd.DataFrame) -> pd.DataFrame:
    """Of each entry: points (over all workloads), reached (how many of them met the target)."""
    groups = search.groupby("entry", as_index=False)
    return groups.agg(points=("trial", "size"), reached=("steps_to_target", "count"))


def paired_wins(search: pd.DataFrame, first: str, second: str) -> tuple[int, int, int]:
    """Of points that both ran: how many are better under `first`, under `second`, and alike."""
    losses = search.pivot(index=["workload", "trial"], columns="entry", values="loss")
    pair = losses[[first, second]].dropna()
    better, worse = int((pair[first] < pair[second]).sum()), int((pair[first] > pair[second]).sum())
    return better, worse, len(pair) - better - worse


def points_won(trials: pd.DataFrame) -> pd.DataFrame:
    """In how many studies each of an entry's points is the best of its study.

    Args:
      trials: as `analysis.scoring.score_trials` returns.

    Returns:
      workload, submission, point 1 ... (the studies it won), missed (studies without the target).
    """
    keys = ["workload", "submission"]
    studies = score_studies(trials)
    won = studies[studies["reached"]].groupby([*keys, "trial"]).size().unstack("trial")
    missed = studies.assign(missed=~studies["reached"]).groupby(keys)["missed"].sum()
    won = won.reindex(missed.index).fillna(0).astype(int)
    won.columns = [f"point {trial}" for trial in won.columns]
    return won.assign(missed=missed).reset_index()


def rank_correlations(search: pd.DataFrame) -> pd.DataFrame:
    """Spearman's rank correlation of each hyperparameter with the loss, averaged over workloads.

    Args:
      search: as `read_search` returns.

    Returns:
      entry, hyperparameter, correlation (positive where larger values are worse), threshold (what
      chance alone, by _DRAWS random orders of the points, exceeds in one case of twenty, either
      way). With few points a large correlation
      is weak evidence, and with many hyperparameters some exceed the threshold by chance.
    """
    generator = np.random.default_rng(0)
    rows = []
    for entry, trials in search.groupby("entry"):
        for name in hyperparameters(search):
            correlations, chance = [], []
            for _, points in trials.groupby("workload"):
                points = points[[name, "loss"]].dropna()
                if len(points) < 3 or points.nunique().min() < 2:
                    continue
                value, loss = points.rank().to_numpy().T
                correlations.append(np.corrcoef(value, loss)[0, 1])
                order = generator.permuted(np.tile(loss, (_DRAWS, 1)), axis=1)
                chance.append(stats.pearsonr(order, value[None], axis=1).statistic)
            if correlations:
                limit = float(np.quantile(np.abs(np.mean(chance, axis=0)), 0.95))
                rows.append((entry, name, float(np.mean(correlations)), limit))
    return pd.DataFrame(rows, columns=["entry", "hyperparameter", "correlation", "threshold"])


def search_figure(search: pd.DataFrame, styles: Mapping[str, EntryStyle]) -> Figure:
    """The same points under every entry: by how much each misses, a panel per workload.

    Args:
      search: as `read_search` returns.
      styles: of every entry in it.
    """
    workloads = list(dict.fromkeys(search["workload"]))
    marker: dict[str, Any] = {"markersize": 4, "linewidth": 1.2}
    columns = min(3, len(workloads))
    with style.context(**{"font.size": 8}):
        rows_of_panels = math.ceil(len(workloads) / columns)
        figure = panels.new_figure(2.5 * columns + 0.3, 2.3 * rows_of_panels + 0.6)
        made = panels.grid(figure, len(workloads), columns, share_x=False, share_y=False)
        for axes, workload in zip(made, workloads, strict=True):
            rows = search[search["workload"] == workload]
            order = rows.drop_duplicates("trial").sort_values("learning_rate")["trial"].to_list()
            for entry, look in styles.items():
                gaps = rows[rows["entry"] == entry].set_index("trial")["gap"].reindex(order)
                line = {"color": look.color, "linestyle": look.line, "marker": look.marker}
                axes.plot(range(len(order)), 100 * gaps, clip_on=False, **(line | marker))
            axes.axhline(0, color=INK, linewidth=0.9, zorder=1.6)
            axes.set_yscale("symlog", linthresh=1)
            axes.yaxis.set_major_locator(FixedLocator([-10, -1, 0, 1, 10, 100]))
            axes.yaxis.set_minor_locator(NullLocator())
            axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
            axes.set_xticks(range(len(order)), [str(trial) for trial in order])
            axes.grid(axis="y", color=FAINT, linewidth=0.6)
            axes.set_title(workload, loc="left", fontsize=8)
        made[0].set_ylabel("miss of the target, %")
        handles = [
            Line2D([], [], color=look.color, linestyle=look.line, marker=look.marker, markersize=4,
                   label=look.label)
            for look in styles.values()
        ]  # fmt: skip
        handles.append(Line2D([], [], color=INK, linewidth=0.9, label="target, where trials stop"))
        panels.legend_below(figure, handles, 4, "point, by learning rate (lowest first)")
    return figure
