"""What an optimizer's step costs by itself, from the JSON of `scripts.benchmark.step`."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

from analysis import panels, style
from analysis.style import FAINT, INK, MUTED
from common import files
from common.cli import UserError

BASELINE = "adamw"
# How the names of this repository's optimizers start in the benchmark's files.
HOUSE = "ours_"
INTERVALS = (1, 10, 100)
_PLACES = ("median", "p95", "p99", "max")
_ORIGINS = {"ours": "ours", "meta": "Meta", "po": "pytorch-optimizer", "hb": "heavyball"}
_METHODS = {"shampoo": "Shampoo", "soap": "SOAP", "kl_shampoo": "KL-Shampoo", "dash": "DASH"}
_HOUSE_COLOR, _RIVAL_COLOR = "#D55E00", "#4F6D8C"


def read_step_costs(paths: Sequence[Path]) -> pd.DataFrame:
    """The costs in every file, but of optimizers that failed.

    Args:
      paths: JSON files with networks by name, each with `rows` of optimizers.

    Returns:
      One row per file, network and optimizer: source (the file's path as given), network,
      parameters, device, threads, optimizer, plain (ms of a step without a refresh), refresh (ms of
      one that refreshes everything, NaN where there are none), at_1, at_10, at_100 (ms per step at
      that refresh interval), state_bytes; and the same of AdamW in that file's network as
      adamw_at_1 and so on, adamw_state_bytes (NaN where it was not timed).

    Raises:
      UserError: a file cannot be read, or is of another kind.
    """
    rows: list[dict[str, Any]] = []
    for path in paths:
        networks = files.read_json(path)
        try:
            rows.extend(
                {"source": str(path), "network": network, **_numbers(measured, row)}
                for network, measured in networks.items()
                for row in measured["rows"]
                if not row["failure"]
            )
        except (AttributeError, KeyError, TypeError) as error:
            raise UserError(f"{path} holds no costs of steps: {error!r}") from error
    table = pd.DataFrame(rows)
    base = table[table["optimizer"] == BASELINE].set_index(["source", "network"])
    keys = pd.MultiIndex.from_frame(table[["source", "network"]])
    for name in (*(f"at_{interval}" for interval in INTERVALS), "state_bytes"):
        table[f"{BASELINE}_{name}"] = base[name].reindex(keys).to_numpy()
    return table


def _numbers(measured: Mapping[str, Any], row: Mapping[str, Any]) -> dict[str, Any]:
    millis = row["milliseconds"]
    return {
        "parameters": measured["parameters"],
        "device": measured["settings"]["device"],
        "threads": measured["settings"]["threads"] or 0,
        "optimizer": row["optimizer"],
        "plain": millis["plain"],
        "refresh": math.nan if millis["refresh"] is None else millis["refresh"],
        **{f"at_{interval}": millis["amortised"][str(interval)] for interval in INTERVALS},
        "state_bytes": row["state_bytes"],
    }


def label(optimizer: str) -> str:
    """An optimizer of the benchmark as people write it, or as it is called there.

    >>> label("meta_shampoo"), label("po_soap"), label("muon")
    ('Shampoo (Meta)', 'SOAP (pytorch-optimizer)', 'muon')
    """
    origin, _, method = optimizer.partition("_")
    if origin not in _ORIGINS or not method:
        return optimizer
    return f"{_METHODS.get(method, method)} ({_ORIGINS[origin]})"


def cheaper(table: pd.DataFrame, optimizer: str, column: str) -> pd.DataFrame:
    """How an optimizer's cost compares with the others' that precondition, in the same run.

    Args:
      table: as `read_step_costs` returns.
      optimizer: the one.
      column: `plain`, `refresh`, an `at_...` or `state_bytes`.

    Returns:
      source, network, optimizer (the other), factor (its cost / the one's; above 1 where the one is
      cheaper). Without AdamW, and without the house's other optimizers.
    """
    one = table[table["optimizer"] == optimizer].set_index(["source", "network"])[column]
    rivals = table[~table["optimizer"].str.startswith(HOUSE) & (table["optimizer"] != BASELINE)]
    keys = pd.MultiIndex.from_frame(rivals[["source", "network"]])
    factor = rivals[column].to_numpy() / one.reindex(keys).to_numpy()
    return rivals[["source", "network", "optimizer"]].assign(factor=factor).dropna()


def cost_figure(table: pd.DataFrame) -> Figure:
    """A panel per network: each optimizer's ms per step at every interval, over AdamW's.

    Args:
      table: one file's rows of `read_step_costs`.
    """
    networks = list(dict.fromkeys(table["network"]))
    names = [name for name in dict.fromkeys(table["optimizer"]) if name != BASELINE]
    columns = min(4, len(networks))
    rows_of_panels = math.ceil(len(networks) / columns)
    with style.context(**{"font.size": 8}):
        height = (0.2 * len(names) + 0.65) * rows_of_panels + 0.6
        figure = panels.new_figure(1.75 * columns + 1.8, height)
        made = panels.grid(figure, len(networks), columns)
        for axes, network in zip(made, networks, strict=True):
            rows = table[table["network"] == network].set_index("optimizer")
            panels.name_rows(axes, list(map(label, names)))
            for place, name in enumerate(names):
                if name in rows.index:
                    _draw_costs(axes, place, rows.loc[name], name)
                else:
                    axes.text(0.03, place, "not timed", transform=axes.get_yaxis_transform(),
                              va="center", fontsize=7, color=MUTED)  # fmt: skip
            axes.set_xscale("log")
            axes.xaxis.set_major_locator(LogLocator(subs=(1, 3), numticks=8))
            axes.xaxis.set_minor_locator(NullLocator())
            axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
            axes.grid(axis="x", color=FAINT, linewidth=0.6)
            millions = rows["parameters"].iloc[0] / 1e6
            panels.write_title(axes, network, f"{millions:,.1f} M parameters")
        handles = [
            Line2D([], [], linestyle="none", markersize=5, label=text, **_mark(INK, interval))
            for interval, text in zip(
                reversed(INTERVALS),
                ("refresh every 100 steps", "every 10", "every step"),
                strict=True,
            )
        ]
        title = "optimizer's ms per step / AdamW's (log scale)"
        panels.legend_below(figure, handles, 3, title)
    return figure


def _mark(color: str, interval: int) -> dict[str, Any]:
    marker, face = {1: ("o", color), 10: ("|", color), 100: ("o", "white")}[interval]
    return {"marker": marker, "markerfacecolor": face, "markeredgecolor": color}


def _draw_costs(axes: Any, place: int, row: pd.Series, name: str) -> None:
    color = _HOUSE_COLOR if name.startswith(HOUSE) else _RIVAL_COLOR
    ratios = [row[f"at_{interval}"] / row[f"{BASELINE}_at_{interval}"] for interval in INTERVALS]
    axes.plot([min(ratios), max(ratios)], [place, place], color=color, linewidth=1.5, zorder=2)
    for ratio, interval in zip(ratios, INTERVALS, strict=True):
        look = _mark(color, interval) | {"markersize": 5, "linestyle": "none"}
        axes.plot([ratio], [place], zorder=3, **look)


def staggering_figure(path: Path) -> tuple[Figure, pd.DataFrame]:
    """How evenly refreshes are spread: median, tail and worst step of each variant.

    Args:
      path: the JSON of `scripts.benchmark.step --staggering`.

    Returns:
      The figure, and its numbers: variant, median, p95, p99, max in ms of wall time.

    Raises:
      UserError: the file cannot be read, or is of another kind.
    """
    value = files.read_json(path)
    try:
        rows = [{"variant": row["variant"], **row["wall"]} for row in value["rows"]]
        table = pd.DataFrame(rows)[["variant", *_PLACES]]
    except (KeyError, TypeError) as error:
        raise UserError(f"{path} holds no staggering: lacks {error}") from error
    with style.context(**{"font.size": 8}):
        figure = panels.new_figure(5.5, 0.3 * len(table) + 1.0)
        axes = figure.subplots()
        for place, row in enumerate(table.itertuples()):
            axes.plot([row.median, row.max], [place, place], color=FAINT, linewidth=4, zorder=1)
        for name, marker in zip(_PLACES, ("D", "|", "x", "o"), strict=True):
            look: dict[str, Any] = {"linestyle": "none", "marker": marker, "color": INK}
            look["markerfacecolor"] = "white" if name == "max" else INK
            axes.plot(table[name], range(len(table)), markersize=5, label=name, zorder=3, **look)
        panels.name_rows(axes, table["variant"].to_list())
        axes.set_xlim(left=0)
        axes.set_xlabel("ms per step, wall time")
        figure.legend(ncols=4, loc="outside upper left", fontsize=7)
    return figure, table
