"""What a whole training step of each official model costs with Shampoo and with NAdamW.

    python -m scripts.benchmark.models --workloads=imagenet_vit,wmt --device=cuda
    python -m scripts.benchmark.models --workloads=mnist --device=cpu --batch=16 --steps=20

Forward, backward and optimizer on one device, at an eighth of the batch, which is one GPU's of a
node with eight, on data that the benchmark's reference test makes up. Needs the benchmark
(`make algoperf`). Entries take turns of --steps steps, which should be a multiple of the refresh
interval. Without other devices there is nothing to share: each rank's part of the roots, an eighth
on such a node, is here the whole. Writes models_<device>.json and .md to the output; a workload
measured again replaces its own numbers.
"""

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
from scripts.local import environment, manifest
from scripts.local.environment import ROOT
from scripts.official import installation
from scripts.official.entry import find_entry
from scripts.reference_tests.plan import BATCH_SIZES
from scripts.reference_tests.run import GIB, Limits, most_memory, watched

FLAGS = flags.FLAGS

_WORKLOADS = [name for name in BATCH_SIZES if name not in ("cifar", "criteo1tb_test")]
_WORKER = "scripts.benchmark.models_worker"


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
    flags.DEFINE_string("output", "results/official", "folder for the table")


def main(argv: Sequence[str]) -> int:
    """Measures workload by workload and prints the table; 1 if one could not be measured."""
    del argv
    python, checkout = installation.python(), installation.checkout()
    if unknown := [name for name in FLAGS.workloads if name not in BATCH_SIZES]:
        raise UserError(f"unknown workload {unknown[0]!r}; known: {', '.join(BATCH_SIZES)}")
    output = files.make_directory(Path(FLAGS.output))
    path = output / f"models_{FLAGS.device}.json"
    results: dict[str, Any] = files.read_json(path) if path.exists() else {}
    tasks = {workload: _task(workload) for workload in FLAGS.workloads}
    with manifest.recorded(output):
        for workload, task in tasks.items():
            print(f"{workload} ...", file=sys.stderr, flush=True)
            results[workload] = _measured(workload, task, python, checkout)
            files.write_json(path, results)
            files.write_text(path.with_suffix(".md"), page(results))
    print(page(results))
    return int(any("problem" in results[workload] for workload in tasks))


def _task(workload: str) -> dict[str, Any]:
    found = [find_entry(name) for name in FLAGS.entries]
    if not found:
        raise UserError("--entries must name at least one")
    for entry in found:
        if FLAGS.trial > len(entry.points()):
            raise UserError(f"--trial={FLAGS.trial}: {entry.name} has {len(entry.points())} points")
    return {
        "workload": workload,
        "device": FLAGS.device,
        "modules": {
            entry.name: entry.submission_path.removesuffix(".py").replace("/", ".")
            for entry in found
        },
        "points": {entry.name: entry.points()[FLAGS.trial - 1] or None for entry in found},
        "batch_size": FLAGS.batch,
        "warmup": FLAGS.warmup,
        "steps": FLAGS.steps,
        "rounds": FLAGS.rounds,
        "compiled": FLAGS.torch_compile,
        "tensor_float32": FLAGS.tensor_float32,
    }


def _measured(
    workload: str, task: Mapping[str, Any], python: Path, checkout: Path
) -> dict[str, Any]:
    """What the worker has measured, or what kept it from that, and how it was to be done."""
    settings = {key: task[key] for key in ("warmup", "steps", "compiled", "tensor_float32")}
    with tempfile.TemporaryDirectory() as scratch:
        result = Path(scratch) / "result.json"
        command = [str(python), "-m", _WORKER, json.dumps(task), str(result)]
        done = watched(
            command,
            checkout,
            _variables(checkout),
            Path(FLAGS.logs) / f"{workload}.log",
            Limits(FLAGS.timeout, most_memory()),
        )
        if done.problem:
            return {"problem": done.problem, **settings}
        commit = {key: environment.describe()[key] for key in ("git_commit_hash", "git_dirty")}
        return {**files.read_json(result), **settings, **commit}


def _variables(checkout: Path) -> dict[str, str]:
    paths = [checkout, *(find_entry(name).python_path for name in FLAGS.entries), ROOT]
    chosen = {
        "PYTHONPATH": os.pathsep.join(map(str, dict.fromkeys(paths))),
        "PYTHONDONTWRITEBYTECODE": "1",  # into the checkout
        "TF_CPP_MIN_LOG_LEVEL": "2",
        "JAX_PLATFORMS": "cpu",  # which leaves the GPU's memory to torch
    }
    if FLAGS.device == "cpu":
        chosen["CUDA_VISIBLE_DEVICES"] = ""
    else:
        chosen["CUDA_VISIBLE_DEVICES"] = os.environ.get("CUDA_VISIBLE_DEVICES", "0").split(",")[0]
    return {**os.environ, **chosen}


def page(results: Mapping[str, Any]) -> str:
    """The table of all measurements, as Markdown."""
    body = []
    notes = []
    for workload, result in results.items():
        if "problem" in result:
            notes.append(f"{workload}: {result['problem']}")
            continue
        entries = list(result["entries"].items())
        _, base = entries[0]
        for name, found in entries:
            pairs = zip(found["rounds"], base["rounds"], strict=True)
            ratios = sorted(own / other for own, other in pairs)
            peak = found["peak_bytes"]
            body.append([
                workload,
                result["batch_size"],
                f"{result['parameters'] / 1e6:.1f}",
                name,
                f"{found['milliseconds']:.2f}",
                f"{found['milliseconds'] / base['milliseconds']:.3f}",
                f"{ratios[0]:.3f} to {ratios[-1]:.3f}",
                "-" if peak is None else f"{peak / GIB:.2f}",
                result["device"] + (", TF32" if result["tensor_float32"] else ""),
            ])  # fmt: skip
    headers = (
        *("workload", "batch", "M parameters", "entry", "ms per step", "ratio", "over rounds"),
        *("peak GiB", "device"),
    )
    text = (
        "# A training step of the official models\n\n"
        "Forward, backward and optimizer on one device: the median over turns of the mean step of "
        "a turn, refreshes of roots among them, and its ratio to the first entry's. Memory is what "
        "weights, gradients, activations and state take at most, without the batch. The data are "
        "made up; ogbg's graphs have one node each, so that its forward and backward passes are "
        "cheaper than with real ones, and ratios higher.\n"
    )
    table = documents.table(body, headers)
    return "\n".join([text, table, *(["", *(f"- {note}" for note in notes)] if notes else []), ""])


if __name__ == "__main__":
    define_flags()
    cli.run(main)
