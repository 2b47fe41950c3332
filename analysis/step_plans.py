"""Tables of documents about steps on GPUs as `scripts.plan_scale` plans them.

Read from results/scaling; beside them the published seconds per training step of AlgoPerf v1.0, and
steps that were measured on a GPU, from results/gpu.
"""

import functools
from collections.abc import Callable, Mapping
from typing import Any

from analysis import entry_evidence
from common import documents, files
from scripts.local.environment import ROOT
from scripts.plan_scale import steps
from scripts.plan_scale.model import overhead
from submission.algoperf_api.batch_sizes import get_batch_size
from workloads.rulesets import ruleset

SCALING = ROOT / "results" / "scaling"
# The device of the published runs.
_DEVICE = "a100_40gb"
_GIB = 2**30
# Model, ranks and mesh of the plans that are shown, with the mesh's name in prose.
_SHOWN = (
    ("GPT-2 small, DDP", "gpt2_small", 8, "ddp"),
    ("Llama 3 8B, FSDP2", "llama3-8b", 64, "fsdp"),
    ("Llama 3 8B, FSDP2", "llama3-8b", 512, "fsdp"),
    ("Llama 3 70B, FSDP2", "llama3-70b", 512, "fsdp"),
    ("Llama 3 70B, FSDP2", "llama3-70b", 4096, "fsdp"),
)


@functools.cache
def _plans() -> dict[tuple[str, int, str], dict[str, Any]]:
    rows = files.read_json(SCALING / "plans.json")["rows"]
    return {(row["model"], row["world"], row["mesh"]): row for row in rows}


def plans_table() -> str:
    """Some plans: what a rank holds and sends, and what a training step takes over AdamW's."""
    rows = []
    for title, model, world, mesh in _SHOWN:
        plan = _plans()[model, world, mesh]
        rows.append(
            {
                "model, mesh": title,
                "ranks": str(plan["world"]),
                "state per rank": f"{plan['state']['max'] / _GIB:.2g} GiB",
                "all but activations": f"{plan['memory_total'] / _GIB:.2g} GiB",
                "sent per step": f"{plan['bytes_sent'] / 1e9:.2g} GB",
                "a step over AdamW's, modelled": f"{100 * (overhead(plan) or 0):.2g} %",
            }
        )
    return documents.table(rows)


def ratios(model: str, mesh: str, *worlds: int) -> str:
    """What a training step takes to AdamW's in some worlds."""
    times_adamw = (1 + (overhead(_plans()[model, world, mesh]) or 0) for world in worlds)
    return ", or ".join(f"{ratio:.3g}" for ratio in times_adamw)


def refresh_floor() -> str:
    """The slowest rank's refreshes in a step where ranks have less than one factor per step."""
    return f"{1e3 * _plans()['llama3-8b', 512, 'fsdp']['seconds']['refresh']:.1f} ms"


def shares_table() -> str:
    """Steps of optimizers on AlgoPerf v1.0's GPUs beside published seconds per training step."""
    stored = files.read_json(SCALING / "steps.json")
    seconds = {
        (row["model"], row["optimizer"]): row["seconds"]
        for row in stored["rows"]
        if row["device"] == _DEVICE
    }
    ranks, rows = stored["settings"]["ranks"], []
    for workload in ruleset("v1.0").base_workloads:
        training = entry_evidence.seconds_per_step()[workload].dropna().median()
        average = {name: seconds[workload, name]["average"] for name in steps.OPTIMIZERS}
        shares = [
            (average["shampoo"][interval] - average["adamw"][interval]) / training
            for interval in ("10", "100")
        ]
        rows.append(
            {
                "model": workload,
                "batch": f"{ranks} x {get_batch_size(workload) // ranks:,}",
                "training step, published": f"{1e3 * training:.0f}",
                **{
                    steps.TITLES[name]: documents.number(1e3 * average[name]["100"])
                    for name in steps.OPTIMIZERS
                },
                "Shampoo over AdamW at 10, at 100": ", ".join(f"{s:.1%}" for s in shares),
            }
        )
    return documents.table(rows)


def step_on_h200(optimizer: str) -> str:
    """Milliseconds of an optimizer's step on ViT-S at a refresh every 100 steps, as measured."""
    measured = files.read_json(ROOT / "results" / "gpu" / "nvidia_h200" / "training.json")
    rows = {row["optimizer"]: row for row in measured["networks"]["vit_s16"]["rows"]}
    return documents.number(rows[optimizer]["milliseconds"]["amortised"]["100"])


TABLES: Mapping[str, Callable[[], str]] = {
    "plans": plans_table,
    "planned-gpt2": functools.partial(ratios, "gpt2_small", "ddp", 1, 8),
    "planned-llama": functools.partial(ratios, "llama3-8b", "fsdp", 64, 512),
    "refresh-floor": refresh_floor,
    "planned-shares": shares_table,
    "h200-muon": functools.partial(step_on_h200, "muon"),
    "h200-shampoo": functools.partial(step_on_h200, "ours_shampoo"),
}
