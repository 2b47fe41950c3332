"""Memory and overhead against the number of ranks, drawn."""

import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")
from matplotlib.figure import Figure

from common import files
from scripts.plan_scale.model import overhead

# Okabe and Ito's, which people with colour-blindness tell apart.
_COLORS = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#D55E00", "#56B4E9")
_MESHES = {"fsdp": ("-", "o"), "ddp": ("--", "s"), "hsdp:8": (":", "^"), "hsdp:64": (":", "D")}


def write(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """Draws all (model, mesh) with at least two worlds, as a PNG."""
    lines: dict[tuple[str, str], list[Mapping[str, Any]]] = {}
    for row in sorted(rows, key=lambda row: row["world"]):
        lines.setdefault((row["model"], row["mesh"]), []).append(row)
    lines = {key: each for key, each in lines.items() if len(each) > 1}
    colors = dict(zip(dict.fromkeys(model for model, _ in lines), _COLORS, strict=False))
    figure = Figure(figsize=(10, 4.2), layout="constrained")
    state, memory, slower = figure.subplots(1, 3)
    for (model, mesh), each in lines.items():
        line, marker = _MESHES[mesh]
        look = {"color": colors[model], "linestyle": line, "marker": marker, "markersize": 4}
        worlds = [row["world"] for row in each]
        state.plot(worlds, [row["state"]["max"] / 2**30 for row in each], **look)
        memory.plot(worlds, [row["memory_total"] / 2**30 for row in each], **look)
        known = [(row["world"], overhead(row)) for row in each]
        known = [(world, 100 * value) for world, value in known if value is not None]
        label = f"{model}, {mesh}"
        slower.plot([x for x, _ in known], [y for _, y in known], label=label, **look)
    panels = {state: "state of the fullest rank, GiB", memory: "all memory but activations, GiB"}
    panels[slower] = "training step over AdamW's, modelled, %"
    for axes, title in panels.items():
        axes.set(xscale="log", yscale="log", xlabel="ranks", title=title)
        axes.set_xticks([1, 8, 64, 512, 4096], ["1", "8", "64", "512", "4096"])
        axes.minorticks_off()
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(color="#EEEEEE")
        axes.title.set_fontsize(10)
    memory.axhline(80, color="#767676", linewidth=0.8)
    memory.annotate("80 GiB", (1, 80), xytext=(0, 3), textcoords="offset points", fontsize=8)
    figure.legend(loc="outside lower center", ncols=4, frameon=False, fontsize=8)
    stream = io.BytesIO()
    figure.savefig(stream, dpi=150, metadata={"Software": None})
    with files.atomic_open(path, "wb") as out:
        out.write(stream.getvalue())
