"""Measures how far a resumed run ends from an uninterrupted one, by trainer and checkpoint.

    python -m tests.trainers.resume --output=runs/trainers

Every resumed run has a new model and a new optimizer. Writes resume.md and manifest.json; trainers
that are not installed are left out. `make test-trainers` makes an environment that has them all.
"""

import importlib
import importlib.metadata
import importlib.util
import logging
import tempfile
import warnings
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import torch
from absl import flags

from common import cli, documents, files
from common.documents import UNKNOWN
from scripts.local import manifest
from tests.trainers import problem, torch_alone
from tests.trainers.problem import Ends

FLAGS = flags.FLAGS
TRAINERS = ("lightning", "transformers", "accelerate", "torchtitan")
DOCUMENT = "resume.md"


class Route(NamedTuple):
    """A row: where it runs, how it saves, in which precision, and what gives both ends.

    `ends` returns None for what is refused, after it has made sure of that.
    """

    trainer: str
    saved: str
    precision: str
    ends: Callable[[str, Path], Ends | None]


def torchs_routes() -> Iterable[Route]:
    """Those that need torch alone."""
    plain = "state_dict, torch.save"
    yield Route("one process", plain, "float32", torch_alone.ends)
    lost = partial(torch_alone.ends, lost=True)
    yield Route("one process", "weights alone: what lost state does", "float32", lost)
    kinds = {"sharded": "DCP in place", "flattened": "DCP in place, flattened", "full": "DCP full"}
    layouts = {
        "one": ("one process", 1),
        "ddp": ("DDP", 2),
        "fsdp": ("FSDP2", 2),
        "hsdp": ("HSDP", 4),
    }
    for wrapper, (name, world) in layouts.items():
        where = f"{name}, {world} ranks" if world > 1 else name
        if world > 1:
            ends = partial(torch_alone.consolidated, wrapper=wrapper, world=world)
            yield Route(where, "consolidated to rank 0, torch.save", "float32", ends)
        for route, saved in kinds.items():
            ends = partial(torch_alone.by_checkpoint, wrapper=wrapper, world=world, route=route)
            yield Route(where, saved, "float64", ends)
    refused = lambda method, folder: torch_alone.refused_under_fsdp1(method)  # noqa: E731
    yield Route("FSDP1, 2 ranks", UNKNOWN, "float32", refused)


def trainers_routes() -> Iterable[Route]:
    """Those of the trainers that are installed."""

    def module(name: str, needs: str) -> Any:
        spec = importlib.util.find_spec(needs)
        return importlib.import_module(f"tests.trainers.with_{name}") if spec else None

    if adapter := module("lightning", "lightning"):
        tests = importlib.import_module("tests.trainers.test_lightning")
        for name in ("32-true clipped", "bf16-mixed clipped", "16-mixed clipped"):
            ends = partial(adapter.ends, **tests.SETTINGS[name])
            yield Route("Lightning", "save_checkpoint", name, ends)
        for name, settings in tests.STRATEGIES.items():
            ends = partial(problem.launched, 2, adapter.ends, devices=2, **settings)
            yield Route(f"Lightning, {name}, 2 ranks", "save_checkpoint", "32-true", ends)
    if adapter := module("hugging_face", "transformers"):
        for name, given in (("float32", {}), ("bf16", {"bf16": True})):
            ends = partial(adapter.ends, max_grad_norm=0.5, **given)
            yield Route("Hugging Face Trainer", "its own", f"{name} clipped", ends)
        ends = partial(problem.launched, 2, adapter.ends, ddp_backend="gloo")
        yield Route("Hugging Face Trainer, DDP, 2 ranks", "its own, consolidated", "float32", ends)
    if adapter := module("accelerate", "accelerate"):
        for name, given in (("float32", {}), ("bf16", {"mixed_precision": "bf16"})):
            ends = partial(adapter.ends, clip=0.5, **given)
            yield Route("accelerate", "save_state", f"{name} clipped", ends)
        ends = partial(problem.launched, 2, adapter.ends, clip=0.5)
        yield Route("accelerate, DDP, 2 ranks", "save_state, collective", "float32 clipped", ends)
    if adapter := module("torchtitan", "torchtitan"):
        for where, world in (("torchtitan", 1), ("torchtitan, FSDP2, 2 ranks", 2)):
            ends = partial(problem.launched, world, adapter.ends, sharded=world > 1)
            yield Route(where, "DCP in place", "float32", ends)


def cell(ends: Ends | None) -> str:
    """The largest difference of weights, for the table.

    >>> cell(([torch.ones(2)], [torch.ones(2)])), cell(([torch.ones(2)], [torch.zeros(2)]))
    ('bitwise', '1.0e+00')
    """
    if ends is None:
        return "refused"
    difference = problem.largest_difference(*ends)
    return "bitwise" if difference == 0 else f"{difference:.1e}"


def rows(routes: Iterable[Route]) -> list[dict[str, str]]:
    """The table's rows, each printed as soon as it is known."""
    table = []
    for route in routes:
        row = {"trainer": route.trainer, "checkpoint": route.saved, "precision": route.precision}
        for method in problem.METHODS:
            with tempfile.TemporaryDirectory() as folder:
                row[method] = cell(route.ends(method, Path(folder)))
        print(*row.values(), sep=" | ", flush=True)
        table.append(row)
    return table


def document(table: Sequence[dict[str, str]], versions: dict[str, str]) -> str:
    """The table as Markdown, with what it means."""
    named = ", ".join(f"{name} {version}" for name, version in versions.items())
    lines = (
        "# Resumed runs",
        "",
        "By `python -m tests.trainers.resume`, on CPUs with one thread per process and gloo. A run",
        "saves a checkpoint and goes on; another one, with a new model and a new optimizer, loads",
        "it and takes the same steps on the same number of ranks. The table has the largest",
        "difference between a weight at the end of the one and of the other. DCP is",
        "torch.distributed.checkpoint: in place into the state of a new optimizer, or full through",
        "rank 0's file. 16-mixed has a GradScaler whose first scale overflows.",
        f"Versions: {named}.",
        "",
        documents.table(table),
        "",
    )
    return "\n".join(lines)


def define_flags() -> None:
    """Declares the command line."""
    flags.DEFINE_string("output", None, "folder for the table", required=True)


def main(argv: Sequence[str]) -> int:
    """Runs all routes and writes the table."""
    del argv
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    logging.disable(logging.INFO)
    output = files.make_directory(Path(FLAGS.output))
    installed = [name for name in TRAINERS if importlib.util.find_spec(name)]
    versions = {name: importlib.metadata.version(name) for name in ("torch", *installed)}
    with manifest.recorded(output, trainers=versions):
        table = rows(torchs_routes()) + rows(trainers_routes())
        files.write_text(output / DOCUMENT, document(table, versions))
    print(f"wrote {output / DOCUMENT}")
    return 0


if __name__ == "__main__":
    define_flags()
    cli.run(main)
