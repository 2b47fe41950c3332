"""The checks before a long job: each finds what it is for, and all are reported together."""

import json
import shutil
import socket
import subprocess
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from common.cli import UserError
from scripts.official import checks, memory, paths
from scripts.official.command import Node
from scripts.official.trial import OfficialTrial
from tests.scripts.official.fakes import GOOD, Place, make_checkout, make_entry, make_trial

ANSWER: dict[str, Any] = {
    "torch": "2.5.1+cu124",
    "algoperf": "0.6",
    "gpus": [{"name": "V100", "used_gb": 0.4}] * 8,
    "workloads": {
        "mnist": {
            "max_runtime_seconds": 60,
            "validation_target": 0.97,
            "test_target": 0.97,
            "eval_batch_size": 10_000,
            "batch_sizes": {"toy": 16},
        }
    },
}


@pytest.fixture
def trial(tmp_path: Path) -> OfficialTrial:
    return make_trial(make_entry(tmp_path / "toy", [GOOD]))


@pytest.fixture
def good(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """A node on which all is well; what the benchmark's Python answers may be changed."""
    answer: dict[str, Any] = json.loads(json.dumps(ANSWER))
    monkeypatch.setattr(checks, "ask", lambda planned, node: answer)
    monkeypatch.setattr(paths, "missing", lambda workload, root: [])
    monkeypatch.setattr(checks, "_GB_PER_PROCESS", 0.001)
    monkeypatch.setattr(checks, "available_cores", lambda: list(range(32)))
    return answer


def failing(
    trial: OfficialTrial, node: Node, capsys: pytest.CaptureFixture[str]
) -> dict[str, list[str]]:
    """The lines of each check that fails."""
    with pytest.raises(UserError) as caught:
        checks.check([trial], node)
    lines: dict[str, list[str]] = {}
    for line in capsys.readouterr().err.splitlines():
        if line.startswith("check "):
            name, _, text = line.removeprefix("check ").partition(": ")
            lines.setdefault(name, []).append(text)
    assert str(caught.value).startswith(f"checks failed: {', '.join(lines)} (--skip_checks=")
    return lines


def test_a_good_node_passes_in_silence(
    tmp_path: Path, trial: OfficialTrial, good: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    checks.check([trial], Place(tmp_path).node(8))
    assert capsys.readouterr().err == ""


def test_all_problems_at_once(
    tmp_path: Path,
    trial: OfficialTrial,
    good: dict[str, Any],
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    good["gpus"] = [{"name": "V100", "used_gb": 9.0}] * 3
    good["workloads"]["mnist"]["batch_sizes"]["toy"] = 17
    good["workloads"]["mnist"]["max_runtime_seconds"] = 59
    good["workloads"]["mnist"]["test_target"] = 0.96
    monkeypatch.setattr(checks, "available_cores", lambda: [0])
    monkeypatch.setattr(paths, "missing", lambda workload, root: ["a is missing", "b"])
    monkeypatch.setattr(checks, "_GB_PER_PROCESS", 1e6)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=1e6, total=1e8))

    def unknown(name: str) -> str:
        raise socket.gaierror(-2, "Name or service not known")

    monkeypatch.setattr(socket, "gethostbyname", unknown)
    lines = failing(trial, Place(tmp_path).node(8), capsys)
    assert set(lines) == set(checks.NAMES) - {"benchmark"}
    assert lines["gpus"][0] == "--gpus=8, but PyTorch 2.5.1+cu124 sees 3 here"
    assert lines["gpus"][1] == "GPU 0, V100, is in use: 9.0 GB are taken"
    assert lines["batch_size"] == [
        "mnist: the batch size of training with toy, 17, is no multiple of 8"
    ]
    assert "max_runtime_seconds in v0.6 is 60, that of" in lines["version"][0]
    assert "test_target in v0.6 is 0.97, that of" in lines["version"][1]
    assert lines["cores"][0].startswith("1 CPU cores are available to 8 processes")
    assert lines["data"] == ["a is missing", "b"]
    assert "mnist needs 0.0 for 3 checkpoints" in lines["disk"][0]
    assert "8 processes need at least 8000000.0" in lines["memory"][0]
    assert lines["memory"][1].startswith("/dev/shm has 0.10 GB")
    assert "processes cannot meet at localhost: Name or service not known" in lines["port"]


def test_only_mnist_trains_on_a_cpu(
    tmp_path: Path, good: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    entry = make_entry(tmp_path / "toy", [GOOD])
    made = make_trial(entry)
    node = Place(tmp_path).node(0)
    checks.check([made], node)
    wmt = make_trial(entry, trial=made.trial.__class__("wmt", "toy", 0, 1, {}))
    good["workloads"]["wmt"] = {
        "max_runtime_seconds": 43336,
        "validation_target": 30.8491,
        "test_target": 30.7219,
        "eval_batch_size": 128,
        "batch_sizes": {"toy": 16},
    }
    assert failing(wmt, node, capsys) == {
        "gpus": ["wmt does not train on a CPU under PyTorch; --gpus=0 is for mnist"]
    }


def test_other_versions_and_machines_are_warned_of(
    tmp_path: Path, trial: OfficialTrial, good: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    good["torch"], good["gpus"] = "2.9.0", [{"name": "H100", "used_gb": 0.4}] * 4
    checks.check([trial], Place(tmp_path).node(4))
    first, second = capsys.readouterr().err.splitlines()
    assert first == "warning: PyTorch 2.9.0, where the benchmark has 2.5.1"
    assert second == "warning: budgets are for 8 V100 GPUs, not for 4 of H100"


def test_few_cores_are_warned_of(
    tmp_path: Path,
    trial: OfficialTrial,
    good: dict[str, Any],
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(checks, "available_cores", lambda: list(range(31)))
    checks.check([trial], Place(tmp_path).node(8))
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("warning: 31 CPU cores for 8 GPUs; with fewer than 4 for each")


def test_a_control_group_limits_memory(
    tmp_path: Path,
    trial: OfficialTrial,
    good: dict[str, Any],
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(memory, "available_gb", lambda: 0.007)
    assert failing(trial, Place(tmp_path).node(8), capsys) == {
        "memory": ["0.0 GB of memory are available; 8 processes need at least 0.0"]
    }


@pytest.mark.parametrize(
    "failure",
    [subprocess.TimeoutExpired(["python"], 600), OSError(8, "Exec format error")],
)
def test_a_python_that_does_not_answer_is_one_line(
    tmp_path: Path,
    trial: OfficialTrial,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    failure: Exception,
) -> None:
    def fails(*_: object, **__: object) -> None:
        raise failure

    monkeypatch.setattr(subprocess, "run", fails)
    (line,) = failing(trial, Place(tmp_path).node(0), capsys)["benchmark"]
    assert line.endswith((" did not answer within 600 s", "[Errno 8] Exec format error"))


def test_a_python_without_algoperf_is_named(
    tmp_path: Path, trial: OfficialTrial, capsys: pytest.CaptureFixture[str]
) -> None:
    make_checkout(tmp_path / "checkout")
    lines = failing(trial, Place(tmp_path).node(0), capsys)
    assert "cannot import the benchmark and the entry: ModuleNotFoundError" in lines["benchmark"][0]
    assert "mnist" in lines["data"][0]
    assert set(lines) <= {"benchmark", "data", "memory", "disk"}


def test_the_probe_asks_what_the_runner_will(
    tmp_path: Path, trial: OfficialTrial, monkeypatch: pytest.MonkeyPatch
) -> None:
    checkout = make_checkout(tmp_path / "checkout")
    package = checkout / "algoperf" / "workloads"
    package.mkdir(parents=True)
    (package / "workloads.py").write_text(
        "WORKLOADS = {'mnist': {'workload_path': 'mnist/mnist', 'workload_class_name': 'Mnist'}}\n"
        "BASE_WORKLOADS_DIR = 'algoperf/workloads/'\n"
        "class Mnist:\n"
        "    max_allowed_runtime_sec, eval_batch_size = 60, 100\n"
        "    validation_target_value, test_target_value = 0.97, 0.96\n"
        "def import_workload(path, name, return_class):\n"
        "    assert path == 'algoperf/workloads/mnist/mnist_pytorch/workload.py' and return_class\n"
        "    print('noise', end='')\n"
        "    return Mnist\n"
    )
    (checkout / "algoperf-0.6.dist-info").mkdir()
    (checkout / "algoperf-0.6.dist-info" / "METADATA").write_text("Name: algoperf\nVersion: 0.6\n")
    answer = checks.ask([trial], Place(tmp_path).node(0))
    assert answer["algoperf"] == "0.6"
    assert answer["gpus"] == []
    assert answer["workloads"]["mnist"] == {
        "max_runtime_seconds": 60,
        "validation_target": 0.97,
        "test_target": 0.96,
        "eval_batch_size": 100,
        "batch_sizes": {"toy": 16},
    }
    (tmp_path / "toy" / "submission.py").write_text("import nothing_like_it\n")
    with pytest.raises(UserError, match="No module named 'nothing_like_it'"):
        checks.ask([trial], Place(tmp_path).node(0))
    monkeypatch.setattr(subprocess, "run", None)  # skipped checks ask nothing
    skipping = Node(**{**vars(Place(tmp_path).node(0)), "skip_checks": checks.NAMES})
    checks.check([trial], skipping)
