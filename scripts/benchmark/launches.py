"""Counts the operators of a plain Shampoo step on networks and stand-ins.

    python -m scripts.benchmark.launches --output=results/launches

With `capturable`, which leaves the host no choice, so that a CPU dispatches what an accelerator
would: each operator about a kernel (one on a list of tensors several, where there are hundreds).
"Views" are made anew at each step and cost the host alone. Writes launches.json and launches.md.
"""

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
# After some steps, far from a refresh.
_WARM, LATE = 3, {"refresh": "together", "refresh_interval": 1 << 20, "refresh_step": 1 << 10}


def count(shapes: model_shapes.Shapes, options: Mapping[str, Any]) -> OperatorCount:
    """What a plain step of Shampoo dispatches for parameters of some shapes."""
    sets = gradients(shapes, torch.device("cpu"))
    parameters = [torch.nn.Parameter(torch.zeros(shape)) for shape in shapes.values()]
    settings: dict[str, Any] = {"weight_decay": 0.01, "capturable": True, **options}
    optimizer = Shampoo(parameters, lr=torch.tensor(1e-3), **settings)
    # No factor is refreshed: roots of zero are multiplied with like others.
    optimizer.param_groups[0].update(LATE)
    counted = OperatorCount()
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
                }
            )
    return rows


def page(rows: Sequence[Mapping[str, Any]]) -> str:
    """The table of totals, with what it counts."""
    names = {"parameters": "tensors", "dispatched": "with views"}
    totals = [{names.get(key, key): str(value) for key, value in row.items()} for row in rows]
    text = (
        "# Operators of a plain step\n\n"
        "By `python -m scripts.benchmark.launches`: what a step of Shampoo dispatches that "
        "refreshes nothing, as on an accelerator; on lists of tensors one operator is about one "
        "kernel. Stand-ins are not AlgoPerf.\n\n"
    )
    return text + documents.table(totals) + "\n"


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
