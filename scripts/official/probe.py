"""Describes the benchmark, run by the benchmark's own Python: probe.py QUESTION.

QUESTION is a JSON object with `workloads`, a list of names, `modules`, the entries' modules by
their names, and the `framework` whose classes describe the workloads. The last line that it prints
is a JSON object. It imports nothing of this project but the entries.
"""

import importlib
import json
import sys
from collections.abc import Mapping, Sequence
from typing import Any


def probe(names: Sequence[str], modules: Mapping[str, str], framework: str) -> dict[str, Any]:
    """The version of PyTorch, GPUs, and the workloads' budgets, targets and batch sizes."""
    import torch

    workloads: Any = importlib.import_module("algoperf.workloads.workloads")
    entries: dict[str, Any] = {name: importlib.import_module(modules[name]) for name in modules}
    return {
        "torch": torch.__version__,
        "gpus": [_gpu(index) for index in range(torch.cuda.device_count())],
        "workloads": {
            name: _workload(workloads, name, entries, framework)
            for name in names
            if name in workloads.WORKLOADS
        },
    }


def _gpu(index: int) -> dict[str, Any]:
    import torch

    free, total = torch.cuda.mem_get_info(index)
    name = torch.cuda.get_device_name(index)
    return {"name": name, "used_gb": (total - free) / 1e9, "total_gb": total / 1e9}


def _workload(
    workloads: Any, name: str, entries: Mapping[str, Any], framework: str
) -> dict[str, Any]:
    row = workloads.WORKLOADS[name]
    cls = workloads.import_workload(
        f"{workloads.BASE_WORKLOADS_DIR}{row['workload_path']}_{framework}/workload.py",
        row["workload_class_name"],
        return_class=True,
    )
    workload = cls()
    return {
        "max_runtime_seconds": workload.max_allowed_runtime_sec,
        "validation_target": workload.validation_target_value,
        "test_target": workload.test_target_value,
        "eval_batch_size": workload.eval_batch_size,
        "batch_sizes": {
            entry: _batch_size(module, name, workloads) for entry, module in entries.items()
        },
    }


def _batch_size(module: Any, name: str, workloads: Any) -> int:
    try:
        size: int = module.get_batch_size(name)
    except ValueError:  # the runner then asks for the base workload's
        size = module.get_batch_size(workloads.get_base_workload_name(name))
    return size


if __name__ == "__main__":
    try:
        (text,) = sys.argv[1:]
        question = json.loads(text)
        asked = question["workloads"], question["modules"], question["framework"]
    except (ValueError, KeyError, TypeError):
        sys.exit(
            f"error: QUESTION: got {' '.join(sys.argv[1:]) or 'none'}; allowed: one JSON object "
            "with workloads, modules and framework, which python -m scripts.official gives"
        )
    # Imports may print without a line break.
    print("\n" + json.dumps(probe(*asked)))
