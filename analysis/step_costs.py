"""Figures in documents of what an optimizer's step was measured to cost on a CPU core.

Read from results/step_cost.
"""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from analysis.texts import span_text
from common import documents, files
from scripts.local.environment import ROOT

COSTS = ROOT / "results" / "step_cost"
_SHAMPOO, _ADAMW, _MUON = "ours_shampoo", "adamw", "muon"
_INTERVAL = "100"
_MIB = 2**20
# Networks with their names in prose.
_MODELS = {"vit_s16": "ViT-S/16", "resnet50": "ResNet-50"}


def rows(path: Path = COSTS / "cpu.json") -> dict[str, dict[str, Any]]:
    """By network and optimizer, what `scripts.benchmark.step` wrote of it."""
    measured = files.read_json(path)
    return {
        network: {row["optimizer"]: row for row in results["rows"]}
        for network, results in measured.items()
    }


def vit_step() -> str:
    """A ViT-S/16 step at a refresh every 100 steps: Shampoo's seconds, AdamW's milliseconds."""
    shampoo, adamw = (
        rows()["vit_s16"][name]["milliseconds"]["amortised"][_INTERVAL]
        for name in (_SHAMPOO, _ADAMW)
    )
    return f"{shampoo / 1e3:.1f} s, AdamW's {documents.number(adamw, '.0f')} ms"


def state_ratio() -> str:
    """How many times the memory of AdamW's state Shampoo's takes."""
    measured = rows()
    ratios = (
        measured[network][_SHAMPOO]["state_bytes"] / measured[network][_ADAMW]["state_bytes"]
        for network in _MODELS
    )
    return span_text(round(ratio, 1) for ratio in ratios)


def state_sizes() -> str:
    """MiB of state, Shampoo's against AdamW's, by network."""
    measured = rows()
    return ", ".join(
        " against ".join(
            f"{measured[network][name]['state_bytes'] / _MIB:.0f}" for name in (_SHAMPOO, _ADAMW)
        )
        + f" MiB for {title}"
        for network, title in _MODELS.items()
    )


def muon_ratios() -> str:
    """Shampoo's steps over Muon's, by network, at a refresh every 100 steps."""
    ratios = [
        by_optimizer[_SHAMPOO]["ratio_to"][_MUON]["amortised"][_INTERVAL]
        for by_optimizer in rows(COSTS / "muon" / "cpu.json").values()
    ]
    return ", ".join(f"{ratio:.2f}" for ratio in ratios)


TABLES: Mapping[str, Callable[[], str]] = {
    "vit-step": vit_step,
    "state-ratio": state_ratio,
    "state-sizes": state_sizes,
    "muon-steps": muon_ratios,
}
