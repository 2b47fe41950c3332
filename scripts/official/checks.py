"""Checks before trials of many hours start: one line for each problem."""

import dataclasses
import json
import math
import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from common.cli import UserError
from scripts.local.environment import available_cores
from scripts.official import paths, resources
from scripts.official.command import Node, gpus_flags, variables
from scripts.official.keep import KEPT
from scripts.official.trial import OfficialTrial
from workloads import registry
from workloads.official.facts import RULES

NAMES = (
    *("benchmark", "version", "gpus", "batch_size", "data", "disk", "cores", "memory", "port"),
)
_ASKING = {"benchmark", "version", "gpus", "batch_size"}
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
# Over a GPU's nominal memory, which is counted in powers of 1,024.
_LARGER = 1.1
# Of the version's memory; the system itself has the rest.
_MEMORY_SHARE = 0.9

Answer = Mapping[str, Any]


def check(planned: Sequence[OfficialTrial], node: Node) -> None:
    """Checks everything before the first trial starts, and prints what is wrong.

    UserError naming the checks that failed, after one line on stderr for each problem.
    """
    names = [name for name in NAMES if name not in node.skip_checks]
    if not planned or not names:
        return
    answer: Answer = {}
    if _ASKING & set(names):
        try:
            answer = ask(planned, node)
        except UserError as error:
            answer = {"error": str(error)}
    Checks(planned, node, answer).run(names)


def names_to_skip(given: Sequence[str]) -> tuple[str, ...]:
    """The checks that --skip_checks names; UserError for an unknown one."""
    if given == ["all"]:
        return NAMES
    for name in given:
        if name not in NAMES:
            raise UserError(f"--skip_checks={name}: allowed: all, or of {', '.join(NAMES)}")
    return tuple(given)


def ask(planned: Sequence[OfficialTrial], node: Node) -> Answer:
    """PyTorch, GPUs, workloads and entries as the benchmark's Python sees them (`probe.py`).

    Entries of which names mean different modules are asked for in processes of their own.

    UserError if it does not run, does not answer, or cannot import the benchmark or an entry.
    """
    groups: dict[Any, list[OfficialTrial]] = {}
    for trial in planned:
        groups.setdefault((trial.entry.places, trial.entry.framework), []).append(trial)
    answer, *others = [_ask(group, node) for group in groups.values()]
    for other in others:
        for workload, row in other["workloads"].items():
            known = answer["workloads"].setdefault(workload, row)
            known["batch_sizes"] = row["batch_sizes"] | known["batch_sizes"]
    return answer


def _ask(planned: Sequence[OfficialTrial], node: Node) -> dict[str, Any]:
    """The same of entries of one framework that can be imported into one process."""
    entry = planned[0].entry
    modules = {
        trial.entry.name: trial.entry.runner_path.removesuffix(".py").replace("/", ".")
        for trial in planned
    }
    question = {
        "workloads": _workloads(planned),
        "modules": modules,
        "framework": entry.framework,
    }
    paths_of = [path for trial in planned for path in trial.entry.import_paths]
    folders = list(dict.fromkeys([node.checkout, *paths_of]))
    try:
        done = subprocess.run(
            [str(node.python), str(_PROBE), json.dumps(question)],
            cwd=node.checkout,
            env={**os.environ, **variables(folders, node), **entry.variables},
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
        lines = done.stderr.strip().splitlines() or [f"exit code {done.returncode}"]
        raise UserError(f"{node.python} cannot import the benchmark and the entry: {lines[-1]}")
    answer: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return answer


def without_gpus(planned: Sequence[OfficialTrial], node: Node) -> Iterator[str]:
    """One sentence for each workload that cannot train with as few GPUs as none."""
    of_torch = [trial for trial in planned if trial.entry.framework == "pytorch"]
    for workload in _workloads(of_torch) if node.gpus == 0 else ():
        if workload not in _ON_CPU:
            yield f"{workload} does not train on a CPU under PyTorch; --gpus=0 is for mnist"


def _workloads(planned: Sequence[OfficialTrial]) -> list[str]:
    return list(dict.fromkeys(trial.trial.workload for trial in planned))


@dataclasses.dataclass(frozen=True)
class Checks:
    """The checks of trials on a node, a method each, which yields one sentence for each problem.

    Attributes:
      answer: of `ask`, or `error` for why there is none; empty if it was not asked.
    """

    planned: Sequence[OfficialTrial]
    node: Node
    answer: Answer

    def run(self, names: Sequence[str]) -> None:
        """Prints problems and warnings; UserError naming the checks that failed."""
        failed = []
        for name in names:
            problems = list(getattr(self, name)())
            for problem in problems:
                print(f"check {name}: {problem}", file=sys.stderr)
            failed.extend([name] if problems else [])
        for warning in self.warnings():
            print(f"warning: {warning}", file=sys.stderr)
        if failed:
            skip = f"--skip_checks={','.join(failed)}"
            raise UserError(f"checks failed: {', '.join(failed)} ({skip} starts regardless)")

    @property
    def _ranks(self) -> int:
        return max(1, self.node.gpus)

    @property
    def _classes(self) -> Mapping[str, Any]:
        """Budgets, targets and batch sizes of the benchmark's classes, by workload."""
        return self.answer.get("workloads", {})

    def benchmark(self) -> Iterator[str]:
        if "error" in self.answer:
            yield self.answer["error"]
            return
        for workload in _workloads(self.planned):
            if workload not in self._classes:
                yield f"{self.node.checkout} has no workload {workload}"

    def version(self) -> Iterator[str]:
        version = self.planned[0].version
        for workload, row in self._classes.items():
            facts = registry.official(workload, version)
            for name in ("max_runtime_seconds", "validation_target", "test_target"):
                value = getattr(facts, name)
                if value is not None and not math.isclose(value, row[name]):
                    yield (
                        f"{workload}: the registry's {name} in {version} is {value}, "
                        f"that of {self.node.checkout} {row[name]}"
                    )

    def gpus(self) -> Iterator[str]:
        yield from without_gpus(self.planned, self.node)
        gpus = self.answer.get("gpus")
        if gpus is None:
            return
        if len(gpus) < self.node.gpus * self.node.at_once:
            torch = self.answer["torch"]
            yield f"{gpus_flags(self.node)}, but PyTorch {torch} sees {len(gpus)} here"
        for index, gpu in enumerate(gpus):
            if gpu["used_gb"] > _USED_GPU_GB:
                yield f"GPU {index}, {gpu['name']}, is in use: {gpu['used_gb']:.1f} GB are taken"

    def batch_size(self) -> Iterator[str]:
        for workload, row in self._classes.items():
            sizes = {f"training with {entry}": size for entry, size in row["batch_sizes"].items()}
            for what, size in {**sizes, "evaluation": row["eval_batch_size"]}.items():
                if size % self._ranks:
                    yield (
                        f"{workload}: the batch size of {what}, {size}, is no multiple of "
                        f"{self._ranks}"
                    )

    def data(self) -> Iterator[str]:
        needed = {(trial.trial.workload, trial.entry.framework): None for trial in self.planned}
        for workload, framework in needed:
            yield from paths.missing(workload, self.node.data_dir, framework)

    def disk(self) -> Iterator[str]:
        output = self.node.output
        folder = next(path for path in (output, *output.parents) if path.exists())
        free = shutil.disk_usage(folder).free / 1e9
        largest = max(self.planned, key=resources.trial_gb)
        size, number = resources.trial_gb(largest), (KEPT + 1) * self.node.at_once
        if free < number * size:
            yield (
                f"{folder} has {free:.1f} GB free; {largest.trial.workload} needs "
                f"{number * size:.1f} for {number} checkpoints of about {size:.1f} GB"
            )

    def cores(self) -> Iterator[str]:
        cores, ranks = len(available_cores()), self.node.gpus * self.node.at_once
        if cores < ranks:
            yield (
                f"{cores} CPU cores are available to {ranks} processes, one for each GPU; "
                "under Slurm, a higher --slurm_cpus gives more, and none of it the whole node"
            )

    def memory(self) -> Iterator[str]:
        processes = self._ranks * self.node.at_once
        needed, available = _GB_PER_PROCESS * processes, resources.available_gb()
        if available < needed:
            yield (
                f"{available:.1f} GB of memory are available; {processes} processes need at "
                f"least {needed:.1f}"
            )
        shared = Path("/dev/shm")
        if self.node.gpus and shared.is_dir():
            size = shutil.disk_usage(shared).total / 1e9
            if size < _SHARED_GB:
                yield (
                    f"{shared} has {size:.2f} GB, too few for data loaders; a container gets more "
                    "with --shm-size"
                )

    def port(self) -> Iterator[str]:
        """Ranks meet at a free port of this host, under its own name."""
        for host in ("localhost", socket.gethostname()) if self.node.gpus > 1 else ():
            try:
                with socket.create_server((socket.gethostbyname(host), 0)):
                    pass
            except OSError as error:
                yield f"processes cannot meet at {host}: {error.strerror or error}"

    def warnings(self) -> Iterator[str]:
        """Differences that let a trial run, but make its times differ from those published."""
        version = self.planned[0].version
        rules, gpus = RULES[version], self.node.gpus
        torch = str(self.answer.get("torch", ""))
        if torch and torch.partition("+")[0] != rules.torch:
            yield f"PyTorch {torch}, where {version} has {rules.torch}"
        if not gpus:
            return
        names = sorted({gpu["name"] for gpu in self.answer.get("gpus", ())})
        if names and (gpus != rules.gpus or any(rules.gpu not in name for name in names)):
            yield (
                f"budgets of {version} are for {rules.gpus} {rules.gpu} of {rules.gpu_gb} GB, not "
                f"for {gpus} of {', '.join(names)}: times are not comparable with published ones"
            )
        largest = max((gpu["total_gb"] for gpu in self.answer.get("gpus", ())), default=0)
        if largest > _LARGER * rules.gpu_gb:
            yield (
                f"GPUs of {largest:.0f} GB, where {version} has {rules.gpu_gb}: what fits here may "
                "not fit there"
            )
        per_trial = " for each trial" if self.node.at_once > 1 else ""
        memory = resources.available_gb() / self.node.at_once
        if memory < _MEMORY_SHARE * rules.memory_gb:
            had = f"where {version} has {rules.memory_gb}"
            yield f"{memory:.0f} GB of memory are available{per_trial}, {had}"
        cores = len(available_cores()) // self.node.at_once
        if rules.cores is not None and gpus <= cores < rules.cores:
            yield f"{cores} CPU cores{per_trial}, where {version} has {rules.cores}"
        elif gpus <= cores < _CORES_PER_GPU * gpus:
            yield (
                f"{cores} CPU cores for {gpus} GPUs; with fewer than {_CORES_PER_GPU} for each, "
                "ranks wait for their data"
            )
