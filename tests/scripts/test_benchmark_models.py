"""Whole training steps: the worker on a benchmark of one tiny model, and the table."""

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from scripts.benchmark import models as benchmark_models
from scripts.local.environment import ROOT
from tests.scripts.commands import finish

RUNNER = """
from types import SimpleNamespace

BASE_WORKLOADS_DIR = "algoperf/workloads/"
WORKLOADS = {"mnist": {"workload_path": "mnist/mnist", "workload_class_name": "MnistWorkload"}}
PLACE = ("algoperf/workloads/mnist/mnist_pytorch/workload.py", "MnistWorkload", True)


def import_workload(workload_path, workload_class_name, return_class):
    assert (workload_path, workload_class_name, return_class) == PLACE
    return "the class"


workloads = SimpleNamespace(import_workload=import_workload)
"""
REFERENCE_TEST = f"""
import sys

import torch
from absl import flags

flags.DEFINE_string("framework", None, "")
flags.DEFINE_string("workload", None, "")
flags.DEFINE_string("log_file", "/tmp/log.pkl", "")
sys.path.insert(0, {str(Path(__file__).parent / "fake")!r})
from entry_steps import TinyWorkload


def _make_one_batch_workload(cls, name, framework, batch_size, fake_queue, n_gpus):
    assert (cls, name, framework, fake_queue) == ("the class", "mnist", "pytorch", True)

    class Workload(TinyWorkload):
        model_params_types = None

        def init_model_fn(self, rng):
            return torch.nn.Linear(12, 5), None

        def _build_input_queue(self, rng, split, data_dir, global_batch_size):
            assert global_batch_size == batch_size
            yield {{"inputs": torch.ones(batch_size, 12), "targets": torch.ones(batch_size, 5)}}

    return Workload()
"""


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    folder = tmp_path / "checkout"
    for name in ("tests", "algoperf"):
        (folder / name).mkdir(parents=True)
    (folder / "submission_runner.py").write_text(RUNNER)
    (folder / "tests/__init__.py").write_text("")
    (folder / "tests/reference_algorithm_tests.py").write_text(REFERENCE_TEST)
    (folder / "algoperf/__init__.py").write_text("")
    (folder / "algoperf/random_utils.py").write_text("def PRNGKey(seed): return seed\n")
    shutil.copy(ROOT / "submission/algoperf_api/spec_fallback.py", folder / "algoperf/spec.py")
    return folder


def run(checkout: Path, *flags: str) -> "subprocess.CompletedProcess[str]":
    folders = (f"--output={checkout.parent}", f"--logs={checkout.parent / 'logs'}")
    places = {"ALGOPERF_DIR": str(checkout), "ALGOPERF_PYTHON": sys.executable}
    return finish("-m", "scripts.benchmark.models", *folders, *flags, **places)


@pytest.mark.slow
def test_entries_alternate_on_the_benchmarks_model(checkout: Path) -> None:
    short = ("--device=cpu", "--warmup=2", "--steps=3", "--rounds=2", "--notorch_compile")
    done = run(checkout, "--workloads=mnist", *short)
    assert done.returncode == 0, (checkout.parent / "logs/mnist.log").read_text()
    result = json.loads((checkout.parent / "models_cpu.json").read_text())["mnist"]
    assert result["batch_size"] == 2  # an eighth of 16
    assert result["parameters"] == 65
    assert list(result["entries"]) == ["nadamw", "shampoo"]
    for entry in result["entries"].values():
        assert len(entry["rounds"]) == 2
        assert min(entry["rounds"]) <= entry["milliseconds"] <= max(entry["rounds"])
        assert entry["peak_bytes"] is None
    assert "| mnist      | 2 " in done.stdout


@pytest.mark.slow
def test_what_fails_is_in_the_table(checkout: Path) -> None:
    done = run(checkout, "--workloads=mnist", "--device=cpu", "--batch=1000000000000")
    assert done.returncode == 1
    assert "- mnist: RuntimeError" in (checkout.parent / "models_cpu.md").read_text()


@pytest.mark.parametrize(
    ("flag", "message"),
    [
        ("--workloads=wmt_post_ln", "unknown workload 'wmt_post_ln'; known: mnist, "),
        ("--trial=9", "--trial=9: nadamw has 5 points"),
        ("--entries=nothing", "unknown entry 'nothing'; known: adamw, "),
    ],
)
def test_a_slip_is_named_in_one_line(checkout: Path, flag: str, message: str) -> None:
    done = run(checkout, "--device=cpu", flag)
    assert done.returncode == 2
    assert done.stderr.startswith(f"error: {message}")
    assert len(done.stderr.splitlines()) == 1


def test_ratios_are_of_the_same_round() -> None:
    def entry(*rounds: float) -> dict[str, Any]:
        return {"milliseconds": sorted(rounds)[1], "rounds": rounds, "peak_bytes": 2**30}

    result = {
        "batch_size": 4,
        "parameters": 2_500_000,
        "device": "A GPU",
        "tensor_float32": True,
        "entries": {"nadamw": entry(10.0, 20.0, 40.0), "shampoo": entry(11.0, 24.0, 40.0)},
    }
    text = benchmark_models.page({"wmt": result, "ogbg": {"problem": "MemoryError: no"}})
    (row,) = [line for line in text.splitlines() if "shampoo" in line]
    cells = [cell.strip() for cell in row.strip("|").split("|")]
    assert cells == [
        "wmt", "4", "2.5", "shampoo", "24.00", "1.200", "1.000 to 1.200", "1.00", "A GPU, TF32"
    ]  # fmt: skip
    assert "- ogbg: MemoryError: no" in text
