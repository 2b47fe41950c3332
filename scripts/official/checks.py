"""What is looked at before trials of many hours start: one line for each thing that is wrong."""

import json
import math
import os
import re
import shutil
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from common.cli import UserError
from scripts.local.environment import ROOT, available_cores
from scripts.official import memory
from scripts.official.checkpoint_size import trial_gb
from scripts.official.command import Node, variables
from scripts.official.keep import KEPT
from scripts.official.trial import OfficialTrial
from workloads import registry

_PROBE = Path(__file__).with_name("probe.py")
_PROBE_SECONDS = 600
# PyTorch's code of the other workloads needs a GPU: CUDA streams, batches per GPU.
_ON_CPU = ("mnist",)
# Of a process that imports PyTorch, JAX and TensorFlow and reads data; measured on mnist: 2.2 GB.
_GB_PER_PROCESS = 2.5
# A process of its own takes half a GB of a GPU; other work there makes times worthless.
_USED_GPU_GB = 2.0
# Through which data loaders hand over batches; containers have 0.06 unless told otherwise.
_SHARED_GB = 1.0
# Below that, ranks wait for their data loaders.
_CORES_PER_GPU = 4

Answer = Mapping[str, Any]


def check(planned: Sequence[OfficialTrial], node: Node) -> None:
    """Looks at everything before the first trial starts, and prints what is wrong.

    UserError naming the checks that failed, after one line on stderr for each problem.
    """
    left = [name for name in NAMES if name not in node.skip_checks]
    if not planned or not left:
        return
    answer: Answer = {}
    if {"benchmark", "version", "gpus", "batch_size"} & set(left):
        try:
            answer = ask(planned, node)
        except UserError as error:
            answer = {"error": str(error)}
    failed = []
    for name in left:
        problems = list(_CHECKS[name](planned, node, answer))
        for problem in problems:
            print(f"check {name}: {problem}", file=sys.stderr)
        failed.extend([name] if problems else [])
    for warning in _warnings(planned, node, answer):
        print(f"warning: {warning}", file=sys.stderr)
    if failed:
        skip = f"--skip_checks={','.join(failed)}"
        raise UserError(f"checks failed: {', '.join(failed)} ({skip} starts regardless)")


def names_to_skip(given: Sequence[str]) -> tuple[str, ...]:
    """The checks that --skip_checks names; UserError for an unknown one."""
    if given == ["all"]:
        return NAMES
    for name in given:
        if name not in NAMES:
            raise UserError(f"--skip_checks={name}: allowed: all, or of {', '.join(NAMES)}")
    return tuple(given)


def ask(planned: Sequence[OfficialTrial], node: Node) -> Answer:
    """What the benchmark's Python says of itself, the workloads and the entries; asked once.

    UserError if it does not run, does not answer, or cannot import the benchmark or an entry.
    """
    modules = {
        trial.entry.name: trial.entry.submission_path.removesuffix(".py").replace("/", ".")
        for trial in planned
    }
    question = {"workloads": _workloads(planned), "modules": modules}
    paths = list(dict.fromkeys([node.checkout, *(trial.entry.python_path for trial in planned)]))
    try:
        done = subprocess.run(
            [str(node.python), str(_PROBE), json.dumps(question)],
            cwd=node.checkout,
            env={**os.environ, **variables(paths, node)},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=_PROBE_SECONDS,
        )
    except subprocess.TimeoutExpired as error:
        raise UserError(f"{node.python} did not answer within {_PROBE_SECONDS:g} s") from error
    except OSError as error:
        raise UserError(f"{node.python} does not run: {error}") from error
    if done.returncode != 0:
        said = done.stderr.strip().splitlines() or [f"exit code {done.returncode}"]
        raise UserError(f"{node.python} cannot import the benchmark and the entry: {said[-1]}")
    answer: Answer = json.loads(done.stdout.splitlines()[-1])
    return answer


def _workloads(planned: Sequence[OfficialTrial]) -> list[str]:
    return list(dict.fromkeys(trial.trial.workload for trial in planned))


def _benchmark(planned: Sequence[OfficialTrial], node: Node, answer: Answer) -> Iterator[str]:
    if "error" in answer:
        yield answer["error"]
        return
    for workload in _workloads(planned):
        if workload not in answer["workloads"]:
            yield f"{node.checkout} has no workload {workload}"


def _version(planned: Sequence[OfficialTrial], node: Node, answer: Answer) -> Iterator[str]:
    version = planned[0].version
    for workload, said in answer.get("workloads", {}).items():
        facts = registry.official(workload, version)
        for name in ("max_runtime_seconds", "validation_target", "test_target"):
            ours, theirs = getattr(facts, name), said[name]
            if ours is not None and not math.isclose(ours, theirs):
                yield (
                    f"{workload}: the registry's {name} in {version} is {ours}, "
                    f"that of {node.checkout} {theirs}"
                )


def _gpus(planned: Sequence[OfficialTrial], node: Node, answer: Answer) -> Iterator[str]:
    yield from without_gpus(planned, node)
    there = answer.get("gpus")
    if there is None:
        return
    if len(there) < node.gpus:
        yield f"--gpus={node.gpus}, but PyTorch {answer['torch']} sees {len(there)} here"
    for index, gpu in enumerate(there):
        if gpu["used_gb"] > _USED_GPU_GB:
            yield f"GPU {index}, {gpu['name']}, is in use: {gpu['used_gb']:.1f} GB are taken"


def without_gpus(planned: Sequence[OfficialTrial], node: Node) -> Iterator[str]:
    """One sentence for each workload that cannot train with as few GPUs as none."""
    for workload in _workloads(planned) if node.gpus == 0 else ():
        if workload not in _ON_CPU:
            yield f"{workload} does not train on a CPU under PyTorch; --gpus=0 is for mnist"


def _batch_size(planned: Sequence[OfficialTrial], node: Node, answer: Answer) -> Iterator[str]:
    ranks = max(1, node.gpus)
    for workload, said in answer.get("workloads", {}).items():
        sizes = {f"training with {entry}": size for entry, size in said["batch_sizes"].items()}
        for what, size in {**sizes, "evaluation": said["eval_batch_size"]}.items():
            if size % ranks:
                yield f"{workload}: the batch size of {what}, {size}, is no multiple of {ranks}"


def _data(planned: Sequence[OfficialTrial], node: Node, answer: Answer) -> Iterator[str]:
    del answer
    from scripts.official import paths

    for workload in _workloads(planned):
        yield from paths.missing(workload, node.data_dir)


def _disk(planned: Sequence[OfficialTrial], node: Node, answer: Answer) -> Iterator[str]:
    del answer
    there = next(path for path in (node.output, *node.output.parents) if path.exists())
    free = shutil.disk_usage(there).free / 1e9
    largest = max(planned, key=trial_gb)
    size = trial_gb(largest)
    if free < (KEPT + 1) * size:
        yield (
            f"{there} has {free:.1f} GB free; {largest.trial.workload} needs "
            f"{(KEPT + 1) * size:.1f} for {KEPT + 1} checkpoints of about {size:.1f} GB"
        )


def _cores(planned: Sequence[OfficialTrial], node: Node, answer: Answer) -> Iterator[str]:
    del planned, answer
    cores = len(available_cores())
    if cores < node.gpus:
        yield (
            f"{cores} CPU cores are available to {node.gpus} processes, one for each GPU; under "
            "Slurm, a higher --slurm_cpus gives more, and none of it the whole node"
        )


def _memory(planned: Sequence[OfficialTrial], node: Node, answer: Answer) -> Iterator[str]:
    del planned, answer
    needed = _GB_PER_PROCESS * max(1, node.gpus)
    available = memory.available_gb()
    if available is not None and available < needed:
        yield (
            f"{available:.1f} GB of memory are available; {max(1, node.gpus)} processes need at "
            f"least {needed:.1f}"
        )
    shared = Path("/dev/shm")
    if node.gpus and shared.is_dir():
        size = shutil.disk_usage(shared).total / 1e9
        if size < _SHARED_GB:
            yield (
                f"{shared} has {size:.2f} GB, too few for data loaders; a container gets more with "
                "--shm-size"
            )


def _port(planned: Sequence[OfficialTrial], node: Node, answer: Answer) -> Iterator[str]:
    """The ranks meet at a free port of this host, under its own name."""
    del planned, answer
    if node.gpus <= 1:
        return
    for host in ("localhost", socket.gethostname()):
        try:
            with socket.create_server((socket.gethostbyname(host), 0)):
                pass
        except OSError as error:
            yield f"processes cannot meet at {host}: {error.strerror or error}"


_CHECKS: Mapping[str, Callable[[Sequence[OfficialTrial], Node, Answer], Iterator[str]]] = {
    "benchmark": _benchmark,
    "version": _version,
    "gpus": _gpus,
    "batch_size": _batch_size,
    "data": _data,
    "disk": _disk,
    "cores": _cores,
    "memory": _memory,
    "port": _port,
}
NAMES = tuple(_CHECKS)


def _warnings(planned: Sequence[OfficialTrial], node: Node, answer: Answer) -> Iterator[str]:
    """What does not keep a trial from running, but makes its times others than the published."""
    pinned = re.search(r"^TORCH \?= (\S+)", (ROOT / "Makefile").read_text("utf-8"), re.MULTILINE)
    torch = str(answer.get("torch", ""))
    if pinned and torch and torch.partition("+")[0] != pinned[1]:
        yield f"PyTorch {torch}, where the benchmark has {pinned[1]}"
    names = sorted({gpu["name"] for gpu in answer.get("gpus", ())})
    if node.gpus and names and (node.gpus != 8 or not all("V100" in name for name in names)):
        yield f"budgets are for 8 V100 GPUs, not for {node.gpus} of {', '.join(names)}"
    cores = len(available_cores())
    if node.gpus <= cores < _CORES_PER_GPU * node.gpus:
        yield (
            f"{cores} CPU cores for {node.gpus} GPUs; with fewer than {_CORES_PER_GPU} for each, "
            "ranks wait for their data"
        )
    del planned
