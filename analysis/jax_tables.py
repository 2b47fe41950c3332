"""Tables of docs/jax.md: what JAX's Shampoo costs, where its state lies, and its steps to target.

Read from results/jax; beside its steps those of PyTorch, from results/league.
"""

import functools
import math
from collections.abc import Callable, Mapping
from typing import Any

import pandas as pd

from analysis import league_tables
from analysis.logs import read_logs
from analysis.scoring import score_trials
from common import documents, files
from common.documents import UNKNOWN
from scripts.local.environment import ROOT

JAX = ROOT / "results" / "jax"
_TORCH, _ADAMW = "ours_shampoo", "optax_adamw"
_LABELS = {
    "jax_shampoo": "Shampoo",
    "optax_muon": "optax.contrib.muon",
    _ADAMW: "optax.adamw",
    _TORCH: "Shampoo in PyTorch",
}
_INTERVAL = "100"
_MIB = 2**20


def costs_table() -> str:
    """By network and optimizer: compile time, and steps in ratios to optax.adamw and PyTorch."""
    rows = []
    for network, measured in files.read_json(JAX / "cpu.json").items():
        found = {row["optimizer"]: row for row in measured["rows"]}
        for name, label in _LABELS.items():
            row = found[name]
            compiling = row.get("compile_milliseconds")
            rows.append(
                {
                    "network": network,
                    "optimizer": label,
                    "compiles in": UNKNOWN if compiling is None else f"{compiling / 1e3:.1f} s",
                    "times optax.adamw": _ratio(found, name, _ADAMW, "compile_milliseconds"),
                    "plain step, times optax.adamw": _ratio(found, name, _ADAMW, "plain"),
                    "times PyTorch": _ratio(found, name, _TORCH, "plain"),
                    f"with roots every {_INTERVAL} steps": _ratio(found, name, _TORCH, "amortised"),
                }
            )
    return documents.table(rows)


def _ratio(found: Mapping[str, Any], name: str, base: str, what: str) -> str:
    values = [_value(found[key], what) for key in (name, base)]
    if any(value is None for value in values):
        return UNKNOWN
    return documents.number(values[0] / values[1])


def _value(row: Mapping[str, Any], what: str) -> Any:
    if what == "compile_milliseconds":
        return row.get(what)
    value = row["milliseconds"][what]
    return value[_INTERVAL] if what == "amortised" else value


def devices_table() -> str:
    """By network: MiB of state on the device that holds most, and its share of an equal one."""
    rows = []
    for network, found in files.read_json(JAX / "device_bytes.json").items():
        whole = found["1"]
        cells = {
            "1 device" if count == "1" else f"{count} devices": (
                f"{size / _MIB:.0f} MiB"
                + (f" ({size * int(count) / whole:.2f})" if count != "1" else "")
            )
            for count, size in found.items()
        }
        rows.append({"network": network, **cells})
    return documents.table(rows)


@functools.cache
def trials() -> pd.DataFrame:
    """The trials of JAX, as `score_trials` returns them."""
    return score_trials(read_logs(JAX / "study").frame)


def torch_trials() -> pd.DataFrame:
    """Those of PyTorch's league that have the same workload, point and seed."""
    league = league_tables.judged().trials
    league = league[league["submission"] == league_tables.HERO]
    return trials()[["workload", "study", "trial"]].merge(league)


def steps_table() -> str:
    """Steps to target by workload and seed."""
    both = {"PyTorch": torch_trials(), "JAX": trials()}
    rows = []
    for workload in trials()["workload"].unique():
        cells = {"workload": f"`{workload}`"}
        for framework, table in both.items():
            chosen = table[table["workload"] == workload].sort_values("study")
            seeds = ", ".join(map(str, chosen["study"]))
            cells[f"{framework}, seeds {seeds}"] = ", ".join(
                f"{steps:.0f}" if math.isfinite(steps) else "missed" for steps in chosen["steps"]
            )
        rows.append(cells)
    return documents.table(rows)


TABLES: Mapping[str, Callable[[], str]] = {
    "jax-costs": costs_table,
    "jax-devices": devices_table,
    "jax-steps": steps_table,
}
