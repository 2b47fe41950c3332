"""Times whole training steps of the official models with Shampoo and with NAdamW.

    python -m scripts.benchmark.models --workloads=imagenet_vit,wmt --device=cuda
    python -m scripts.benchmark.models --workloads=mnist --device=cpu --batch=16 --steps=20

Forward, backward and optimizer on one device, at an eighth of the batch, which is one GPU's of a
node with eight, on data that the benchmark's reference test makes up. Needs the benchmark
(`make algoperf`). Entries alternate every --steps steps, which should be a multiple of the refresh
interval. With one device, all roots are computed on it; in a node of eight, each computes an
eighth of them. Writes models_<device>.json and .md to the output; a workload measured again
replaces its own numbers.
"""

import dataclasses
import json
import os
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from absl import flags

from common import cli, documents, files
from common.cli import UserError
from common.documents import number
from scripts.benchmark.models_worker import Task
from scripts.local import environment, manifest, supervisor
from scripts.local.environment import ROOT
from scripts.official import installation
from scripts.official.entry import find_entry
from scripts.reference_tests import BATCH_SIZES

FLAGS = flags.FLAGS

_WORKLOADS = [name for name in BATCH_SIZES if name not in ("cifar", "criteo1tb_test")]
_SETTINGS = ("warmup", "steps", "compiled", "tensor_float32")
_TEXT = """\
# A training step of the official models

Forward, backward and optimizer on one device: the median over turns of the mean step of a turn, \
refreshes of roots among them, and its ratio to the first entry's. Memory is what weights, \
gradients, activations and state take at most, without the batch. The data are made up; ogbg's \
graphs have one node each, so that its forward and backward passes are cheaper than with real \
ones, and ratios higher.
"""


def define_flags() -> None:
    """Declares the command line."""
    flags.DEFINE_list("workloads", _WORKLOADS, "official workloads")
    flags.DEFINE_list("entries", ["nadamw", "shampoo"], "the first is what others are divided by")
    flags.DEFINE_enum("device", "cuda", ["cuda", "cpu"], "where to train")
    flags.DEFINE_integer("batch", None, "examples per step; default: an eighth", lower_bound=1)
    flags.DEFINE_integer("trial", 1, "the point of each entry's search space", lower_bound=1)
    flags.DEFINE_integer("warmup", 20, "steps that are not timed", lower_bound=1)
    flags.DEFINE_integer("steps", 100, "steps timed as one", lower_bound=1)
    flags.DEFINE_integer("rounds", 3, "turns of each entry", lower_bound=1)
    flags.DEFINE_bool("torch_compile", True, "compile what the official runner compiles")
    flags.DEFINE_bool("tensor_float32", False, "let float32 products on a GPU use TF32")
    flags.DEFINE_float("timeout", 1800, "seconds for one workload", lower_bound=1)
    flags.DEFINE_string("logs", "runs/benchmark_models", "folder for what the workers print")
    flags.DEFINE_string("output", "runs/benchmark_models", "folder for the table")


def main(argv: Sequence[str]) -> int:
    """Measures workload by workload and prints the table; 1 if one could not be measured."""
    del argv
    checkout, python = installation.find()
    if unknown := [name for name in FLAGS.workloads if name not in BATCH_SIZES]:
        raise UserError(f"unknown workload {unknown[0]!r}; known: {', '.join(BATCH_SIZES)}")
    output = files.make_directory(Path(FLAGS.output))
    path = output / f"models_{FLAGS.device}.json"
    results: dict[str, Any] = files.read_json(path) if path.exists() else {}
    tasks = [_task(workload) for workload in FLAGS.workloads]
    with manifest.recorded(output):
        for task in tasks:
            print(f"{task.workload} ...", file=sys.stderr, flush=True)
            results[task.workload] = _measured(task, python, checkout)
            files.write_json(path, results)
            files.write_text(path.with_suffix(".md"), page(results))
    print(page(results))
    return int(any("problem" in results[task.workload] for task in tasks))


def _task(workload: str) -> Task:
    entries = [find_entry(name) for name in FLAGS.entries]
    if not entries:
        raise UserError("--entries must name at least one")
    for entry in entries:
        if FLAGS.trial > len(entry.points()):
            raise UserError(f"--trial={FLAGS.trial}: {entry.name} has {len(entry.points())} points")
    return Task(
        workload=workload,
        device=FLAGS.device,
        modules={
            entry.name: entry.submission_path.removesuffix(".py").replace("/", ".")
            for entry in entries
        },
        points={entry.name: entry.points()[FLAGS.trial - 1] or None for entry in entries},
        batch_size=FLAGS.batch,
        warmup=FLAGS.warmup,
        steps=FLAGS.steps,
        rounds=FLAGS.rounds,
        compiled=FLAGS.torch_compile,
        tensor_float32=FLAGS.tensor_float32,
    )


def _measured(task: Task, python: Path, checkout: Path) -> dict[str, Any]:
    """The worker's measurements, or the problem that ended it, with the settings."""
    settings = {key: getattr(task, key) for key in _SETTINGS}
    with tempfile.TemporaryDirectory() as scratch:
        result = Path(scratch) / "result.json"
        worker = [str(python), "-m", "scripts.benchmark.models_worker"]
        outcome = supervisor.run(
            [*worker, json.dumps(dataclasses.asdict(task)), str(result)],
            Path(FLAGS.logs) / f"{task.workload}.log",
            folder=checkout,
            environment=_variables(checkout),
            limits=supervisor.Limits(FLAGS.timeout, supervisor.most_memory()),
        )
        if outcome.problem:
            return {"problem": outcome.problem, **settings}
        commit = {key: environment.describe()[key] for key in ("git_commit_hash", "git_dirty")}
        return {**files.read_json(result), **settings, **commit}


def _variables(checkout: Path) -> dict[str, str]:
    paths = [checkout, *(find_entry(name).python_path for name in FLAGS.entries), ROOT]
    visible = os.environ.get("CUDA_VISIBLE_DEVICES", "0").split(",")[0]
    return {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(map(str, dict.fromkeys(paths))),
        "PYTHONDONTWRITEBYTECODE": "1",  # into the checkout
        "TF_CPP_MIN_LOG_LEVEL": "2",
        "JAX_PLATFORMS": "cpu",  # which leaves the GPU's memory to torch
        "CUDA_VISIBLE_DEVICES": "" if FLAGS.device == "cpu" else visible,
    }


def page(results: Mapping[str, Any]) -> str:
    """The table of all measurements, as Markdown."""
    rows, notes = [], []
    for workload, result in results.items():
        if "problem" in result:
            notes.append(f"- {workload}: {result['problem']}")
            continue
        base = next(iter(result["entries"].values()))
        for name, entry in result["entries"].items():
            pairs = zip(entry["rounds"], base["rounds"], strict=True)
            ratios = sorted(time / base_time for time, base_time in pairs)
            peak = entry["peak_bytes"]
            rows.append(
                {
                    "workload": workload,
                    "batch": result["batch_size"],
                    "M parameters": f"{result['parameters'] / 1e6:.1f}",
                    "entry": name,
                    "ms per step": f"{entry['milliseconds']:.2f}",
                    "ratio": f"{entry['milliseconds'] / base['milliseconds']:.3f}",
                    "over rounds": f"{ratios[0]:.3f} to {ratios[-1]:.3f}",
                    "peak GiB": number(None if peak is None else peak / 2**30, ".2f"),
                    "device": result["device"] + (", TF32" if result["tensor_float32"] else ""),
                }
            )
    return "\n".join([_TEXT, documents.table(rows), *(["", *notes] if notes else []), ""])


if __name__ == "__main__":
    define_flags()
    cli.run(main)
