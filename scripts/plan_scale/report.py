"""Plans as text and figures: one in detail, many as a table and as curves over ranks."""

import io
import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from common import documents, files
from scripts.benchmark.model_shapes import ALGOPERF, LLAMAS, NETWORKS
from scripts.plan_scale.model import Question, overhead

_GIB, _MIB = 2**30, 2**20
Row = Mapping[str, Any]

# Okabe and Ito's, which people with colour-blindness tell apart.
_COLORS = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#D55E00", "#56B4E9")
_MESHES = {"fsdp": ("-", "o"), "ddp": ("--", "s"), "hsdp:8": (":", "^"), "hsdp:64": (":", "D")}


def cases() -> list[tuple[str, int, str]]:
    """(model, world, mesh) of the committed sweep."""
    small = ("finewebedu_lm", "small_200k")
    sweep = [(model, 8, "ddp") for model in (*ALGOPERF, *NETWORKS) if model not in small]
    for model in ("vit_s16", "gpt2_small"):
        sweep += [(model, world, "ddp") for world in (1, 2, 4, 16, 64)]
    for model in LLAMAS:
        sweep += [(model, world, "fsdp") for world in (1, 8, 64, 512)]
    sweep += [("llama3-8b", world, "ddp") for world in (8, 64)]
    sweep += [("llama3-8b", world, "hsdp:8") for world in (64, 512)]
    return [*sweep, ("llama3-70b", 4096, "fsdp"), ("llama3-70b", 512, "hsdp:64")]


def one(title: str, question: Question, plan: Row) -> str:
    """One plan in detail, as text."""
    seconds, refresh, hardware = plan["seconds"], plan["refresh"], question.hardware
    share = f"{plan['preconditioned']:.1%} of them have factors"
    fits = "yes" if plan["memory_total"] <= hardware.capacity else "NO"
    state_max, state_mean = (plan["state"][name] / _MIB for name in ("max", "mean"))
    mean, worst = (1e3 * refresh[name] for name in ("seconds_mean", "seconds_worst_step"))
    spread = f"(a rank's mean {mean:.3f}, worst step {worst:.3f})"
    lines = [
        title,
        "",
        f"parameters             {plan['parameters']:,}, {share}",
        f"owners                 {plan['owners']}; costliest over mean {plan['balance']:.3f}",
        f"ranks built            {', '.join(map(str, plan['ranks_built']))}",
        "",
        "memory of the fullest of these ranks, MiB",
        *(f"  {name:<20} {size / _MIB:>12,.1f}" for name, size in plan["memory"].items()),
        f"  {'all':<20} {plan['memory_total'] / _MIB:>12,.1f}",
        f"  AdamW's, sharded alike {plan['adamw_memory_total'] / _MIB:>10,.1f}",
        f"  fits into {hardware.title}: {fits}, activations aside",
        f"state, over all ranks: at most {state_max:,.1f} MiB, mean {state_mean:,.1f} MiB",
        "",
        "a step of one rank",
        f"  products             {plan['flops'] / 1e9:>12,.2f} GFLOP",
        f"  refreshes, mean      {refresh['flops_mean'] / 1e9:>12,.2f} GFLOP",
        f"  memory traffic       {plan['bytes'] / 1e9:>12,.2f} GB",
        f"  sent                 {plan['bytes_sent'] / 1e6:>12,.2f} MB",
        "",
        f"modelled, {hardware.title}, {question.efficiency:.0%} of its peaks, ms",
        f"  step                 {1e3 * seconds['step']:>12.3f}",
        f"  refresh, slowest rank{1e3 * seconds['refresh']:>12.3f}  {spread}",
        f"  communication        {1e3 * seconds['communication']:>12.3f}",
        f"  Shampoo              {1e3 * seconds['total']:>12.3f}",
        f"  AdamW                {1e3 * seconds['adamw']:>12.3f}",
    ]
    slower = overhead(plan)
    if slower is not None:
        lines += [
            f"  forward and backward {1e3 * plan['training_seconds']:>12.3f}",
            f"a training step takes {slower:.1%} longer than with AdamW",
        ]
    peaks = (
        f"{hardware.float32 / 1e12:g} TFLOP/s float32, {hardware.bfloat16 / 1e12:g} bfloat16, "
        f"memory {hardware.memory / 1e9:g} GB/s, link {hardware.link / 1e9:g} GB/s, "
        f"network {hardware.network / 1e9:g} GB/s"
    )
    return "\n".join(
        [
            *lines,
            "",
            f"hardware: {hardware.source}; per rank {peaks}",
            "left out: the host's own time, latencies, contention, overlap, workspace of",
            "refreshes, and what AdamW does too",
        ]
    )


def table(settings: Row, rows: Sequence[Row]) -> str:
    """The sweep as Markdown."""

    def milliseconds(row: Row, name: str) -> str:
        return f"{1e3 * row['seconds'][name]:.2f}"

    plans = [{"model": row["model"], "ranks": f"{row['world']} {row['mesh']}"} for row in rows]
    sizes = [
        {
            "parameters, with factors": (
                f"{row['parameters'] / 1e6:,.1f} M, {row['preconditioned']:.0%}"
            ),
            "balance": f"{row['balance']:.2f}",
            "state per rank, GiB": f"{row['state']['max'] / _GIB:.3f}",
            "memory per rank, GiB (AdamW's)": (
                f"{row['memory_total'] / _GIB:.2f} ({row['adamw_memory_total'] / _GIB:.2f})"
            ),
            "sent per step, MB": f"{row['bytes_sent'] / 1e6:,.1f}",
        }
        for row in rows
    ]
    costs = [
        {
            "refresh, GFLOP": f"{row['refresh']['flops_mean'] / 1e9:,.2f}",
            "step (AdamW's)": f"{milliseconds(row, 'step')} ({milliseconds(row, 'adamw')})",
            "refresh": milliseconds(row, "refresh"),
            "messages": milliseconds(row, "communication"),
            "overhead": documents.number(overhead(row), ".1%"),
        }
        for row in rows
    ]
    lines = [
        "# Shampoo from one rank to thousands",
        "",
        "By `python -m scripts.plan_scale --sweep`. Bytes and operations are counted on the",
        "optimizer's own code, run on meta tensors; times are modelled, not measured, as",
        "[docs/scaling.md](../../docs/scaling.md) says. Assumed:",
        f"{', '.join(f'{k} {v}' for k, v in settings.items())}. Overhead is that of a training",
        "step over AdamW's, known for language models only. State is the largest of all ranks;",
        "memory includes weights, gradients, buffers and a step's temporaries, no activations.",
        *("", "## Memory and messages", ""),
        documents.table([plan | cells for plan, cells in zip(plans, sizes, strict=True)]),
        *("", "## A step, modelled, in ms", ""),
        documents.table([plan | cells for plan, cells in zip(plans, costs, strict=True)]),
    ]
    return "\n".join(lines) + "\n"


def draw(path: Path, rows: Sequence[Row]) -> None:
    """Memory and overhead of all (model, mesh) with at least two worlds, as a PNG."""
    curves: dict[tuple[str, str], list[Row]] = {}
    for row in sorted(rows, key=lambda row: row["world"]):
        curves.setdefault((row["model"], row["mesh"]), []).append(row)
    curves = {key: points for key, points in curves.items() if len(points) > 1}
    colors = dict(zip(dict.fromkeys(model for model, _ in curves), _COLORS, strict=False))
    figure = Figure(figsize=(10, 4.2), layout="constrained")
    panels: dict[str, Callable[[Row], float]] = {
        "state of the fullest rank, GiB": lambda row: row["state"]["max"] / _GIB,
        "all memory but activations, GiB": lambda row: row["memory_total"] / _GIB,
        "training step over AdamW's, modelled, %": lambda row: _percent(overhead(row)),
    }
    all_axes = figure.subplots(1, 3)
    for axes, (title, value) in zip(all_axes, panels.items(), strict=True):
        for (model, mesh), points in curves.items():
            line, marker = _MESHES[mesh]
            axes.plot(
                [row["world"] for row in points],
                [value(row) for row in points],
                label=f"{model}, {mesh}" if axes is all_axes[-1] else None,
                color=colors[model],
                linestyle=line,
                marker=marker,
                markersize=4,
            )
        axes.set(xscale="log", yscale="log", xlabel="ranks", title=title)
        axes.set_xticks([1, 8, 64, 512, 4096], ["1", "8", "64", "512", "4096"])
        axes.minorticks_off()
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(color="#EEEEEE")
        axes.title.set_fontsize(10)
    all_axes[1].axhline(80, color="#767676", linewidth=0.8)
    all_axes[1].annotate("80 GiB", (1, 80), xytext=(0, 3), textcoords="offset points", fontsize=8)
    figure.legend(loc="outside lower center", ncols=4, frameon=False, fontsize=8)
    stream = io.BytesIO()
    figure.savefig(stream, dpi=150, metadata={"Software": None})
    with files.atomic_open(path, "wb") as out:
        out.write(stream.getvalue())


def _percent(value: float | None) -> float:
    return math.nan if value is None else 100 * value
