"""The checks before a long job: each finds what it is for, and all are reported together."""

import dataclasses
import json
import shutil
import socket
import subprocess
from types import SimpleNamespace

import pytest

from common.cli import UserError
from scripts.official import checks
from scripts.official.checks import NAMES, Checks
from tests.scripts.commands import finish
from tests.scripts.official.fakes import GOOD, Place, make_checkout, make_entry, make_trial
from tests.scripts.official.trees import grow
from workloads import registry

ANSWER = {
    "torch": "2.9.0+cu128",
    "gpus": [{"name": "NVIDIA A100-SXM4-40GB", "used_gb": 0.4, "total_gb": 42.3}] * 4,
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
def good(tmp_path, monkeypatch):
    """A node on which all is well; what the benchmark's Python answers may be changed."""
    grow(tmp_path / "data", registry.official("mnist").data.trees["pytorch"])
    machine(monkeypatch)
    return json.loads(json.dumps(ANSWER))


def machine(monkeypatch, cores=24, gb=350.0):
    monkeypatch.setattr("os.sched_getaffinity", lambda pid: set(range(cores)))
    memory = SimpleNamespace(available=int(gb * 1e9))
    monkeypatch.setattr("psutil.virtual_memory", lambda: memory)


def failing(trial, node, answer, capsys):
    """The lines of each check that fails."""
    with pytest.raises(UserError) as caught:
        Checks([trial], node, answer).run(NAMES)
    lines = {}
    for line in capsys.readouterr().err.splitlines():
        if line.startswith("check "):
            name, _, text = line.removeprefix("check ").partition(": ")
            lines.setdefault(name, []).append(text)
    assert str(caught.value).startswith(f"checks failed: {', '.join(lines)} (--skip_checks=")
    return lines


def test_a_good_node_passes_in_silence(tmp_path, trial, good, capsys):
    Checks([trial], Place(tmp_path).node(4), good).run(NAMES)
    assert capsys.readouterr().err == ""


def test_all_problems_at_once(tmp_path, trial, good, capsys, monkeypatch):
    good["gpus"] = [{"name": "A100", "used_gb": 9.0, "total_gb": 42.3}] * 3
    good["workloads"]["mnist"]["batch_sizes"]["toy"] = 17
    good["workloads"]["mnist"]["max_runtime_seconds"] = 59
    good["workloads"]["mnist"]["test_target"] = 0.96
    machine(monkeypatch, cores=1, gb=0.007)
    shutil.rmtree(tmp_path / "data" / "MNIST")
    monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=1e6, total=1e8))

    def unknown(name):
        raise socket.gaierror(-2, "Name or service not known")

    monkeypatch.setattr(socket, "gethostbyname", unknown)
    lines = failing(trial, Place(tmp_path).node(4), good, capsys)
    assert set(lines) == set(NAMES) - {"benchmark"}
    assert "PyTorch 2.9.0+cu128 sees 3 here" in lines["gpus"][0]
    assert lines["gpus"][1].startswith("GPU 0, A100, is in use: 9.0 GB")
    assert "training with toy, 17, is no multiple of 4" in lines["batch_size"][0]
    assert "max_runtime_seconds in v1.0 is 60, that of" in lines["version"][0]
    assert "test_target in v1.0 is 0.97, that of" in lines["version"][1]
    assert lines["cores"][0].startswith("1 CPU cores are available to 4 processes")
    assert str(tmp_path / "data/MNIST") in lines["data"][0]
    assert "mnist needs 0.0 for 3 checkpoints" in lines["disk"][0]
    assert lines["memory"][0].startswith("0.0 GB") and "at least 10.0" in lines["memory"][0]
    assert lines["memory"][1].startswith("/dev/shm has 0.10 GB")
    assert "processes cannot meet at localhost: Name or service not known" in lines["port"]


def test_only_mnist_trains_on_a_cpu(tmp_path, good, capsys):
    entry = make_entry(tmp_path / "toy", [GOOD])
    made = make_trial(entry)
    node = Place(tmp_path).node(0)
    Checks([made], node, good).run(NAMES)
    wmt = make_trial(entry, trial=dataclasses.replace(made.trial, workload="wmt"))
    with pytest.raises(UserError, match="checks failed: gpus"):
        Checks([wmt], node, good).run(["gpus"])
    assert "wmt does not train on a CPU" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("version", "torch", "gpus", "machine_of", "facts"),
    [
        ("v1.0", "2.5.1", "4 A100-SXM4-40GB", (24, 350), ["PyTorch 2.5.1, where v1.0 has 2.9.0"]),
        ("v0.6", "2.5.1", "8 Tesla V100-SXM2-16GB", (96, 240), []),
        ("v0.6", "2.5.1", "8 V100", (31, 240), ["31 CPU cores for 8 GPUs"]),
        ("v0.6", "2.5.1", "4 A100", (24, 240), ["8 V100 of 16 GB, not for 4 of A100"]),
        ("v1.0", "2.9.0", "8 A100", (48, 350), ["4 A100 of 40 GB, not for 8 of A100"]),
        ("v1.0", "2.9.0", "4 H100", (24, 350), ["for 4 of H100: times are not comparable"]),
        (
            "v1.0",
            "2.9.0",
            "4 A100-SXM4-80GB",
            (24, 350),
            ["GPUs of 85 GB, where v1.0 has 40"],
        ),
        ("v1.0", "2.9.0", "4 A100", (23, 350), ["23 CPU cores, where v1.0 has 24"]),
        ("v1.0", "2.9.0", "4 A100", (24, 300), ["300 GB of memory are available, where v1.0 has"]),
    ],
)
def test_other_versions_and_machines_are_warned_of(
    tmp_path, trial, good, capsys, monkeypatch, version, torch, gpus, machine_of, facts
):
    machine(monkeypatch, *machine_of)
    number, name = int(gpus[0]), gpus[2:]
    size = 85.1 if "80GB" in name else 16.9
    good["torch"] = torch
    good["gpus"] = [{"name": name, "used_gb": 0.4, "total_gb": size}] * number
    made = dataclasses.replace(trial, version=version)
    Checks([made], Place(tmp_path).node(number), good).run(NAMES)
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == len(facts)
    for line, fact in zip(lines, facts, strict=True):
        assert line.startswith("warning: ") and fact in line


def test_two_trials_side_by_side_need_twice_as_much(tmp_path, trial, good, capsys, monkeypatch):
    node = dataclasses.replace(Place(tmp_path).node(4), at_once=2)
    lines = failing(trial, node, good, capsys)
    assert lines == {"gpus": ["--gpus=4 --at_once=2, but PyTorch 2.9.0+cu128 sees 4 here"]}
    good["gpus"] *= 2
    Checks([trial], node, good).run(NAMES)
    assert capsys.readouterr().err.splitlines() == [
        "warning: 175 GB of memory are available for each trial, where v1.0 has 359",
        "warning: 12 CPU cores for each trial, where v1.0 has 24",
    ]
    machine(monkeypatch, cores=48, gb=700)
    Checks([trial], node, good).run(NAMES)
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize(
    ("failure", "fact"),
    [
        (subprocess.TimeoutExpired(["python"], 600), "did not answer within 600 s"),
        (OSError(8, "Exec format error"), "Exec format error"),
    ],
)
def test_a_python_that_does_not_answer_is_one_line(
    tmp_path, trial, capsys, monkeypatch, failure, fact
):
    def fails(*_, **__):
        raise failure

    monkeypatch.setattr(subprocess, "run", fails)
    with pytest.raises(UserError, match="checks failed: benchmark"):
        checks.check([trial], Place(tmp_path).node(0))
    (line,) = [line for line in capsys.readouterr().err.splitlines() if "check benchmark" in line]
    assert fact in line


def test_a_python_without_algoperf_is_named(tmp_path, trial, capsys):
    make_checkout(tmp_path / "checkout")
    with pytest.raises(UserError, match="checks failed: benchmark, data"):
        checks.check([trial], Place(tmp_path).node(0))
    fact = "cannot import the benchmark and the entry: ModuleNotFoundError"
    assert fact in capsys.readouterr().err


@pytest.mark.parametrize("given", [(), ("mnist",), ("[]",), ('{"workloads": []}',), ("{}", "{}")])
def test_the_probe_by_hand_says_what_it_takes(given):
    done = finish("-m", "scripts.official.probe", *given)
    assert done.returncode == 1 and done.stdout == ""
    (line,) = done.stderr.splitlines()
    assert line.startswith(f"error: QUESTION: got {' '.join(given) or 'none'}; allowed: one JSON")


def test_the_probe_asks_what_the_runner_will(tmp_path, trial, monkeypatch):
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
    node = Place(tmp_path).node(0)
    answer = checks.ask([trial], node)
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
        checks.ask([trial], node)
    monkeypatch.setattr(subprocess, "run", None)  # skipped checks ask nothing
    checks.check([trial], dataclasses.replace(node, skip_checks=NAMES))
