"""Step times of optimizers by the roofline: a plain step, a refresh, averages over intervals."""

import dataclasses
import functools
from collections.abc import Mapping, Sequence
from typing import Any

import torch

from common import documents
from scripts.benchmark import model_shapes
from scripts.benchmark.counting import Kernel, WorkCount
from scripts.local.muon import is_matrix
from scripts.plan_scale import model
from scripts.plan_scale.hardware import HARDWARE, Bounds, Hardware
from scripts.plan_scale.model import Built, Question
from scripts.plan_scale.ranks import World
from submission.algoperf_api.batch_sizes import get_batch_size
from submission.shampoo.config import DistributedConfig, ShampooConfig

Row = dict[str, Any]
INTERVALS = (1, 10, 100)
OPTIMIZERS = ("adamw", "muon", "shampoo")
# Of the table: AlgoPerf's own GPUs first, and as many of them as it has.
DEVICES = ("a100_40gb", "a100", "h100", "h200")
RANKS = 4


@dataclasses.dataclass(frozen=True)
class Setting:
    """What all step times of a table share.

    Attributes:
      ranks: under DDP.
      efficiency: fraction of the peaks that kernels reach; assumed.
      with_tf32: whether float32 products may run on tensor cores, as AlgoPerf has it from v1.0 on.
      refresh: of Shampoo.
    """

    ranks: int = RANKS
    efficiency: float = 0.5
    with_tf32: bool = True
    refresh: str = ShampooConfig.refresh

    def question(self, name: str, interval: int, hardware: Hardware) -> Question:
        """That of Shampoo with its default options at an interval."""
        config: dict[str, Any] = {"refresh_interval": interval, "refresh": self.refresh}
        return Question(
            model=name,
            world=World.of(self.ranks, "ddp"),
            config=ShampooConfig(**config),
            distributed=DistributedConfig(),
            parameter_dtype=torch.float32,
            hardware=hardware,
            efficiency=self.efficiency,
            with_tf32=self.with_tf32,
        )


def rows(names: Sequence[str], hardware: Mapping[str, Hardware], setting: Setting) -> list[Row]:
    """A row per model, device and optimizer.

    Returns:
      `model`, `device`, `optimizer`, `seconds` and `bound`: both have `plain` and `refresh`, which
      takes all of a rank's factors anew; `seconds` also `messages`, that are part of a plain step,
      and `average` by interval as text. An optimizer that never refreshes has None.
    """
    results: list[Row] = []
    for name in names:
        # Ranks do not depend on the hardware.
        any_hardware = next(iter(hardware.values()))
        built = {i: model.build(setting.question(name, i, any_hardware)) for i in INTERVALS}
        for device, figures in hardware.items():
            for optimizer in OPTIMIZERS:
                times = (
                    _shampoo(name, figures, setting, built)
                    if optimizer == "shampoo"
                    else _plain(kernels(name, optimizer), figures, setting)
                )
                results.append({"model": name, "device": device, "optimizer": optimizer, **times})
    return results


def _shampoo(name: str, hardware: Hardware, setting: Setting, built: Mapping[int, Built]) -> Row:
    plans = {
        interval: model.answer(setting.question(name, interval, hardware), ranks)
        for interval, ranks in built.items()
    }
    last, every = plans[max(plans)], plans[min(plans)]
    messages = last["seconds"]["communication"]
    bounds = last["step_bounds"] | {"messages": messages}
    return {
        "seconds": {
            "plain": sum(bounds.values()),
            "messages": messages,
            "refresh": every["seconds"]["refresh"],
            "average": {str(i): plan["seconds"]["total"] for i, plan in plans.items()},
        },
        "bound": {
            "plain": max(bounds, key=lambda part: bounds[part]),
            "refresh": Bounds(**every["refresh"]["bounds"]).main,
        },
    }


def _plain(step: Sequence[Kernel], hardware: Hardware, setting: Setting) -> Row:
    """Of an optimizer without refreshes, that every rank runs on all parameters."""
    bounds = hardware.bounds(step, setting.efficiency, setting.with_tf32)
    average = dict.fromkeys(map(str, INTERVALS), bounds.total)
    return {
        "seconds": {"plain": bounds.total, "messages": 0.0, "refresh": None, "average": average},
        "bound": {"plain": bounds.main, "refresh": None},
    }


@functools.cache
def kernels(name: str, optimizer: str) -> Sequence[Kernel]:
    """What a step of "adamw" or "muon" takes, in float32, on a model's parameters."""
    shapes = list(model_shapes.shapes(name).values())
    matrices = [torch.Size(s) for s in shapes if optimizer == "muon" and is_matrix(s)]
    others = sum(torch.Size(shape).numel() for shape in shapes) - sum(s.numel() for s in matrices)
    return [*_muon(matrices), model.adamw_kernel(others, torch.float32)]


def _muon(shapes: Sequence[torch.Size]) -> list[Kernel]:
    """Of `torch.optim.Muon` after its first step, dimension 0 by the product of the others."""
    if not shapes:
        return []
    matrices = [torch.nn.Parameter(torch.empty(s, device="meta").flatten(1)) for s in shapes]
    for matrix in matrices:
        matrix.grad = torch.empty_like(matrix)
    optimizer = torch.optim.Muon(matrices, adjust_lr_fn="match_rms_adamw")
    optimizer.step()
    with WorkCount() as count:
        optimizer.step()
    return count.kernels


TITLES = {"adamw": "fused AdamW", "muon": "torch.optim.Muon", "shampoo": "Shampoo"}


def table(rows_of_device: Sequence[Row], ranks: int) -> str:
    """Milliseconds of the rows of one device, as a Markdown table."""

    def milliseconds(value: float | None) -> str:
        return documents.number(None if value is None else 1e3 * value)

    lines = []
    for row in rows_of_device:
        seconds, bound = row["seconds"], row["bound"]
        lines.append(
            {
                "model": row["model"],
                "batch per rank": f"{get_batch_size(row['model']) // ranks:,}",
                "optimizer": TITLES[row["optimizer"]].removeprefix("torch.optim."),
                "plain": milliseconds(seconds["plain"]),
                "of it messages": milliseconds(seconds["messages"] or None),
                "refresh": milliseconds(seconds["refresh"]),
                **{f"at {i}": milliseconds(t) for i, t in seconds["average"].items()},
                "bound": ", ".join(filter(None, (bound["plain"], bound["refresh"]))),
            }
        )
    return documents.table(lines)


def page(setting: Setting, all_rows: Sequence[Row]) -> str:
    """All devices as Markdown."""
    products = "TF32 where the optimizer allows it" if setting.with_tf32 else "float32"
    lines = [
        "# Steps of optimizers on GPUs, as planned",
        "",
        "By `python -m scripts.plan_scale --steps`. Modelled, not measured: operators of a step",
        "are counted on the code that trains, on meta tensors, and each is bound by its products,",
        f"by memory (both at {setting.efficiency:.0%} of the maker's peaks) or by its launch.",
        f"{setting.ranks} ranks under DDP, whose messages wait for a link within the node; weights",
        f"in float32, products in {products}. Milliseconds of one step of the",
        "optimizer, without forward and backward pass and the averaging of gradients, so that the",
        "batch, AlgoPerf's, changes none of them. A refresh takes all factors of a rank anew; at",
        "an interval a step costs what it does on average with refreshes that are",
        f"{setting.refresh}, where all ranks wait in each step for the one with the most to do.",
        "AdamW and Muon, `torch.optim.Muon`, take all parameters on every rank, as torch's do.",
        "`bound` is what most of the time of a plain step, and of a refresh, is spent on. Left",
        "out: the host's own time, which may exceed that of launches, and overlap.",
        "",
        "Devices, with sources in `scripts/plan_scale/hardware.json`:",
        "",
        documents.table(_figures(HARDWARE[name]) for name in _devices(all_rows)),
    ]
    for device in _devices(all_rows):
        chosen = [row for row in all_rows if row["device"] == device]
        lines += ["", f"## {HARDWARE[device].title}", "", table(chosen, setting.ranks)]
    return "\n".join(lines) + "\n"


def _devices(all_rows: Sequence[Row]) -> list[str]:
    return list(dict.fromkeys(row["device"] for row in all_rows))


def _figures(hardware: Hardware) -> dict[str, str]:
    return {
        "device": hardware.title,
        "float32, TF32, bfloat16, TFLOP/s": ", ".join(
            f"{peak / 1e12:g}"
            for peak in (hardware.float32, hardware.tensor_float32, hardware.bfloat16)
        ),
        "memory, GB/s": f"{hardware.memory / 1e9:,.0f}",
        "link, GB/s": f"{hardware.link / 1e9:g}",
        "launch, us": f"{hardware.launch * 1e6:g}",
    }
