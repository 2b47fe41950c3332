"""The tables of `scripts.benchmark.roots`, as Markdown."""

from collections.abc import Callable, Sequence
from typing import Any

from common import documents
from common.documents import number

Row = dict[str, Any]


def report(settings: Row, results: dict[str, list[Row]]) -> str:
    """All tables as Markdown."""
    where = "emulated" if settings["device"] == "cpu" else "on this GPU"
    machine = f"{settings['device']}, {settings['cpu_model_name']}, {settings['threads']} thread(s)"
    lines = [
        "# Inverse roots: error, trust, time",
        "",
        "By `python -m scripts.benchmark.roots`,",
        f"torch {settings['packages']['torch']}, {machine}.",
        f"Damping is {settings['damping']:g} of the largest eigenvalue unless a table says more.",
        "",
        "Errors are relative, in the Frobenius norm and against float64. In a cell: of the root /",
        "of the root times a gradient with covariance A. Matrices are handed over in float32, and",
        f'"eigh, float64" shows what that costs. "TF32": float32 with products in TF32, {where}.',
        "A cross: not trusted, that is, the root's residual was too large for it to be used.",
    ]
    for exponent in dict.fromkeys(row["exponent"] for row in results["times"]):
        title = f"A^(-1/{round(1 / exponent)})"
        lines += ["", f"## {title}: log-uniform spectra, d and condition number", ""]
        rows = [row for row in results["graded"] if row["exponent"] == exponent]
        lines.append(_table(rows, "input", "input", _both))
        lines += ["", f"## {title}: damping, at d = {results['dampings'][0]['size']}", ""]
        rows = [row for row in results["dampings"] if row["exponent"] == exponent]
        lines.append(_table(rows, "damping", "damping", _both))
        lines += ["", f"## {title}: inputs known to break solvers", ""]
        lines += ["Error of the root; after an arrow, of the one by eigh that takes its place.", ""]
        rows = [row for row in results["failures"] if row["exponent"] == exponent]
        lines.append(_table(rows, "input", "input", _repeated))
        lines += ["", f"## {title}: {_clock(settings)} ms per matrix", ""]
        rows = [row for row in results["times"] if row["exponent"] == exponent]
        lines.append(_table(rows, "size", "d", lambda row: f"{row['milliseconds']['median']:.3g}"))
    return "\n".join(lines) + "\n"


def _clock(settings: Row) -> str:
    return "CPU" if settings["device"] == "cpu" else "device"


def _table(rows: Sequence[Row], key: str, title: str, cell: Callable[[Row], str]) -> str:
    """One line per value of `key`, one column per method."""
    methods = list(dict.fromkeys(row["method"] for row in rows))
    lines: dict[Any, dict[str, str]] = {}
    for row in rows:
        lines.setdefault(row[key], {})[row["method"]] = cell(row)
    body = [
        [f"{value:g}" if isinstance(value, float) else value, *(line[m] for m in methods)]
        for value, line in lines.items()
    ]
    return documents.table(body, [title, *methods])


def _both(row: Row) -> str:
    text = f"{number(row['error'], '.0e')} / {number(row['gradient_error'], '.0e')}"
    return text if row["trusted"] else f"✗ {text}"


def _repeated(row: Row) -> str:
    if row["trusted"]:
        return number(row["error"], ".0e")
    return f"✗ → {number(row['repeated_error'], '.0e') if row['repeated_trusted'] else '✗'}"
