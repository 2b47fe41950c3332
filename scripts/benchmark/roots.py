"""Measures error, reliability and time of the inverse roots.

    python -m scripts.benchmark.roots --sizes=32,256,1024 --output=results/numerics

Takes A^(-1/4) and A^(-1/2) with every solver of `submission.shampoo.roots`, of graded spectra, of
factors of a stand-in in training and of inputs that are known to break solvers, and compares with
float64. Writes roots.json, one row per input, exponent, damping
and method, and roots.md (on a GPU roots_cuda.json and roots_cuda.md). Times on a CPU are the
process's CPU time, taken in rotation.
"""

import contextlib
import dataclasses
import functools
import itertools
import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from absl import flags
from torch import Tensor

from common import cli, files, progress
from scripts.benchmark import machine, report, root_inputs
from scripts.benchmark.clock import summary, timed
from scripts.benchmark.machine import LoadMeter
from scripts.benchmark.real_factors import real_factors
from scripts.benchmark.report import Row
from scripts.benchmark.root_inputs import RootInput
from scripts.benchmark.tensor_float32 import TensorFloat32
from submission.plan import minimax, solvers
from submission.shampoo import roots
from submission.shampoo.roots import InverseRoots

FLAGS = flags.FLAGS
EXPONENTS = (0.25, 0.5)
# A size from which on these conditions alone are measured, and the size of what is not swept.
LARGE, LARGE_CONDITIONS, MIDDLE = 1024, (1e4, 1e8), 256
# As a fraction of the largest eigenvalue, where it is not swept.
DAMPING = 1e-6
_STACKS = (1, 64)
TOLERANCE = solvers.TOLERANCES[32]
SWEEP = (1e-3, 1e-4, 1e-5, 1e-6, 1e-7, 1e-8)
# What products are counted for.
POWERS, DAMPINGS = (1, 2, 3, 4), (1e-3, 1e-4, 1e-5, 1e-6)


@dataclasses.dataclass(frozen=True)
class Method:
    """A solver and the precision it runs in: "float32", "float64" or "TF32"."""

    solver: str
    precision: str

    @property
    def name(self) -> str:
        return self.solver if self.precision == "float32" else f"{self.solver}, {self.precision}"

    def __call__(
        self, matrices: Tensor, exponent: float, damping: float, repeat: bool = False
    ) -> InverseRoots:
        """Inverse roots; with `repeat`, by eigh where an iteration failed."""
        if self.precision == "float64":
            matrices = matrices.double()
        # On CUDA it is for the caller to repeat.
        solver = "eigh" if repeat and matrices.is_cuda else self.solver
        with self._products(matrices.device):
            if solver == "eigh" or repeat:
                return roots.inverse_root(matrices, exponent, damping, solver)
            return roots.by_products(matrices, exponent, damping)

    def _products(self, device: torch.device) -> contextlib.AbstractContextManager[Any]:
        if self.precision != "TF32":
            return contextlib.nullcontext()
        return _tf32_on_cuda() if device.type == "cuda" else TensorFloat32()


METHODS = (
    Method("eigh", "float32"),
    Method("eigh", "float64"),
    Method("products", "float32"),
    Method("products", "TF32"),
)


@contextlib.contextmanager
def _tf32_on_cuda() -> Iterator[None]:
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("high")
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)


def define_flags() -> None:
    """Declares the command line."""
    flags.DEFINE_list("sizes", ["32", "64", "128", "256", "512", "1024"], "dimensions d")
    flags.DEFINE_list("conditions", ["1e2", "1e4", "1e6", "1e8", "1e12"], "condition numbers")
    flags.DEFINE_integer("threads", 1, "torch's threads", lower_bound=1)
    flags.DEFINE_integer("repeats", 3, "times that each time is taken", lower_bound=1)
    flags.DEFINE_string("workload", "mnist_vit", "the stand-in whose factors are measured")
    flags.DEFINE_integer("steps", 20, "for which it is trained before", lower_bound=1)
    machine.define_flags("runs/numerics")


def main(argv: Sequence[str]) -> None:
    """Measures what the flags describe."""
    del argv
    device = machine.device(FLAGS.device)
    sizes = [int(size) for size in cli.numbers("sizes", FLAGS.sizes, 2, integers=True)]
    conditions = cli.numbers("conditions", FLAGS.conditions, 1)
    torch.set_num_threads(FLAGS.threads)
    output = files.make_directory(Path(FLAGS.output))
    graded = [
        root_inputs.log_uniform(size, condition)
        for size in sizes
        for condition in (LARGE_CONDITIONS if size >= LARGE else conditions)
    ]
    middle = max((size for size in sizes if size <= MIDDLE), default=min(sizes))
    trained = real_factors(FLAGS.workload, FLAGS.steps)
    swept = root_inputs.log_uniform(middle, 1e8)
    failures = root_inputs.failures(max(8, min(64, middle)))
    load = LoadMeter()
    pairs = list(itertools.product(EXPONENTS, METHODS))
    inputs = len(graded) + len(trained) + len(SWEEP) + len(failures)
    total = len(pairs) * (inputs + len(sizes) * len(_STACKS))
    with progress.bar(total, "roots", "root") as bar:

        def measured(inputs: Sequence[RootInput], damping: float, repeat: bool) -> list[Row]:
            return [
                _accuracy(root_input, exponent, damping, method, device, repeat, bar)
                for root_input in inputs
                for exponent, method in pairs
            ]

        results = {
            "graded": measured(graded, DAMPING, repeat=False),
            "trained": measured(trained, DAMPING, repeat=False),
            "dampings": [row for d in SWEEP for row in measured([swept], d, repeat=False)],
            "failures": measured(failures, DAMPING, repeat=True),
            "times": [
                row
                for size in sizes
                for most in _STACKS
                for row in _times(size, most, DAMPING, device, FLAGS.repeats, bar)
            ],
            "products": _counts(),
        }
    training = {"workload": FLAGS.workload, "steps": FLAGS.steps}
    settings = {"damping": DAMPING, **training, **machine.conditions(device), **load.report()}
    path = output / ("roots.json" if device.type == "cpu" else f"roots_{device.type}.json")
    files.write_json(path, {"settings": settings, **results})
    files.write_text(path.with_suffix(".md"), report.roots(settings, results))
    print(f"wrote {path} and {path.with_suffix('.md').name}")


def _accuracy(
    root_input: RootInput,
    exponent: float,
    damping: float,
    method: Method,
    device: torch.device,
    repeat: bool,
    bar: Any,
) -> Row:
    """Errors of one root, relative and in the Frobenius norm, None where it is not finite.

    `error` is that of the root; `gradient_error` that of its product with a matrix whose columns
    have covariance A; with `repeat`, `repeated_error` that of the root that training gets.
    """
    bar.set_postfix_str(f"({root_input.name}, {method.name})")
    matrices = root_input.matrix[None].to(device)
    result = method(matrices, exponent, damping)
    exact = root_input.power(-exponent, damping)
    gradient = root_input.gradient()
    root = result.roots[0].double().cpu()
    row: Row = {
        "input": root_input.name,
        "size": len(exact),
        "exponent": exponent,
        "damping": damping,
        "method": method.name,
        "error": _finite(_relative(root - exact, exact)),
        "gradient_error": _finite(_relative((root - exact) @ gradient, exact @ gradient)),
        "residual": _finite(result.residual.item()),
        "condition": _finite(result.condition.item()),
        "trusted": bool(result.trusted),
    }
    if repeat:
        final = method(matrices, exponent, damping, repeat=True)
        error = _relative(final.roots[0].double().cpu() - exact, exact)
        row |= {"repeated_error": _finite(error), "repeated_trusted": bool(final.trusted)}
    bar.update()
    return row


def _relative(difference: Tensor, exact: Tensor) -> float:
    # Both may be beyond the range in which squares are finite.
    scale = exact.abs().max().clamp_min(torch.finfo(exact.dtype).tiny)
    ratio = torch.linalg.norm(difference / scale) / torch.linalg.norm(exact / scale)
    return float(ratio)


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None


def _counts() -> list[Row]:
    """Matrix products of each iteration, estimates of bounds and checks left out."""
    return [
        {
            "exponent": 1 / power,
            "damping": damping,
            "products": minimax.products(power, minimax.steps(power, damping, TOLERANCE)),
        }
        for power in POWERS
        for damping in DAMPINGS
    ]


def _times(
    size: int, most: int, damping: float, device: torch.device, repeats: int, bar: Any
) -> list[Row]:
    """Milliseconds per matrix of a stack of at most `most`; the methods run in rotation."""
    stack = min(most, max(1, 2**20 // size**2))
    matrices = root_inputs.log_uniform(size, 1e6).matrix.repeat(stack, 1, 1).to(device)
    # What TF32 costs is not what its emulation costs.
    methods = [m for m in METHODS if m.precision != "TF32" or device.type == "cuda"]
    pairs = list(itertools.product(EXPONENTS, methods))
    samples: dict[Any, list[float]] = {pair: [] for pair in pairs}
    for exponent, method in pairs * (repeats + 1):
        bar.set_postfix_str(f"(time, d = {size}, {method.name})")
        call = functools.partial(method, matrices, exponent, damping)
        sample = timed(call, device, math.inf)
        clock = sample.cpu if sample.device is None else sample.device
        samples[exponent, method].append(clock / stack)
    bar.update(len(EXPONENTS) * len(METHODS))
    return [
        {
            "size": size,
            "stack": stack,
            "shape": f"{stack} x {size}²",
            "exponent": exponent,
            "method": method.name,
            # The first call has caches to fill, which is little at a large size.
            "milliseconds": summary(times if size >= LARGE else times[1:]),
        }
        for (exponent, method), times in samples.items()
    ]


if __name__ == "__main__":
    define_flags()
    cli.run(main)
