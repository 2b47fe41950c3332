"""Times training steps of one official workload with several entries, in the benchmark's Python.

    python -m scripts.benchmark.models_worker '{"workload": "mnist", ...}' result.json

`scripts.benchmark.models` starts it in the benchmark's checkout. Data are those that the
benchmark's reference test makes up.
"""

import dataclasses
import functools
import importlib
import json
import os
import statistics
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from absl import flags

from common import files
from scripts.benchmark.clock import alternating, timed
from workloads.search_space import as_namedtuple

# Not compiled, and with a compiled loss, as in the benchmark's runner (commit 2c90454f).
_NOT_COMPILED = (
    *("librispeech_conformer", "librispeech_deepspeech", "ogbg", "criteo1tb", "criteo1tb_test"),
    "imagenet_vit",
)
_COMPILED_LOSS = ("fastmri", "librispeech_deepspeech", "ogbg", "wmt")
_NODE_GPUS = 8


@dataclasses.dataclass(frozen=True)
class Task:
    """A measurement of one workload.

    Attributes:
      workload: an official one that the reference test has data for.
      device: "cuda" or "cpu".
      modules: each entry's submission by the entry's name.
      points: each entry's hyperparameters, None for a self-tuning one.
      batch_size: examples per step; None for an eighth of the smallest of the entries' own.
      warmup: steps before anything is timed.
      steps: steps timed as one.
      rounds: measurements of so many steps of each entry.
      compiled: compile the model and the loss where the runner does.
      tensor_float32: let float32 products on a GPU use TF32.
    """

    workload: str
    device: str
    modules: dict[str, str]
    points: dict[str, dict[str, float] | None]
    batch_size: int | None
    warmup: int
    steps: int
    rounds: int
    compiled: bool
    tensor_float32: bool


class Training:
    """A model and its optimizer under one entry."""

    def __init__(self, task: Task, entry: str, workload: Any, rng: Any) -> None:
        self.workload, self.rng = workload, rng
        self.submission = importlib.import_module(task.modules[entry])
        point = task.points[entry]
        self.point = None if point is None else as_namedtuple(point)
        self.model, self.model_state = workload.init_model_fn(rng)
        if task.compiled and task.workload not in _NOT_COMPILED:
            self.model = torch.compile(self.model)
        if task.compiled and task.workload in _COMPILED_LOSS:
            workload.loss_fn = torch.compile(workload.loss_fn)
        self.state = self.submission.init_optimizer_state(
            workload, self.model, self.model_state, self.point, rng
        )
        self.global_step = 0

    def steps(self, batch: dict[str, Any], count: int) -> None:
        """Forward, backward and optimizer, `count` times on the same batch."""
        for _ in range(count):
            self.state, self.model, self.model_state = self.submission.update_params(
                workload=self.workload,
                current_param_container=self.model,
                current_params_types=self.workload.model_params_types,
                model_state=self.model_state,
                hyperparameters=self.point,
                batch=batch,
                loss_type=self.workload.loss_type,
                optimizer_state=self.state,
                train_state={},
                eval_results=[],
                global_step=self.global_step,
                rng=self.rng,
            )
            self.global_step += 1


def measure(task: Task, scratch: Path) -> dict[str, Any]:
    """Milliseconds per step and bytes of device memory of each entry, as JSON values."""
    device = torch.device(task.device)
    torch.empty(1, device=device)  # or else the workload would take a CPU
    if task.tensor_float32:
        torch.set_float32_matmul_precision("high")
    batch_size = task.batch_size or _share(task)
    make = _workload_maker(task.workload, batch_size, scratch)
    rng = importlib.import_module("algoperf.random_utils").PRNGKey(0)
    batch = next(make()._build_input_queue(rng, "train", "", batch_size))
    trainings: dict[str, Training] = {}
    memory: dict[str, int | None] = {}
    for entry in task.modules:
        before = 0
        if device.type == "cuda":
            torch.cuda.synchronize(device)
            torch.cuda.reset_peak_memory_stats(device)
            before = torch.cuda.memory_allocated(device)
        trainings[entry] = Training(task, entry, make(), rng)
        trainings[entry].steps(batch, task.warmup)
        memory[entry] = None
        if device.type == "cuda":
            torch.cuda.synchronize(device)
            memory[entry] = torch.cuda.max_memory_allocated(device) - before
    times: dict[str, list[float]] = {entry: [] for entry in trainings}
    for entry in alternating(list(trainings), task.rounds):
        call = functools.partial(trainings[entry].steps, batch, task.steps)
        times[entry].append(timed(call, device, float("inf")).wall / task.steps)
    parameters = next(iter(trainings.values())).model.parameters()
    return {
        "batch_size": batch_size,
        "parameters": sum(parameter.numel() for parameter in parameters),
        "device": torch.cuda.get_device_name() if device.type == "cuda" else "cpu",
        "threads": torch.get_num_threads(),
        "torch_version": torch.__version__,
        "entries": {
            entry: {
                "milliseconds": statistics.median(times[entry]),
                "rounds": times[entry],
                "peak_bytes": memory[entry],
            }
            for entry in trainings
        },
    }


def _share(task: Task) -> int:
    modules = map(importlib.import_module, task.modules.values())
    return min(module.get_batch_size(task.workload) for module in modules) // _NODE_GPUS


def _workload_maker(name: str, batch_size: int, scratch: Path) -> Callable[[], Any]:
    """Returns a factory of workloads with the reference test's data."""
    runner = importlib.import_module("submission_runner")
    test = importlib.import_module("tests.reference_algorithm_tests")
    log = f"--log_file={scratch / 'metrics.pkl'}"
    flags.FLAGS(["worker", "--framework=pytorch", f"--workload={name}", log])
    row = runner.WORKLOADS[name]
    workload_class = runner.workloads.import_workload(
        workload_path=os.path.join(  # noqa: PTH118 - becomes a module's name
            runner.BASE_WORKLOADS_DIR, f"{row['workload_path']}_pytorch", "workload.py"
        ),
        workload_class_name=row["workload_class_name"],
        return_class=True,
    )
    return lambda: test._make_one_batch_workload(
        workload_class, name, "pytorch", batch_size, True, max(torch.cuda.device_count(), 1)
    )


if __name__ == "__main__":
    result = Path(sys.argv[2])
    files.write_json(result, measure(Task(**json.loads(sys.argv[1])), result.parent))
