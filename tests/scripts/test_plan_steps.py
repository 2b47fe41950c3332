"""The roofline of step times: what bounds kernels, and the committed table."""

import dataclasses

import pytest
import torch

from common import files
from scripts.benchmark import model_shapes
from scripts.benchmark.counting import Kernel
from scripts.local.environment import ROOT
from scripts.plan_scale import model, steps
from scripts.plan_scale.hardware import HARDWARE, Bounds
from submission.plan.solvers import TF32_DAMPING

COMMITTED = ROOT / "results" / "scaling" / "steps.json"
H100 = HARDWARE["h100"]


def test_every_device_states_figures_and_sources():
    assert {*steps.DEVICES, "v100"} == HARDWARE.keys()
    for hardware in HARDWARE.values():
        assert hardware.bfloat16 >= hardware.tensor_float32 >= hardware.float32 > hardware.memory
        assert len(hardware.source) > 20 < len(hardware.network_source)
        assert hardware.launch_source


@pytest.mark.parametrize(
    ("name", "value"), [("memory", 0.0), ("launch", -1.0), ("source", ""), ("float32", 0)]
)
def test_refuses_figures_that_cannot_be(name, value):
    with pytest.raises(ValueError, match=f"{name} must be a"):
        dataclasses.replace(H100, **{name: value})


def test_a_kernel_takes_the_longest_of_products_memory_and_launch():
    kernels = [
        Kernel(67 * 10**12, 10, torch.float32),
        Kernel(10, int(3.35e12), torch.float32),
        Kernel(10, 10, torch.float32),
    ]
    bounds = H100.bounds(kernels, efficiency=0.5, with_tf32=False)
    assert bounds == Bounds(products=2.0, memory=2.0, launches=H100.launch)
    assert bounds.total == pytest.approx(4 + H100.launch)
    assert H100.bounds(kernels[:1], 1.0, with_tf32=True).products == pytest.approx(67 / 494.7)
    half = dataclasses.replace(kernels[0], dtype=torch.bfloat16)
    assert H100.bounds([half], 1.0, with_tf32=False).products == pytest.approx(67 / 989.4)
    assert (Bounds(1, 2, 3) + Bounds(1, 1, 1)) * 2 == Bounds(4, 6, 8)
    assert Bounds(launches=1.0).main == "launches"


def test_muon_multiplies_in_bfloat16_and_takes_what_shampoo_preconditions():
    kernels = steps.kernels("wmt", "muon")
    products = [kernel for kernel in kernels if kernel.flops]
    shapes = model_shapes.shapes("wmt").values()
    matrices = [shape for shape in shapes if len(shape) >= 2 and max(shape) <= 2**14]
    assert {kernel.dtype for kernel in products} == {torch.bfloat16}
    # Three products in each of five iterations.
    assert len(products) == 15 * len(matrices)
    others = sum(torch.Size(shape).numel() for shape in shapes if shape not in matrices)
    assert kernels[-1] == Kernel(0, 28 * others, torch.float32)
    assert len(steps.kernels("wmt", "adamw")) == 1


def test_a_refresh_takes_tf32_only_where_the_optimizer_does():
    setting = steps.Setting(ranks=1, with_tf32=True, refresh="together")
    question = setting.question("gpt2_small", 1, HARDWARE["a100"])
    exact, rounded = (
        model.answer(
            dataclasses.replace(
                question, config=dataclasses.replace(question.config, damping=damping)
            )
        )
        for damping in (TF32_DAMPING / 10, TF32_DAMPING)
    )
    assert exact["refresh"]["bounds"]["products"] > 3 * rounded["refresh"]["bounds"]["products"]


def test_the_committed_table_is_what_the_planner_says():
    stored = files.read_json(COMMITTED)
    setting = steps.Setting(**stored["settings"])
    assert setting == steps.Setting()
    assert [row["model"] for row in stored["rows"]] == [
        name for name in model_shapes.ALGOPERF for _ in range(3 * len(steps.DEVICES))
    ]
    devices = {name: HARDWARE[name] for name in steps.DEVICES}
    expected = [row for row in stored["rows"] if row["model"] == "fastmri"]
    hint = "run: python -m scripts.plan_scale --steps --output=results/scaling"
    for row, committed in zip(steps.rows(["fastmri"], devices, setting), expected, strict=True):
        seconds, stated = row["seconds"], committed["seconds"]
        assert row["bound"] == committed["bound"], hint
        assert seconds["average"] == pytest.approx(stated["average"]), hint
        assert seconds["refresh"] == pytest.approx(stated["refresh"]), hint
    page = COMMITTED.with_suffix(".md").read_text("utf-8")
    assert page == steps.page(setting, stored["rows"]), hint


def test_averages_lie_between_a_plain_step_and_one_that_refreshes_everything():
    for row in files.read_json(COMMITTED)["rows"]:
        seconds = row["seconds"]
        if row["optimizer"] == "shampoo":
            assert seconds["plain"] < seconds["average"]["100"] < seconds["average"]["10"]
            assert seconds["average"]["10"] < seconds["average"]["1"]
            assert seconds["messages"] > 0
        else:
            assert set(seconds["average"].values()) == {seconds["plain"]}
            assert seconds["refresh"] is None
