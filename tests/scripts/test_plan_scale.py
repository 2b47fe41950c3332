"""The plan against real optimizers, and what the issue asks of balance, state and messages."""

import dataclasses
import math

import pytest
import torch
import torch.distributed as dist

from common.cli import UserError
from scripts.benchmark import model_shapes
from scripts.benchmark.counting import WorkCount
from scripts.plan_scale import model as plan_scale_model
from scripts.plan_scale import ranks as plan_scale_ranks
from scripts.plan_scale import report as plan_scale_report
from scripts.plan_scale.hardware import HARDWARE
from scripts.plan_scale.model import Question
from scripts.plan_scale.ranks import World
from submission.shampoo import Shampoo
from submission.shampoo.config import DistributedConfig, ShampooConfig
from tests.scripts.commands import finish, must_refuse
from tests.submission.shampoo import ranks
from tests.submission.shampoo.test_distributed import laid_out, like

SHAPES = [(7,), (12, 9), (11, 2), (3, 4, 2, 2), (70, 3), (5, 1), (1, 5), (10, 10), (30, 2)]
OPTIONS = {"block_size": 8, "refresh_interval": 4}


def question(model, size, mesh):
    return Question(
        model=model,
        world=World.of(size, mesh),
        config=ShampooConfig(refresh_interval=100),
        distributed=DistributedConfig(),
        parameter_dtype=torch.float32,
        hardware=HARDWARE["h100"],
    )


def real(rank, mode, method):
    """Bytes of state and bytes sent of an optimizer that has taken a step."""
    del rank
    weights = laid_out(mode, [torch.ones(shape) for shape in SHAPES])
    for weight in weights:
        weight.grad = like(weight, torch.ones(weight.shape))
    optimizer = Shampoo(weights, method=method, **OPTIONS)
    optimizer.step()
    diagnostics = optimizer.diagnostics()
    return diagnostics["state_bytes"], diagnostics["bytes_sent_per_step"]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("mode", "mesh", "size", "method"),
    [
        ("one", "ddp", 1, "soap"),
        ("ddp", "ddp", 4, "shampoo"),
        ("fsdp", "fsdp", 4, "kl_shampoo"),
        ("hsdp", "hsdp:2", 4, "shampoo"),
    ],
)
def test_plans_what_real_ranks_hold_and_send(mode, mesh, size, method):
    measured = ranks.run(size, real, mode, method) if size > 1 else [real(0, mode, method)]
    config = ShampooConfig(method=method, **OPTIONS)
    kinds = ("moments", "factors", "roots", "others")
    for number, (state, sent) in enumerate(measured):
        rank = plan_scale_ranks.build_rank(
            World.of(size, mesh), SHAPES, torch.float32, config, DistributedConfig(), number
        )
        assert sum(rank.memory[kind] for kind in kinds) == state
        assert rank.bytes_sent == sent
        assert sum(rank.count.sent.values()) == sent
        specs = rank.layout.placed_stacks[0].specs
        assert plan_scale_model.owner_states(specs, config)[number] == state


@pytest.mark.parametrize("model", ["resnet50", "vit_s16"])
def test_eight_ranks_share_alike(model):
    plan = plan_scale_model.answer(question(model, 8, "ddp"))
    assert 1 <= plan["balance"] <= 1.1
    alone = plan_scale_model.answer(question(model, 1, "ddp"))
    assert plan["state"]["mean"] * 8 == alone["state"]["max"]
    assert plan["state"]["max"] <= 1.1 * alone["state"]["max"] / 8
    assert plan["seconds"]["step"] < alone["seconds"]["step"]
    shared, all_of_it = plan["refresh"], alone["refresh"]
    assert shared["flops_mean"] == pytest.approx(all_of_it["flops_mean"] / 8)
    # Launches are as many for a smaller stack.
    assert all_of_it["seconds_mean"] / 8 < shared["seconds_mean"] < all_of_it["seconds_mean"]
    assert plan["refresh"]["seconds_slowest"] >= plan["refresh"]["seconds_mean"]


# Padding to the largest share, of what the issue allows: P/W (W-1) elements, and twice that.
@pytest.mark.parametrize(
    ("model", "mesh", "most"),
    [
        ("resnet50", "ddp", 1.04),
        ("vit_s16", "ddp", 1.02),
        ("resnet50", "fsdp", 1.0),
        ("vit_s16", "fsdp", 1.0),
    ],
)
def test_sends_no_more_than_all_that_others_need(model, mesh, most):
    plan = plan_scale_model.answer(question(model, 8, mesh))
    allowed = 4 * plan["parameters"] / 8 * 7 * (2 if mesh == "fsdp" else 1)
    assert plan["bytes_sent"] <= most * allowed


def test_a_rank_of_thousands_is_built_alone_and_leaves_nothing_behind():
    asked = question("gpt2_small", 1024, "hsdp:8")
    plan = plan_scale_model.answer(asked)
    assert plan["owners"] == 1024
    assert plan["state"]["max"] < 4 * 2**20 * 8
    assert not dist.is_initialized()
    assert f"{plan['parameters']:,}" in plan_scale_report.one("a title", asked, plan)
    assert plan_scale_model.overhead(plan) > 0


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_factors_of_any_dtype_are_planned(dtype):
    asked = question("small_200k", 1, "ddp")
    config = dataclasses.replace(asked.config, method="kl_shampoo", factor_dtype=dtype)
    plan = plan_scale_model.answer(dataclasses.replace(asked, config=config))
    single = plan_scale_model.answer(asked)
    assert plan["memory"]["factors"] * 4 == single["memory"]["factors"] * dtype.itemsize


def test_averages_of_weights_take_a_copy_and_a_pass():
    asked = question("small_200k", 1, "ddp")
    config = dataclasses.replace(asked.config, averaging="ema")
    plan = plan_scale_model.answer(dataclasses.replace(asked, config=config))
    without = plan_scale_model.answer(asked)
    tensors = len(model_shapes.shapes("small_200k"))
    assert without["memory"]["averages"] == 0
    assert plan["memory"]["averages"] == 4 * plan["parameters"] + 8 * tensors
    # Of what is short: a difference, its product with a scalar, and a sum.
    elements = (plan["bytes"] - without["bytes"]) / (4 * plan["parameters"])
    assert 3 + 2 + 3 <= elements <= 10.1


def test_counts_products_traffic_and_the_most_that_lives():
    left = torch.ones(4, 8, device="meta")
    with WorkCount() as count:
        product = left @ left.T
        product.mul_(2)
        del product
        for _ in range(3):
            left.copy_(left + 1)
    assert count.flops == 2 * 4 * 8 * 4
    assert count.kernels[0].bytes == 4 * (2 * 32 + 16)
    assert count.kernels[1].bytes == 4 * 2 * 16
    assert count.kernels[-1].bytes == 4 * 2 * 32
    assert count.peak == 4 * 32


def test_slower_figures_give_longer_times():
    asked = question("gpt2_small", 8, "ddp")
    slow = dataclasses.replace(
        asked, hardware=dataclasses.replace(asked.hardware, link=1e9, float32=1e12)
    )
    fast, slower = plan_scale_model.answer(asked), plan_scale_model.answer(slow)
    sent = fast["bytes_sent"]
    assert fast["seconds"]["communication"] == pytest.approx(sent / 450e9)
    assert slower["seconds"]["communication"] == pytest.approx(sent / 1e9)
    assert slower["seconds"]["refresh"] > 10 * fast["seconds"]["refresh"]
    assert slower["seconds"]["adamw"] == fast["seconds"]["adamw"]


def test_sweep_names_known_models_and_meshes():
    for model, size, mesh in plan_scale_report.cases():
        assert model in model_shapes.MODELS
        assert math.gcd(size, World.of(size, mesh).shards) == World.of(size, mesh).shards


@pytest.mark.parametrize(
    ("size", "mesh", "message"),
    [
        (0, "ddp", "--world: 0 given; allowed: 1 to 4096"),
        (8, "tp", "--mesh: 'tp' given; allowed: ddp, fsdp, hsdp:SHARDS"),
        (8, "hsdp:3", "--mesh: 3 shards given; allowed: divisors of --world=8"),
    ],
)
def test_refuses_worlds_that_cannot_be(size, mesh, message):
    with pytest.raises(UserError, match=message):
        World.of(size, mesh)


def test_refuses_an_ownership_group_that_does_not_fit():
    asked = dataclasses.replace(
        question("small_200k", 8, "ddp"), distributed=DistributedConfig(group_size=3)
    )
    with pytest.raises(UserError, match="--group_size: group_size must divide the 8 ranks"):
        plan_scale_model.answer(asked)


def test_an_unknown_model_ends_in_one_line():
    line = must_refuse(finish("-m", "scripts.plan_scale", "--model=alexnet"))
    assert line.startswith("error: --model: alexnet; allowed: criteo1tb")


@pytest.mark.parametrize(
    ("flag", "message"),
    [
        ("--efficiency=1.5", "--efficiency: 1.5 given; allowed: in (0, 1]"),
        ("--step_ms=0", "--step_ms: 0.0 given; allowed: above 0"),
        ("--launch=-1", "--launch: -1.0 given; allowed: above 0"),
    ],
)
def test_figures_that_cannot_be_are_refused(flag, message):
    done = finish("-m", "scripts.plan_scale", "--model=vit_s16", flag)
    assert (done.returncode, done.stderr) == (2, f"error: {message}\n")
