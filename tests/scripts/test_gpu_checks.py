"""The checks on a GPU, at tiny sizes on the CPU: parts, limits, goals, predictions, what stays."""

import pytest
import torch

from common import files
from common.cli import UserError
from scripts.benchmark import captured, factorisations, model_shapes, networks, training
from scripts.gpu_checks import __main__ as checks_command
from scripts.gpu_checks import parts, report
from scripts.gpu_checks.parts import CUDA_TESTS, PARTS, Part
from scripts.local import rivals
from scripts.local.environment import ROOT
from scripts.plan_scale.hardware import HARDWARE

CPU = torch.device("cpu")
NAME = "NVIDIA H100 80GB HBM3"
CONDITIONS = {"device": NAME, "git_commit_hash": "0123456789abcdef", "git_dirty": False}


def outcome(state="done", reason=""):
    return {"state": state, "reason": reason, "seconds": 3.0, "conditions": CONDITIONS}


def write_steps(folder, ours, metas):
    """Steps on a GPU of three optimizers and of one that is not installed."""
    rows = [
        {
            "optimizer": name,
            "failure": None,
            "milliseconds": {
                "plain": time,
                "refresh_part": None,
                "amortised": dict.fromkeys(("1", "10", "100"), time),
            },
            "ratio_to": {rivals.REFERENCE: {"amortised": {"1": time / metas}}},
        }
        for name, time in {"adamw": 1.0, report.OURS: ours, rivals.REFERENCE: metas}.items()
    ]
    rows.append({"optimizer": "muon", "failure": None, "absent": "not installed"})
    settings = {"float32_matmul_precision": "high"}
    where = files.make_directory(folder / parts.STEPS_FOLDER)
    files.write_json(where / "cuda.json", {"small_200k": {"settings": settings, "rows": rows}})


@pytest.mark.parametrize("name", networks.NETWORKS)
def test_networks_have_the_shapes_that_their_names_promise(name):
    with torch.device("meta"):
        model = networks.NETWORKS[name].build()
        logits = model(
            torch.empty(1, 3, networks.NETWORKS[name].side, networks.NETWORKS[name].side)
        )
    shapes = sorted(tuple(parameter.shape) for parameter in model.parameters())
    assert shapes == sorted(model_shapes.shapes(name).values())
    assert logits.shape == (1, 1000)


def test_a_replay_is_the_step_that_was_captured():
    comparison = captured.compare({"matrix": (12, 8), "vector": (7,)}, CPU, steps=3)
    assert comparison["difference"] == 0
    assert comparison["replay"]["cpu"]["count"] == comparison["step"]["cpu"]["count"] == 3
    assert captured._difference(torch.tensor([2.0, 1.0]), torch.tensor([2.0, 4.0])) == 0.75


def test_training_steps_are_told_apart_and_a_failure_ends_one_optimizer_alone():
    optimizers = {name: rivals.available()[name] for name in ("adamw", "ours_shampoo")}
    rows = training.measure(networks.TINY["vit_s16"], optimizers, 2, CPU, cycle=2, repeats=1)
    adamw, ours = rows
    assert adamw["over_adamw"] == {"1": 0, "10": 0, "100": 0}
    assert ours["plain"]["cpu"]["count"] == ours["refresh"]["cpu"]["count"] == 1
    assert adamw["refresh"] is None

    def refuse(*_):
        raise RuntimeError("out of memory\nwith details")

    broken = rivals.Rival("broken", "0", refuse, lambda step, interval: False)
    rows = training.measure(
        networks.TINY["vit_s16"], {"broken": broken, **optimizers}, 2, CPU, cycle=2, repeats=1
    )
    assert [row["failure"] for row in rows] == ["RuntimeError: out of memory", None, None]
    assert rows[0]["whole"] == {}


def test_factorisations_have_a_row_each_and_none_that_is_too_slow():
    rows = factorisations.measure(8, 2, CPU, repeats=2)
    assert [row["method"] for row in rows] == list(factorisations.METHODS)
    assert all(row["cpu"]["count"] == 2 and row["failure"] is None for row in rows)
    slow = factorisations.measure(8, 2, CPU, repeats=1, limit=1e-9)
    assert {row["failure"] for row in slow} == {"longer than 1e-09 s"}


def test_all_files_with_tests_for_a_gpu_are_run():
    reason = "needs a CUDA device"
    files_with = {
        str(path.relative_to(ROOT))
        for path in (ROOT / "tests" / "submission").rglob("test_*.py")
        if reason in path.read_text("utf-8")
    }
    assert files_with == set(CUDA_TESTS)


def test_a_part_that_lacks_something_says_what():
    assert Part("x", 1.0, lambda *_: (), needs="nonesuch").missing() == "nonesuch is not installed"
    assert PARTS["tests"].missing() is None


def test_the_page_holds_measurements_against_goals_and_predictions(tmp_path):
    write_steps(tmp_path, ours=2.0, metas=20.0)
    rows = [
        {"optimizer": name, "whole": {}, "over_adamw": {"100": over}, "failure": None}
        | {"forward_and_backward": {"cpu": {"median": 1.0}, "device": {"median": 50.0}}}
        for name, over in {"adamw": 0.0, report.OURS: 0.05}.items()
    ]
    files.write_json(
        tmp_path / "training.json", {"networks": {"small_200k": {"batch": 256, "rows": rows}}}
    )
    difference = {"captured": True, "steps": 2, "difference": 0.0, "replay": None, "step": None}
    files.write_json(tmp_path / "captured.json", {"networks": {"vit_s16": difference}})
    rows = report.goals(tmp_path, "h100")
    met = {row["goal"]: row["met"] for row in rows}
    assert met == {
        "small_200k: a step at interval 1 / Meta's": "yes",
        "small_200k, 256 images: a training step at interval 100 over AdamW's": "no",
        "vit_s16: a replay's difference": "yes",
    }
    planned = report.predictions("small_200k", "h100", with_tf32=True)
    ours, adamw = (1e3 * planned[name]["average"]["100"] for name in ("shampoo", "adamw"))
    assert rows[1]["predicted"] == f"{(ours - adamw) / (50 + adamw):.1%}"
    checks = {"tiny": False, "parts": {"steps": outcome("limited", "ended after 600 s")}}
    page = report.page(tmp_path, checks)
    predicted = report.predictions("small_200k", "h100", with_tf32=True)["shampoo"]["plain"]
    assert f"2 ({1e3 * predicted:.3g})" in page
    assert HARDWARE["h100"].title in page
    assert "limited: ended after 600 s" in page
    assert "not installed" in page
    assert page.count("not run") == len(PARTS) - 1


def test_without_metas_the_goal_says_why(tmp_path):
    row = {"optimizer": rivals.REFERENCE, "failure": None, "absent": "No module named 'x'"}
    result = {"settings": {"float32_matmul_precision": "high"}, "rows": [row]}
    files.make_directory(tmp_path / parts.STEPS_FOLDER)
    files.write_json(tmp_path / parts.STEPS_FOLDER / "cuda.json", {"vit_s16": result})
    (goal,) = report.goals(tmp_path, None)
    assert goal["met"] == "No module named 'x'"


def test_counts_of_tests_are_kept_and_the_machine_s_name_is_not(tmp_path):
    report_of_pytest = (
        '<testsuites><testsuite tests="3" failures="1" errors="0" skipped="1" hostname="secret">'
        '<testcase><skipped message="needs a CUDA device"/></testcase></testsuite></testsuites>'
    )
    (tmp_path / "tests.xml").write_text(report_of_pytest)
    parts.collect_tests(tmp_path)
    parts.collect_tests(tmp_path)
    expected = {"tests": 3, "failures": 1, "errors": 0, "skipped": 1}
    assert files.read_json(tmp_path / parts.TESTS_FILE) == {
        **expected,
        "reasons": ["needs a CUDA device"],
    }
    assert [path.name for path in tmp_path.iterdir()] == [parts.TESTS_FILE]


@pytest.fixture(autouse=True)
def logs(tmp_path_factory, monkeypatch):
    monkeypatch.setattr(checks_command, "LOGS", tmp_path_factory.mktemp("logs"))


@pytest.mark.slow
def test_tiny_checks_run_on_a_cpu_and_what_is_there_stays(tmp_path):
    assert checks_command.check(list(PARTS), "cpu", tmp_path, tiny=True) == 0
    folder = tmp_path / "cpu"
    checks = files.read_json(folder / "checks.json")
    assert {name: part["state"] for name, part in checks["parts"].items()} == dict.fromkeys(
        PARTS, "done"
    )
    page = (folder / "README.md").read_text("utf-8")
    assert "tiny sizes that say nothing of the goals" in page
    assert all(f"## {title}" in page for title in ("Goals", "Training steps", "Factorisations"))
    assert "needs a CUDA device" in page
    before = {path: path.read_bytes() for path in folder.rglob("*.json")}
    assert checks_command.check(["training"], "cpu", tmp_path, tiny=True, seconds=0.1) == 1
    after = {path: path.read_bytes() for path in folder.rglob("*.json")}
    changed = {path.name for path in before if after[path] != before[path]}
    assert changed == {"checks.json"}
    assert files.read_json(folder / "checks.json")["parts"]["training"]["state"] == "limited"


def test_tiny_sizes_and_full_ones_are_not_mixed(tmp_path):
    path = tmp_path / "checks.json"
    assert checks_command._earlier(path, tiny=True) == {"tiny": True, "parts": {}}
    files.write_json(path, {"tiny": True, "parts": {"steps": outcome()}})
    assert checks_command._earlier(path, tiny=True)["parts"]
    with pytest.raises(UserError, match="is of tiny sizes; give another --output"):
        checks_command._earlier(path, tiny=False)
