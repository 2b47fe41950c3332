"""Benchmark results as Markdown, and the amortised times and ratios in them."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from common.documents import UNKNOWN, number, ratio, table
from scripts.benchmark import compiled
from scripts.local import rivals

# Optimizers that ratios are taken to.
BASES = (rivals.BASELINE, rivals.REFERENCE, rivals.MUON, compiled.BASELINE)

Row = dict[str, Any]
# The key of a number, nested keys joined by dots, or what makes the text of a cell.
Column = str | Callable[[Row], Any]
_MIB = 2**20


def columns(rows: Iterable[Row], cells: Mapping[str, Column]) -> str:
    """A Markdown table with a column for every title in `cells`."""
    return table([{title: _cell(row, cell) for title, cell in cells.items()} for row in rows])


def _cell(row: Row, cell: Column) -> Any:
    if callable(cell):
        return cell(row)
    value: Any = row
    for key in cell.split("/"):
        value = (value or {}).get(key)
    return value if isinstance(value, str) else number(value)


def derive(rows: Mapping[str, Row], intervals: Sequence[int]) -> None:
    """Adds `milliseconds` to the rows of one interleaved group, and `ratio_to` others of it.

    Both hold `plain`, `refresh` (the whole step), `refresh_part` (what it takes beyond a plain one)
    and, by interval as text, `amortised`. Times are medians on the device, on a CPU of CPU time. An
    optimizer that never refreshes has its plain step's time at every interval.
    """
    for row in rows.values():
        plain, refresh = (median(row.get(kind)) for kind in ("plain", "refresh"))
        if plain is None or row["failure"]:
            continue
        row["milliseconds"] = {
            "plain": plain,
            "refresh": refresh,
            "refresh_part": None if refresh is None else refresh - plain,
            "amortised": amortised(plain, refresh, intervals),
        }
    for row in rows.values():
        row["ratio_to"] = {
            other: _ratios(row["milliseconds"], rows[other]["milliseconds"])
            for other in BASES
            if "milliseconds" in row and "milliseconds" in rows.get(other, {})
        }


def amortised(plain: float, refresh: float | None, intervals: Sequence[int]) -> dict[str, float]:
    """A step's mean time by interval as text; `refresh` is None for one that never does."""
    part = 0.0 if refresh is None else refresh - plain
    return {str(interval): plain + part / interval for interval in intervals}


def median(clocks: Mapping[str, Any] | None) -> float | None:
    """The median on the device, on a CPU of CPU time; None of nothing."""
    if not clocks or "cpu" not in clocks:
        return None
    return float(clocks.get("device", clocks["cpu"])["median"])


def _ratios(times: Row, base: Row) -> Row:
    return {
        name: _ratios(value, base[name]) if isinstance(value, dict) else ratio(value, base[name])
        for name, value in times.items()
    }


def step_cost(results: Mapping[str, Any]) -> str:
    """Tables of all measured networks, by name as `measure.measure` has them."""
    lines = [
        "# What an optimizer step costs",
        "",
        "By `python -m scripts.benchmark.step`. Milliseconds are medians of the process's CPU",
        "time, on a GPU of the time between two CUDA events; in refresh steps all roots or bases",
        "are taken anew; at an interval T a step costs plain + (refresh - plain) / T. Networks may",
        "have been measured on different days, so compare rows of one table.",
    ]
    for network, result in results.items():
        lines += ["", f"## {network}", "", *_network(result)]
    return "\n".join(lines) + "\n"


def _network(result: Row) -> list[str]:
    settings = result["settings"]
    rows = [row for row in result["rows"] if "milliseconds" in row]
    intervals = settings["intervals"]
    times: dict[str, Column] = {
        "optimizer": "optimizer",
        "plain": "milliseconds/plain",
        "refresh": "milliseconds/refresh",
        "refresh part": "milliseconds/refresh_part",
        **{f"at {i}": f"milliseconds/amortised/{i}" for i in intervals},
        "plain p25-p75": _quartiles,
        "plain, wall": "plain/wall/median",
        "refresh, wall": "refresh/wall/median",
    }
    ratios = []
    for other in BASES:
        if not any(other in row["ratio_to"] for row in rows):
            continue
        kinds = ("plain", "refresh", "refresh_part") if other == rivals.REFERENCE else ()
        cells: dict[str, Column] = {"optimizer": "optimizer"}
        cells |= {k.replace("_", " "): f"ratio_to/{other}/{k}" for k in kinds}
        cells |= {f"at {i}": f"ratio_to/{other}/amortised/{i}" for i in intervals}
        title = f"Ratios to {other}, within one group of interleaved optimizers:"
        ratios += [title, "", columns(rows, cells), ""]
    counts = [
        (f"{what}, {kind}", f"{kind}_{what}")
        for what in ("operators", "kernels", "synchronisations")
        for kind in ("plain", "refresh")
    ]
    memory: dict[str, Column] = {
        "optimizer": "optimizer",
        "state MiB": lambda row: number(row["state_bytes"] / _MIB),
        "workspace MiB": lambda row: number(row["workspace_bytes"] / _MIB),
        **{
            title: lambda row, key=key: str(row.get(key, UNKNOWN))  # type: ignore[misc]
            for title, key in counts
            if any(key in row for row in rows)
        },
        "from": "package",
    }
    circumstances = (
        f"{result['parameters']:,} parameters in {result['tensors']} tensors; "
        f"{_conditions(settings)}; block {settings['block_size']}, "
        f"{settings['cycles']} cycles of {settings['cycle']} steps."
    )
    return [
        circumstances,
        *(f"{_load(group, ', '.join(group['optimizers']))}." for group in result["groups"]),
        *("", "Milliseconds:", "", columns(rows, times), ""),
        *ratios,
        *_compilation(rows),
        "Memory beside weights and gradients, and what a step dispatches:",
        *("", columns(rows, memory)),
        *(
            f"\n- {row['optimizer']}: {row['failure'] or 'not here: ' + row['absent']}"
            for row in result["rows"]
            if row["failure"] or row.get("absent")
        ),
    ]


def _compilation(rows: Sequence[Row]) -> list[str]:
    """What is compiled before the first step, and how long that takes."""
    key = "compile_milliseconds"
    compiling = [row for row in rows if key in row]
    base = next((row[key] for row in compiling if row["optimizer"] == compiled.BASELINE), None)
    cells: dict[str, Column] = {"optimizer": "optimizer", "ms": key}
    if base is not None:
        cells[f"to {compiled.BASELINE}"] = lambda row: number(ratio(row[key], base))
    title = "Tracing and compiling a step, CPU time:"
    return [title, "", columns(compiling, cells), ""] if compiling else []


def _quartiles(row: Row) -> str:
    times = row["plain"].get("device", row["plain"]["cpu"])
    return f"{number(times['p25'])}-{number(times['p75'])}"


def _load(machine: Row, names: str) -> str:
    return (
        f"{names}: {machine['seconds']:.0f} s, "
        f"CPU share of other processes {machine['others_cpu_share']:.0%}, "
        f"load average {number(machine['load_average'], '.1f')}"
    )


def _conditions(settings: Row) -> str:
    dirty = " with changes" if settings["git_dirty"] else ""
    precision = settings["float32_matmul_precision"]
    products = "" if precision == "highest" else f"float32 products at {precision!r}, "
    return (
        f"{settings['device']}, {settings['cpu_model_name']}, {settings['threads']} thread(s), "
        f"{products}torch {settings['packages'].get('torch')}, "
        f"commit {(settings['git_commit_hash'] or 'unknown')[:12]}{dirty}"
    )


def staggering(spread: Row) -> str:
    """The table of `measure.staggering`."""
    settings = spread["settings"]
    circumstances = (
        "By `python -m scripts.benchmark.step --staggering`: "
        f"{settings['optimizer']} on {settings['network']}, refresh interval "
        f"{settings['interval']}, {settings['steps']} steps of each variant in turn, "
        f"{settings['pause_seconds'] * 1e3:g} ms of pause before each; {_conditions(settings)}. "
        f"{_load(spread['machine'], 'All')}. Times in ms; `thread` is the calling thread's CPU "
        f"time. Refreshed together, one step in {settings['interval']} is slow, which at 100 is "
        "just beyond the 99th percentile: see the maximum."
    )
    lines = ["# How evenly refreshes are spread over steps", "", circumstances]
    for clock in ("wall", "thread", "device"):
        if clock in spread["rows"][0]:
            names = ("median", "mean", "p95", "p99", "max")
            cells: dict[str, Column] = {"variant": "variant"}
            cells |= {name: f"{clock}/{name}" for name in names}
            cells["p99 / median"] = f"p99_over_median/{clock}"
            lines += ["", f"## {clock}", "", columns(spread["rows"], cells)]
    return "\n".join(lines) + "\n"


def roots(settings: Row, results: Mapping[str, list[Row]]) -> str:
    """All tables of `scripts.benchmark.roots`."""
    on_cpu = settings["device"] == "cpu"
    where = "emulated" if on_cpu else "on this GPU"
    machine = f"{settings['device']}, {settings['cpu_model_name']}, {settings['threads']} thread(s)"
    lines = [
        "# Inverse roots: error, trust, time",
        "",
        "By `python -m scripts.benchmark.roots`,",
        f"torch {settings['packages']['torch']}, {machine}.",
        f"Damping is {settings['damping']:g} of the largest eigenvalue unless a table says more.",
        "",
        f"Trained factors are those of {settings['workload']} after {settings['steps']} steps.",
        "",
        "Errors are relative, in the Frobenius norm and against float64. In a cell: of the root /",
        "of the root times a gradient with covariance A. Matrices are handed over in float32, and",
        f'"eigh, float64" shows what that costs. "TF32": float32 with products in TF32, {where}.',
        "A cross: not trusted, that is, the root's residual was too large for it to be used.",
    ]
    clock = "CPU" if on_cpu else "device"
    for exponent in dict.fromkeys(row["exponent"] for row in results["times"]):
        sections: list[tuple[str, str, str, str, Callable[[Row], str]]] = [
            ("log-uniform spectra, d and condition number", "graded", "input", "input", _errors),
            ("factors of a stand-in in training", "trained", "input", "input", _errors),
            (
                f"damping, at d = {results['dampings'][0]['size']}",
                *("dampings", "damping", "damping", _errors),
            ),
            ("inputs known to break solvers", "failures", "input", "input", _repeated),
            (
                f"{clock} ms per matrix",
                *("times", "shape", "stack", lambda row: f"{row['milliseconds']['median']:.3g}"),
            ),
        ]
        for title, name, key, header, cell in sections:
            lines += ["", f"## A^(-1/{round(1 / exponent)}): {title}", ""]
            if name == "failures":
                legend = (
                    "Error of the root; after an arrow, of the one by eigh that takes its place."
                )
                lines += [legend, ""]
            rows: dict[Any, Row] = {}
            for row in results[name]:
                if row["exponent"] == exponent:
                    value = f"{row[key]:g}" if isinstance(row[key], float) else row[key]
                    rows.setdefault(value, {header: value})[row["method"]] = cell(row)
            lines.append(table(rows.values()))
    counted = [
        {
            "root": f"A^(-1/{round(1 / row['exponent'])})",
            "damping": f"{row['damping']:g}",
            "products": row["products"],
        }
        for row in results["products"]
    ]
    lines += ["", "## Matrix products of an iteration", "", table(counted)]
    return "\n".join(lines) + "\n"


def _errors(row: Row) -> str:
    text = f"{number(row['error'], '.0e')} / {number(row['gradient_error'], '.0e')}"
    return text if row["trusted"] else f"✗ {text}"


def _repeated(row: Row) -> str:
    if row["trusted"]:
        return number(row["error"], ".0e")
    return f"✗ → {number(row['repeated_error'], '.0e') if row['repeated_trusted'] else '✗'}"
