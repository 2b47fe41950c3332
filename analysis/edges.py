"""Which of the league's chosen hyperparameters lie at an end of the range that they are drawn from.

A better value may then lie beyond it.
"""

import json
import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from analysis import style
from common import documents, files
from scripts.local.entries import STANDIN_POINTS
from scripts.local.metrics_log import read_csv
from scripts.local.search_table import BEST
from workloads.search_space import Ranges

SPACES = STANDIN_POINTS.parent / "entry_search_spaces.json"
# Of a range, at each end, on the scale that it is drawn on.
SHARE = 0.05


def end_of(spec: Mapping[str, Any], value: float) -> str:
    """Where a value lies in a range or a list of feasible points: `lowest`, `highest` or nothing.

    Lists of two values have nothing but ends, and say nothing.

    >>> log = {"min": 0.001, "max": 0.1, "scaling": "log"}
    >>> end_of(log, 0.0011), end_of(log, 0.01), end_of(log, 0.09)
    ('lowest', '', 'highest')
    >>> end_of({"feasible_points": [1, 2, 3]}, 3), end_of({"feasible_points": [1, 2]}, 2)
    ('highest', '')
    """
    if "feasible_points" in spec:
        feasible = spec["feasible_points"]
        if len(feasible) < 3:
            return ""
        return {min(feasible): "lowest", max(feasible): "highest"}.get(value, "")
    low, high = spec["min"], spec["max"]
    if spec["scaling"] == "log":
        low, high, value = map(math.log, (low, high, value))
    place = (value - low) / (high - low)
    return "lowest" if place < SHARE else "highest" if place > 1 - SHARE else ""


def chosen_at_ends(
    ranges: Mapping[str, Ranges], best: Path = STANDIN_POINTS / BEST
) -> dict[tuple[str, str, str], list[tuple[str, float]]]:
    """Chosen values at an end: by entry, hyperparameter and end, the workloads and values.

    Args:
      ranges: by entry.
      best: the table of chosen points that `scripts.tune` writes.
    """
    ends: dict[tuple[str, str, str], list[tuple[str, float]]] = {}
    for row in read_csv(best, ("entry", "workload", "hyperparameters")):
        point = json.loads(row["hyperparameters"])
        for name, spec in ranges[row["entry"]].items():
            if end := end_of(spec, point[name]):
                key = row["entry"], name, end
                ends.setdefault(key, []).append((row["workload"], point[name]))
    return ends


def edges_table() -> str:
    """A row per entry, hyperparameter and end of its range that was chosen on some workload."""
    ranges = files.read_json(SPACES)
    rows = []
    for (entry, name, end), chosen in chosen_at_ends(ranges).items():
        values = sorted({f"{value:.3g}" for _, value in chosen})
        rows.append(
            {
                "entry": style.label(entry),
                "hyperparameter": f"`{name}`",
                "end": end,
                "range": _range(ranges[entry][name]),
                "chosen": ", ".join(values),
                "on": ", ".join(workload for workload, _ in chosen),
            }
        )
    return documents.table(rows)


def _range(spec: Mapping[str, Any]) -> str:
    if "feasible_points" in spec:
        return ", ".join(f"{value:g}" for value in spec["feasible_points"])
    return f"{spec['min']:g} to {spec['max']:g}"


TABLES: Mapping[str, Callable[[], str]] = {"edges": edges_table}
