"""The headline: Shampoo against the baseline in a row per workload, everyone else in faint dots."""

import dataclasses
import math
import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from analysis import panels, style
from analysis.judgement import Judgement, medians_of, where_both_reach
from analysis.relative import relative
from analysis.scoring import times_table
from analysis.style import FAINT, INK, MUTED, EntryStyle
from analysis.svg import tip
from analysis.texts import CUT, count_text, seconds_text, steps_text

# Whom the headline is about: the first of these that has runs, or else the best score.
_HEROES = (
    *("shampoo", "stacked_shampoo", "shampoo_self_tuning", "stacked_shampoo_self_tuning"),
    "shampoo_submission",
)
_WIDTH = 7.6
_NAME_SIZE, _LABEL_SIZE, _OTHERS_SIZE = 10.0, 9.0, 6.5
# Inches between things that must not touch; of all above and below the rows but the finding; of a
# panel and what is around it.
_GAP, _AROUND, _LEAST_PANEL = 0.08, 1.08, 3.4
# Of the finding, in points, and inches of its lines and of its letters; of the notes' letters.
_TITLE_SIZE, _TITLE_STEP, _TITLE_LETTER, _NOTE_LETTER = 11, 0.2, 0.103, 0.056
_LINE_STEP = 0.17
# A telephone's width, where everything is below each other.
_NARROW_WIDTH = 4.3
# What names stand on where lines cross behind them.
_PATCH: dict[str, Any] = {"facecolor": "white", "edgecolor": "none", "pad": 0.4}
_LONG_SECONDS = 7200
_REASONS = {
    "missed": "not reached in its budget",
    CUT: "cut short by --max_steps",
    "other": "counts steps otherwise",
}


@dataclasses.dataclass(frozen=True)
class _Pair:
    """The two that the headline is about, and their looks."""

    hero: str
    baseline: str
    styles: Mapping[str, EntryStyle]
    column: str


@dataclasses.dataclass(frozen=True)
class _Row:
    """Heights in a workload's row, in inches from its upper end.

    Attributes:
      high: the row's own height.
      main, others: where the pair's dots and those of the others are.
      words: where the first line of words is, if they are below the dots and not beside them.
    """

    high: float
    main: float
    others: float
    words: float | None = None

    def at(self, place: int, inches: float) -> float:
        """Data coordinate of a height in the row of a place."""
        return place - 0.5 + inches / self.high


def _row(lines: int, crowded: bool, narrow: bool) -> _Row:
    """A row for so many lines of words; are there others than the pair, is it for a telephone?"""
    if narrow:
        words = 1.28 if crowded else 0.8
        return _Row(words + lines * _LINE_STEP, 0.53, 0.98, words)
    return _Row(0.86, 0.29, 0.65) if crowded else _Row(0.52, 0.26, 0.26)


def hero_of(judged: Judgement) -> str | None:
    """The entry that a report is about: a Shampoo of ours, or the best one but the baseline."""
    others = [name for name in judged.entries if name != judged.baseline]
    return next((name for name in (*_HEROES, *others) if name in others), None)


def headline(
    judged: Judgement, column: str, styles: Mapping[str, EntryStyle], *, narrow: bool = False
) -> Figure | None:
    """Times to target relative to the baseline's, and in figures; None without two to compare.

    Args:
      judged: the logs' judgement.
      column: `steps` or `seconds`.
      styles: of every submission.
      narrow: whether it must be read on a telephone.
    """
    hero = hero_of(judged)
    table = relative(judged, column) if judged.baseline is not None and hero else pd.DataFrame()
    if table.empty or hero is None or judged.baseline is None:
        return None
    pair = _Pair(hero, judged.baseline, styles, column)
    rows = {str(name): part for name, part in table.groupby("workload", sort=False)}
    crowded = bool(set(table["submission"]) - {hero, judged.baseline})
    values = {
        (row.workload, row.submission): float(getattr(row, f"median_{column}"))
        for row in judged.cells.itertuples()
    }
    names = list(map(panels.shorten, rows))
    words = [_words(part, name, values, pair) for name, part in rows.items()]
    row = _row(max(map(len, words)), crowded, narrow)
    beside = max(panels.inches(text, _LABEL_SIZE) for lines in words for text, _ in lines)
    wide = max(_NARROW_WIDTH, beside + 4 * _GAP)
    if not narrow:
        named = max(panels.inches(name, _NAME_SIZE) for name in names)
        wide = max(_WIDTH, named + beside + _LEAST_PANEL)
    title = _wrapped(finding(judged, hero, column), wide, _TITLE_LETTER)
    high = row.high * len(rows) + _AROUND + _TITLE_STEP * len(title.splitlines())
    with style.context(**{"font.size": _LABEL_SIZE}):
        figure = panels.new_figure(wide, high)
        figure.suptitle(title, x=0.01, ha="left", fontsize=_TITLE_SIZE, color=INK,
                        fontweight="bold", linespacing=1.3)  # fmt: skip
        axes = figure.subplots()
        limits = _limits(table)
        _prepare(axes, names, limits, pair, narrow)
        for place, (lines, part) in enumerate(zip(words, rows.values(), strict=True)):
            _write_words(axes, place, lines, row)
            _draw_row(axes, row.at(place, row.main), part, lines, pair, limits)
        _write_frame(figure, axes, table, pair)
        if crowded:
            panels.lay_out(figure)
            room = axes.get_window_extent().width / figure.dpi, row.high
            for place, part in enumerate(rows.values()):
                _draw_others(axes, row.at(place, row.others), part, pair, limits, room)
    return figure


def _wrapped(text: str, width: float, letter: float) -> str:
    """Lines, each broken where it would leave a page; width and a letter's width in inches."""
    letters = int((width - 2 * _GAP) / letter)
    return "\n".join(textwrap.fill(line, letters) for line in text.splitlines())


def finding(judged: Judgement, hero: str, column: str) -> str:
    """What the headline says, in words: targets reached, and the mean ratio where both do.

    Args:
      judged: the logs' judgement, with a baseline.
      hero: another entry.
      column: `steps` or `seconds`.
    """
    assert judged.baseline is not None
    medians = medians_of(judged, hero, column)
    reached = np.isfinite(medians)
    both, ratio = where_both_reach(medians)
    names = style.label(hero), style.label(judged.baseline)
    cut = times_table(judged.cells, "cut")
    short = (cut.loc[medians.index, medians.columns].gt(0) & ~reached).sum()
    said = {name: f" ({count} {CUT} short)" if count else "" for name, count in short.items()}
    text = f"{names[0]} reaches {reached[hero].sum()} of {len(medians)} targets{said[hero]}, "
    text += f"{names[1]} {reached[judged.baseline].sum()}{said[judged.baseline]}"
    if both and not (column == "steps" and hero in judged.other_steps):
        which = "one" if both == 1 else str(both)
        text += f";\non the {which} that both reach, it takes {ratio:.2f} × the {column}"
    return text


def _words(
    rows: pd.DataFrame, workload: str, values: Mapping[tuple[str, str], float], pair: _Pair
) -> list[tuple[str, str]]:
    """The lines at a row's right end, with their colours: both times, and how many others miss."""
    kinds = dict(zip(rows["submission"], rows["kind"], strict=True))
    pool = [value for (name, _), value in values.items() if name == workload]
    longest = max([value for value in pool if math.isfinite(value)], default=0.0)
    lines = []
    for name in (pair.hero, pair.baseline):
        look = pair.styles[name]
        if name not in kinds:
            text = f"{look.label}: no runs"
        elif said := _REASONS.get(kinds[name]):
            mark = "" if kinds[name] == CUT else "✗ "
            text = f"{mark}{look.label}: {said}"
        else:
            text = f"{look.label} {_amount(values[workload, name], pair.column, longest)}"
        lines.append((text, look.color))
    rest = rows[~rows["submission"].isin([pair.hero, pair.baseline])]
    late = rest["kind"].eq("bound") & (rest["ratio"] >= 1)
    for said, chosen in (
        ("✓ {}: reached", late),
        ("✗ {}: not reached", rest["kind"].eq("missed")),
        ("{}: cut short", rest["kind"].eq(CUT)),
    ):
        names = [pair.styles[name].label for name in rest.loc[chosen, "submission"]]
        if names:
            text = names[0] if len(names) == 1 else f"{len(names)} of {len(rest)} others"
            lines.append((said.format(text), MUTED))
    return lines


def _amount(value: float, column: str, longest: float) -> str:
    """A time to target with its unit, which is that of the longest time beside it.

    >>> _amount(240.0, "steps", 240.0), _amount(7.9, "seconds", 9.0)
    ('240 steps', '7.90 s')
    >>> _amount(3600.0, "seconds", 9000.0)
    '1.00 h'
    """
    if column == "steps":
        return f"{steps_text(value)} steps"
    return f"{value / 3600:.2f} h" if longest >= _LONG_SECONDS else f"{seconds_text(value)} s"


def _limits(table: pd.DataFrame) -> tuple[float, float]:
    bounds = table["kind"].eq("bound") & (table["ratio"] < 1)
    known = table[table["kind"].eq("ratio") | bounds]
    values = known[["ratio", "low", "high"]].to_numpy(float).ravel()
    low, high = panels.span([*values, 0.75, 1.5], most=(8.0, 4.0))
    # Room for the arrow of a bound.
    return low * (low / high) ** (0.08 if "bound" in set(known["kind"]) else 0), high


def _prepare(
    axes: Axes, names: Sequence[str], limits: tuple[float, float], pair: _Pair, narrow: bool
) -> None:
    """Rows for workloads, lines between them, and a line where the baseline is."""
    panels.ratio_axis(axes.xaxis, *limits)
    axes.set_yticks(range(len(names)), names, fontsize=_NAME_SIZE)
    if narrow:
        axes.set_yticks([])
        for place, name in enumerate(names):
            look: dict[str, Any] = {"xycoords": ("axes fraction", "data"), "va": "top"}
            panels.annotate(axes, name, (0, place - 0.5), (0, -3), fontsize=_NAME_SIZE,
                            fontweight="bold", color=INK, bbox=_PATCH, **look)  # fmt: skip
    axes.set_ylim(len(names) - 0.5, -0.5)
    axes.tick_params(axis="y", length=0, pad=72 * _GAP)
    axes.spines["left"].set_visible(False)
    axes.grid(visible=False, axis="y")
    for place in range(1, len(names)):
        axes.axhline(place - 0.5, color=FAINT, linewidth=0.6, zorder=0)
    axes.axvline(1.0, color=pair.styles[pair.baseline].color, linewidth=1.6, zorder=1.5)


def _write_words(axes: Axes, place: int, words: Sequence[tuple[str, str]], row: _Row) -> None:
    """A row's words, beside or below its dots."""
    middle = row.main if row.high < 0.6 else row.high / 2 - 0.14
    first = middle - (len(words) - 1) / 2 * _LINE_STEP
    side, aside, look = 1, 72 * _GAP, {}
    if row.words is not None:
        first, side, aside, look = row.words, 0, 0.0, {"bbox": _PATCH}
    for number, (text, color) in enumerate(words):
        at = row.at(place, first + number * _LINE_STEP)
        panels.annotate(axes, text, (side, at), (aside, 0), xycoords=("axes fraction", "data"),
                        va="center", color=color, fontsize=_LABEL_SIZE, **look)  # fmt: skip


def _draw_row(
    axes: Axes,
    place: float,
    rows: pd.DataFrame,
    words: Sequence[tuple[str, str]],
    pair: _Pair,
    limits: tuple[float, float],
) -> None:
    """The two dots, and the way from one to the other."""
    said = tip(f"{rows['workload'].iloc[0]}: {'; '.join(text for text, _ in words)}")
    by_submission = {str(row.submission): row for row in rows.itertuples()}
    base, hero = by_submission[pair.baseline], by_submission.get(pair.hero)
    look = pair.styles[pair.baseline]
    if base.kind == "ratio":
        axes.plot(1.0, place, "s", markersize=6.5, color=look.color, zorder=4, gid=said)
    if hero is None or hero.kind not in ("ratio", "bound"):
        return
    color = pair.styles[pair.hero].color
    at = float(np.clip(hero.ratio, *limits))
    if hero.kind == "bound" and hero.ratio >= 1:
        # Nobody knows who is faster, so there is no place for a dot.
        panels.annotate(axes, f"✓ reached, {look.label} not", (1, place), (-8, 0), ha="right",
                        va="center", color=color, fontweight="bold")  # fmt: skip
        return
    axes.plot([1.0, at], [place] * 2, color=color, alpha=0.3, linewidth=5, zorder=2,
              solid_capstyle="butt")  # fmt: skip
    text = f"{hero.ratio:.2f}"
    if hero.kind == "bound":
        text = f"≤{text}"
        arrow = {"arrowstyle": "<-", "color": color, "linewidth": 1.3, "shrinkA": 0, "shrinkB": 0}
        panels.annotate(axes, "", (at, place), (-25, 0), arrowprops=arrow)
    elif not math.isnan(hero.low):
        _draw_interval(axes, place, (hero.low, hero.high), limits, color)
    face = "white" if hero.kind == "bound" else color
    axes.plot(at, place, "o", color=color, markersize=9, markeredgewidth=1.8, zorder=5, gid=said,
              markerfacecolor=face, clip_on=False)  # fmt: skip
    panels.annotate(axes, text, (at, place), (0, 7), ha="center", va="bottom", color=color,
                    fontsize=_LABEL_SIZE, fontweight="bold", zorder=6)  # fmt: skip


def _draw_interval(
    axes: Axes, place: float, ends: tuple[float, float], limits: tuple[float, float], color: str
) -> None:
    """A thin line, with an arrow's head where it goes on beyond the panel."""
    axes.plot(np.clip(ends, *limits), [place] * 2, color=color, linewidth=1.3, zorder=3)
    for end, edge, marker in zip(ends, limits, "<>", strict=True):
        if (end < edge) if marker == "<" else (end > edge):
            axes.plot(edge, place, marker, color=color, markersize=4, clip_on=False, zorder=3)


def _draw_others(
    axes: Axes,
    place: float,
    rows: pd.DataFrame,
    pair: _Pair,
    limits: tuple[float, float],
    inches: tuple[float, float],
) -> None:
    """A faint dot for each of the others, with its name above or below where there is room."""
    rest = rows[~rows["submission"].isin([pair.hero, pair.baseline])]
    known = rest["kind"].eq("ratio") | (rest["kind"].eq("bound") & (rest["ratio"] < 1))
    rest = rest[known].sort_values(["ratio", "submission"])
    scale = inches[0] / math.log(limits[1] / limits[0])
    free = [0.0, 0.0]
    offset = 0.12 / inches[1]
    for row in rest.itertuples():
        at = float(np.clip(row.ratio, *limits))
        label = pair.styles[str(row.submission)].label
        shown = f"{'≤' if row.kind == 'bound' else ''}{row.ratio:.2f}"
        axes.plot(at, place, "o", color=MUTED, alpha=0.6, markersize=4, zorder=2, clip_on=False,
                  markerfacecolor="white" if row.kind == "bound" else MUTED,
                  gid=tip(f"{row.workload}: {label} {shown}"))  # fmt: skip
        half = 0.52 * panels.inches(label, _OTHERS_SIZE)
        middle = math.log(at / limits[0]) * scale
        for lane, sign in enumerate((1, -1)):
            if middle - half >= free[lane] and middle + half <= inches[0]:
                axes.text(at, place + sign * offset, label, ha="center", va="center",
                          fontsize=_OTHERS_SIZE, color=MUTED, zorder=1.8, bbox=_PATCH)  # fmt: skip
                free[lane] = middle + half + _GAP
                break


def _write_frame(figure: Figure, axes: Axes, table: pd.DataFrame, pair: _Pair) -> None:
    """What is left and right of 1, and below what the dots are."""
    against = pair.styles[pair.baseline]
    look: dict[str, Any] = {"xycoords": ("data", "axes fraction"), "fontsize": _LABEL_SIZE}
    aside = 72 * (0.58 * panels.inches(against.label, _LABEL_SIZE) + _GAP)
    panels.annotate(axes, against.label, (1, 1), (0, 5), ha="center", color=against.color,
                    fontweight="bold", **look)  # fmt: skip
    panels.annotate(axes, "← faster", (1, 1), (-aside, 5), ha="right", color=MUTED, **look)
    panels.annotate(axes, "slower →", (1, 1), (aside, 5), ha="left", color=MUTED, **look)
    axes.set_xlabel(f"{pair.column} to the target, relative to {against.label}")
    counts = table.loc[table["submission"].isin([pair.hero, pair.baseline]), "studies"]
    notes = f"Medians over {count_text(counts, 'study', 'studies')}"
    if table.loc[table["submission"] == pair.hero, "low"].notna().any():
        notes += "; thin lines: 95% intervals"
    if (table["kind"].eq("bound") & (table["ratio"] < 1)).any():
        notes += f"; hollow: an upper bound, as {against.label} misses (1 is how long it ran)"
    notes = _wrapped(f"{notes}.", figure.get_figwidth(), _NOTE_LETTER)
    figure.supxlabel(notes, x=0.01, ha="left", fontsize=7, color=MUTED)
