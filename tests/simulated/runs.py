"""Runs of the optimizer on a pretended device beside the same on the CPU, one per option set."""

import dataclasses
from collections.abc import Iterable
from typing import Any
from unittest import mock

import torch
from torch import Tensor

from submission.shampoo import Shampoo
from submission.shampoo.refresher import Refresher
from tests.simulated.device import simulated
from tests.simulated.record import Wait
from tests.simulated.tensors import on_device, values_of
from tests.submission.shampoo.streams import OPTIONS, VARIANTS

# The second and the third have blocks of one shape, in one stack.
SHAPES = [(7,), (12, 8), (6, 2, 2, 2), (40, 3)]
STEPS = 9
# On a CPU "auto" is eigh: the same solvers on both, so that values can be compared.
SOLVERS = {"root_solver": "products", "basis_solver": "cholesky_qr"}
# What no recorded trajectory needs, but a device may stumble over.
_MORE: dict[str, dict[str, Any]] = {
    "eigh": {"root_solver": "eigh"},
    "maximize, not fused": {"maximize": True, "fused": False},
    "tensor lr": {"lr": torch.tensor(0.01)},
    "tensor lr, independent": {"lr": torch.tensor(0.01), "decay_mode": "independent"},
    "tensor lr, schedule_free": {"lr": torch.tensor(0.01), "averaging": "schedule_free"},
}
_ADJUSTED: dict[str, dict[str, Any]] = {
    # Such factors are too indefinite for iterations at a small damping.
    "bfloat16 state": {"damping": 0.1},
}
OPTION_SETS = {
    name: {"block_size": 8, **SOLVERS, **options, **_ADJUSTED.get(name, {})}
    for name, options in {**VARIANTS, **_MORE}.items()
}
FACTORISATIONS = {"_linalg_eigh", "linalg_qr"}


@dataclasses.dataclass(frozen=True)
class Step:
    """One step on the device.

    Attributes:
      refreshes: how many ranges of factors were refreshed.
      by_products: whether none of them took an eigh or a QR.
      operators: how many were queued.
      waits: of the host, for an empty queue.
      looks: of the host, at flags.
    """

    refreshes: int
    by_products: bool
    operators: int
    waits: tuple[Wait, ...]
    looks: tuple[Wait, ...]


@dataclasses.dataclass(frozen=True)
class Run:
    """All steps of an option set.

    Attributes:
      steps: but those that make stacks, as the first does and the second for late parameters.
      difference: the largest of a weight, relative to the largest of its tensor.
      failed: roots or bases that could not be trusted on the device.
    """

    steps: list[Step]
    difference: float
    failed: int

    @property
    def plain(self) -> list[Step]:
        """Steps without a refresh."""
        return [step for step in self.steps if not step.refreshes]

    @property
    def refreshing(self) -> list[Step]:
        """Steps with refreshes."""
        return [step for step in self.steps if step.refreshes]

    @property
    def by_products(self) -> list[Step]:
        """Steps with refreshes that take only products, factorise nothing but by Cholesky."""
        return [step for step in self.refreshing if step.by_products]


def start(seed: int = 0) -> list[Tensor]:
    """Initial weights."""
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(shape, generator=generator) for shape in SHAPES]


def gradients(seed: int) -> list[Tensor | None]:
    """Gradients of one step; some parameters' come late or are missing."""
    generator = torch.Generator().manual_seed(100 + seed)
    grads: list[Tensor | None] = [torch.randn(shape, generator=generator) for shape in SHAPES]
    if seed == 0:
        grads[2:] = [None, None]
    if seed in (3, 7):
        grads[1] = None
    return grads


def optimizer_of(
    weights: list[Tensor], options: dict[str, Any], on: Any = lambda x: x
) -> tuple[Shampoo, list[torch.nn.Parameter]]:
    """An optimizer and its parameters, where `on` puts tensors."""
    parameters = [torch.nn.Parameter(on(weight.clone())) for weight in weights]
    moved = {k: on(v.clone()) if isinstance(v, Tensor) else v for k, v in options.items()}
    return Shampoo(parameters, **{**OPTIONS, **moved}), parameters


def set_gradients(parameters: list[torch.nn.Parameter], seed: int, on: Any = lambda x: x) -> None:
    """Gives parameters the gradients of a step."""
    for parameter, grad in zip(parameters, gradients(seed), strict=True):
        parameter.grad = None if grad is None else on(grad)


def steps(
    optimizer: Shampoo,
    parameters: list[torch.nn.Parameter],
    seeds: Iterable[int],
    on: Any = lambda x: x,
) -> None:
    """Steps along the gradients of these seeds."""
    for seed in seeds:
        set_gradients(parameters, seed, on)
        optimizer.step()


def difference(tensors: list[Any], others: list[Any]) -> float:
    """The largest difference, relative to the largest value of its tensor."""
    pairs = zip(tensors, others, strict=True)
    return max(float((values_of(a) - b).abs().max() / b.abs().max()) for a, b in pairs)


def _go_on(
    optimizer: Shampoo, parameters: list[torch.nn.Parameter], seed: int, on: Any = lambda x: x
) -> None:
    """Prepares a step; from step 6 on no factor is due, so that the last steps are plain."""
    set_gradients(parameters, seed, on)
    if seed == 6:
        last = {"refresh": "together", "refresh_interval": 1000, "refresh_step": 2000}
        optimizer.param_groups[0].update(last)


def run(options: dict[str, Any], steps: int = STEPS) -> Run:
    """Steps on the device, and their values against those of the CPU."""
    optimizer, expected = optimizer_of(start(), options)
    for seed in range(steps):
        _go_on(optimizer, expected, seed)
        optimizer.step()
    optimizer.finish()
    refreshes, original = [], Refresher._start

    def counting(self: Refresher, *args: Any, **kwargs: Any) -> None:
        refreshes.append(1)
        original(self, *args, **kwargs)

    taken, stacks = [], None
    with simulated() as record, mock.patch.object(Refresher, "_start", counting):
        optimizer, parameters = optimizer_of(start(), options, on_device)
        for seed in range(steps):
            _go_on(optimizer, parameters, seed, on_device)
            refreshes.clear()
            record.clear()
            optimizer.step()
            by_products = not FACTORISATIONS & record.names
            stacks, before = optimizer._group_states()[0].stacks, stacks
            if stacks is not before:
                continue
            counts = len(refreshes), by_products, record.operators
            taken.append(Step(*counts, tuple(record.waits), tuple(record.looks)))
        optimizer.finish()
        failed = optimizer.diagnostics()["failed_roots"]
        return Run(taken, difference(parameters, [e.detach() for e in expected]), failed)
