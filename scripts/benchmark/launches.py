"""Counts the operators of a plain Shampoo step by what they are for, on networks and stand-ins.

    python -m scripts.benchmark.launches --output=results/launches

With `capturable`, which leaves the host no choice, so that a CPU dispatches what an accelerator
would: each operator about a kernel (one on a list of tensors several, where there are hundreds).
"Views" are made anew at each step and cost the host alone. Writes launches.json and launches.md.
"""

import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from absl import flags

from common import cli, documents, files
from scripts.benchmark import machine, model_shapes
from scripts.benchmark.counting import OperatorCount
from scripts.benchmark.stepped import gradients
from submission.shampoo import Shampoo
from workloads import prng, registry

FLAGS = flags.FLAGS
NETWORKS = ("vit_s16", "resnet50", "small_200k")
# The option sets that are counted; a learning rate must be a tensor.
VARIANTS: Mapping[str, Mapping[str, Any]] = {"default": {}, "nesterov": {"nesterov": True}}
# The phase of an operator: that of the first name which is among the functions that called it.
PHASES = {
    "scatter_gradients": "grads in",
    "gather": "guard",
    "all_finite": "guard",
    "advance": "counts",
    "fused_adam": "vectors",
    "average_factors": "factors",
    "times": "products",
    "times_from_right": "products",
    "compute_directions": "moments",
    "norms": "norms",
    "finish": "graft",
    "apply_updates": "apply",
    "decay_fraction": "apply",
}
_OTHER = "other"
# After some steps, far from a refresh.
_WARM, LATE = 3, {"refresh": "together", "refresh_interval": 1 << 20, "refresh_step": 1 << 10}
_PACKAGE = str(Path("submission") / "shampoo")


class PhaseCount(OperatorCount):
    """Counts operators by phase, and all that is dispatched.

    Attributes:
      phases: operators by phase.
      dispatched: all, views and allocations among them.
    """

    def __init__(self) -> None:
        super().__init__()
        self.phases: Counter[str] = Counter()
        self.dispatched = 0

    def __torch_dispatch__(
        self,
        func: Any,
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        before = self.operators
        result = super().__torch_dispatch__(func, types, args, kwargs)
        self.dispatched += func.namespace == "aten"
        self.phases[_phase()] += self.operators - before
        return result


def _phase() -> str:
    names, frame = set(), sys._getframe(2)
    while frame is not None:
        if _PACKAGE in frame.f_code.co_filename:
            names.add(frame.f_code.co_name)
        if frame.f_back is None:
            break
        frame = frame.f_back
    return next((phase for name, phase in PHASES.items() if name in names), _OTHER)


def count(shapes: model_shapes.Shapes, options: Mapping[str, Any]) -> PhaseCount:
    """What a plain step of Shampoo dispatches for parameters of some shapes."""
    sets = gradients(shapes, torch.device("cpu"))
    parameters = [torch.nn.Parameter(torch.zeros(shape)) for shape in shapes.values()]
    settings: dict[str, Any] = {"weight_decay": 0.01, "capturable": True, **options}
    optimizer = Shampoo(parameters, lr=torch.tensor(1e-3), **settings)
    # No factor is refreshed: roots of zero are multiplied with like others.
    optimizer.param_groups[0].update(LATE)
    counted = PhaseCount()
    for step in range(_WARM + 1):
        for parameter, grad in zip(parameters, sets[step % len(sets)], strict=True):
            parameter.grad = grad
        if step == _WARM:
            with counted:
                optimizer._step()
        else:
            optimizer._step()
    return counted


def _standin(name: str) -> model_shapes.Shapes:
    model, _ = registry.load(name).init_model_fn(prng.key(0))
    return {name: tuple(parameter.shape) for name, parameter in model.named_parameters()}


def measure(names: Sequence[str]) -> list[dict[str, Any]]:
    """A row per network and variant."""
    rows = []
    for name in names:
        shapes = model_shapes.shapes(name) if name in NETWORKS else _standin(name)
        for variant, options in VARIANTS.items():
            counted = count(shapes, options)
            rows.append(
                {
                    "network": name,
                    "variant": variant,
                    "parameters": len(shapes),
                    "operators": counted.operators,
                    "dispatched": counted.dispatched,
                    "phases": dict(counted.phases),
                }
            )
    return rows


def page(rows: Sequence[Mapping[str, Any]]) -> str:
    """The tables: totals, and the default's operators by phase."""
    totals = [
        {
            "network": row["network"],
            "variant": row["variant"],
            "tensors": str(row["parameters"]),
            "operators": str(row["operators"]),
            "with views": str(row["dispatched"]),
        }
        for row in rows
    ]
    known = [*dict.fromkeys(PHASES.values()), _OTHER]
    used = [phase for phase in known if any(row["phases"].get(phase) for row in rows)]
    phases = [
        {"network": row["network"], **{p: str(row["phases"].get(p, 0)) for p in used}}
        for row in rows
        if row["variant"] == "default"
    ]
    text = (
        "# Operators of a plain step\n\n"
        "By `python -m scripts.benchmark.launches`: what a step of Shampoo dispatches that "
        "refreshes nothing, as on an accelerator; on lists of tensors one operator is about one "
        "kernel. Stand-ins are not AlgoPerf.\n\n"
    )
    titled = "\n\n## By phase\n\nOf the default:\n\n"
    return text + documents.table(totals) + titled + documents.table(phases) + "\n"


def define_flags() -> None:
    """Declares the command line."""
    known = [*NETWORKS, *registry.names("standin")]
    flags.DEFINE_list("networks", known, f"of {', '.join(known)}")
    flags.DEFINE_string("output", "runs/launches", "folder for the tables")


def main(argv: Sequence[str]) -> None:
    """Counts what the flags describe."""
    del argv
    torch.set_num_threads(1)
    names = cli.names("networks", FLAGS.networks, [*NETWORKS, *registry.names("standin")])
    output = files.make_directory(Path(FLAGS.output))
    rows = measure(names)
    settings = machine.conditions(torch.device("cpu"))
    files.write_json(output / "launches.json", {"settings": settings, "rows": rows})
    files.write_text(output / "launches.md", page(rows))
    print(page(rows))


if __name__ == "__main__":
    define_flags()
    cli.run(main)
