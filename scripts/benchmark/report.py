"""Amortised times and ratios of measured optimizer steps, and all of it as Markdown."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from common import documents
from scripts.local import rivals

_MIB = 2**20
Row = dict[str, Any]
Cell = Callable[[Row], str]
Columns = dict[str, Cell]


def derive(rows: Mapping[str, Row], intervals: Sequence[int]) -> None:
    """Adds `milliseconds` to the rows of one interleaved group, and `ratio_to` others of it.

    Both hold `plain`, `refresh` (the whole step), `refresh_part` (what it takes beyond a plain one)
    and, by interval as text, `amortised`. Times are medians on the device, on a CPU of CPU time. An
    optimizer that never refreshes has its plain step's time at every interval.
    """
    for row in rows.values():
        plain, refresh = (_median(row.get(kind)) for kind in ("plain", "refresh"))
        if plain is None or row["failure"]:
            continue
        part = None if refresh is None else refresh - plain
        row["milliseconds"] = {
            "plain": plain,
            "refresh": refresh,
            "refresh_part": part,
            "amortised": {
                str(interval): plain + (part or 0.0) / interval for interval in intervals
            },
        }
    for row in rows.values():
        row["ratio_to"] = {
            other: _ratios(row["milliseconds"], rows[other]["milliseconds"])
            for other in (rivals.BASELINE, rivals.REFERENCE)
            if "milliseconds" in row and "milliseconds" in rows.get(other, {})
        }


def _median(clocks: Mapping[str, Any] | None) -> float | None:
    if not clocks:
        return None
    return float(clocks["device" if "device" in clocks else "cpu"]["median"])


def _ratios(times: Row, others: Row) -> Row:
    return {
        **{
            name: documents.ratio(times[name], others[name])
            for name in ("plain", "refresh", "refresh_part")
        },
        "amortised": {
            interval: documents.ratio(value, others["amortised"][interval])
            for interval, value in times["amortised"].items()
        },
    }


def step_cost(results: Mapping[str, Any]) -> str:
    """Tables of all measured networks, by name as `scripts.benchmark.measure.measure` has them."""
    lines = [
        "# What an optimizer step costs",
        "",
        "By `python -m scripts.benchmark.step`. Milliseconds are medians of the process's CPU",
        "time, on a GPU of the time between two CUDA events; in refresh steps all roots or bases",
        "are taken anew; at an interval T a step costs plain + (refresh - plain) / T. Networks may",
        "have been measured on different days, so compare rows of one table.",
    ]
    for network, result in results.items():
        lines += ["", *_network(network, result)]
    return "\n".join(lines) + "\n"


def _network(network: str, result: Row) -> list[str]:
    settings = result["settings"]
    rows = [row for row in result["rows"] if "milliseconds" in row]
    count = f"{result['parameters']:,} parameters in {result['tensors']} tensors"
    circumstances = (
        f"{count}; {_conditions(settings)}; block {settings['block_size']}, "
        f"{settings['cycles']} cycles of {settings['cycle']} steps."
    )
    intervals = [str(interval) for interval in settings["intervals"]]
    return [
        f"## {network}",
        "",
        circumstances,
        *(f"{_machine(group)}." for group in result["groups"]),
        "",
        "Milliseconds:",
        "",
        _table(_time_columns(intervals), rows),
        "",
        "Ratios, within one group of interleaved optimizers:",
        "",
        _table(_ratio_columns(intervals, rows), rows),
        "",
        "Memory beside weights and gradients, and what a step dispatches:",
        "",
        _table(_other_columns(rows), rows),
        *(
            f"\n- {row['optimizer']}: {row['failure'] or 'not here: ' + row['absent']}"
            for row in result["rows"]
            if row["failure"] or row.get("absent")
        ),
    ]


def _time_columns(intervals: Sequence[str]) -> Columns:
    return {
        "optimizer": _name,
        "plain": _number_at("milliseconds", "plain"),
        "refresh": _number_at("milliseconds", "refresh"),
        "refresh part": _number_at("milliseconds", "refresh_part"),
        **{f"at {i}": _number_at("milliseconds", "amortised", i) for i in intervals},
        "plain p25-p75": _quartiles,
        "plain, wall": _number_at("plain", "wall", "median"),
        "refresh, wall": _number_at("refresh", "wall", "median"),
    }


def _ratio_columns(intervals: Sequence[str], rows: Sequence[Row]) -> Columns:
    columns: Columns = {"optimizer": _name}
    for other in (rivals.BASELINE, rivals.REFERENCE):
        if not any(other in row["ratio_to"] for row in rows):
            continue
        if other == rivals.REFERENCE:
            for kind in ("plain", "refresh", "refresh_part"):
                label = kind.replace("_", " ")
                columns[f"{label} / {other}"] = _number_at("ratio_to", other, kind)
        for i in intervals:
            columns[f"at {i} / {other}"] = _number_at("ratio_to", other, "amortised", i)
    return columns


def _other_columns(rows: Sequence[Row]) -> Columns:
    return {
        "optimizer": _name,
        "state MiB": lambda row: documents.number(row["state_bytes"] / _MIB),
        "workspace MiB": lambda row: documents.number(row["workspace_bytes"] / _MIB),
        **{
            f"{what}, {kind}": _plainly(f"{kind}_{what}")
            for what in ("operators", "kernels", "synchronisations")
            for kind in ("plain", "refresh")
            if any(f"{kind}_{what}" in row for row in rows)
        },
        "from": lambda row: str(row["package"]),
    }


def _number_at(*path: str) -> Cell:
    """A cell with the number under nested keys, if it is there."""

    def cell(row: Row) -> str:
        value: Any = row
        for key in path:
            value = (value or {}).get(key)
        return documents.number(value)

    return cell


def _plainly(key: str) -> Cell:
    return lambda row: str(row.get(key, documents.UNKNOWN))


def _name(row: Row) -> str:
    return str(row["optimizer"])


def _quartiles(row: Row) -> str:
    clocks = row["plain"]
    times = clocks.get("device", clocks["cpu"])
    return f"{documents.number(times['p25'])}-{documents.number(times['p75'])}"


def _machine(group: Row) -> str:
    share = group["others_cpu_share"]
    others = "unknown" if share is None else f"{share:.0%}"
    load = group["load_average"]
    names = ", ".join(group["optimizers"]) if "optimizers" in group else "All"
    return (
        f"{names}: {group['seconds']:.0f} s, CPU share of other processes {others}, "
        f"load average {documents.number(load, '.1f')}"
    )


def _conditions(settings: Row) -> str:
    dirty = " with changes" if settings["git_dirty"] else ""
    return (
        f"{settings['device']}, {settings['cpu_model_name']}, {settings['threads']} thread(s), "
        f"torch {settings['packages'].get('torch')}, "
        f"commit {(settings['git_commit_hash'] or 'unknown')[:12]}{dirty}"
    )


def staggering(spread: Row) -> str:
    """The table of `scripts.benchmark.staggering.measure`."""
    settings = spread["settings"]
    clocks = [clock for clock in ("wall", "thread", "device") if clock in spread["rows"][0]]
    circumstances = (
        "By `python -m scripts.benchmark.step --staggering`: "
        f"{settings['optimizer']} on {settings['network']}, refresh interval "
        f"{settings['interval']}, {settings['steps']} steps of each variant in turn, "
        f"{settings['pause_seconds'] * 1e3:g} ms of pause before each; {_conditions(settings)}. "
        f"{_machine(spread['machine'])}. Times in ms; `thread` is the calling thread's CPU time. "
        f"Refreshed together, one step in {settings['interval']} is slow, which at 100 is just "
        "beyond the 99th percentile: see the maximum."
    )
    lines = ["# How evenly refreshes are spread over steps", "", circumstances]
    for clock in clocks:
        columns: Columns = {"variant": lambda row: str(row["variant"])}
        for name in ("median", "mean", "p95", "p99", "max"):
            columns[name] = _number_at(clock, name)
        columns["p99 / median"] = _number_at("p99_over_median", clock)
        lines += ["", f"## {clock}", "", _table(columns, spread["rows"])]
    return "\n".join(lines) + "\n"


def _table(columns: Columns, rows: Iterable[Row]) -> str:
    cells = [[cell(row) for cell in columns.values()] for row in rows]
    return documents.table(cells, list(columns))
