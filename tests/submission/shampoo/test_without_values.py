"""Steps of tensors that have no values, by which memory is estimated: meta and fake ones."""

import contextlib

import pytest
import torch
import torch.distributed as dist
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.testing._internal.distributed.fake_pg import FakeStore

from submission.shampoo import Shampoo
from tests.submission.shampoo import ranks
from tests.submission.shampoo.streams import OPTIONS, VARIANTS, assert_equal, parameters

SHAPES = [(7,), (12, 9), (3, 4, 2, 2), (70, 3)]
# One of each kind of state.
VARIED = ["shampoo", "soap, cholesky_qr", "kl_shampoo", "overlap soap", "bfloat16 state", "ema"]
KINDS = {"meta": contextlib.nullcontext, "fake": FakeTensorMode, "real": contextlib.nullcontext}


def stepped(kind, **options):
    """The optimizer after five steps, in which roots and bases were refreshed twice."""
    device = "meta" if kind == "meta" else "cpu"
    weights = [torch.nn.Parameter(torch.ones(shape, device=device)) for shape in SHAPES]
    optimizer = Shampoo(weights, **{**OPTIONS, **options})
    for _ in range(5):
        for weight in weights:
            weight.grad = torch.ones_like(weight)
        optimizer.step()
    optimizer.finish()
    return optimizer


def layout(state_dict):
    return {
        (index, name): (tuple(value.shape), value.dtype)
        for index, entry in state_dict["state"].items()
        for name, value in entry.items()
    }


@pytest.mark.parametrize("kind", ["meta", "fake"])
@pytest.mark.parametrize("variant", [*VARIED, "schedule_free", "sgd, momentum"])
def test_steps_allocate_what_those_of_real_tensors_do(variant, kind):
    real = stepped("real", **VARIANTS[variant])
    expected, size = layout(real.state_dict()), real.diagnostics()["state_bytes"]
    with KINDS[kind]():
        other = stepped(kind, **VARIANTS[variant])
        saved = other.state_dict()
        assert layout(saved) == expected
        assert other.diagnostics()["state_bytes"] == size
        assert "state on all ranks" in repr(other)
        other.load_state_dict(saved)
        other.step()


def test_fake_tensors_leave_nothing_behind():
    def run():
        weights = parameters([(6, 5), (9, 4)], torch.float32)
        optimizer = Shampoo(weights, **OPTIONS)
        for weight in weights:
            weight.grad = weight.detach().clone()
        optimizer.step()
        return weights

    expected = run()
    with FakeTensorMode():
        stepped("fake", method="soap", block_size=17)
    stepped("real", method="soap", block_size=17)
    assert_equal(run(), expected)


@pytest.mark.parametrize("kind", KINDS)
def test_torchs_fake_process_group_shows_a_rank_of_any_world(kind):
    (sizes,) = ranks.run(1, shares_of_ranks, kind)
    whole = sizes.pop()
    assert whole > max(sizes) > min(sizes) > 0
    assert sum(sizes) == whole


def shares_of_ranks(rank, kind):
    """Bytes of state of each of three ranks, and of one that has all."""
    del rank
    dist.destroy_process_group()
    sizes = []
    for number in range(3):
        dist.init_process_group("fake", store=FakeStore(), rank=number, world_size=3)
        with KINDS[kind]():
            sizes.append(stepped(kind).diagnostics()["state_bytes"])
        dist.destroy_process_group()
    sizes.append(stepped("real").diagnostics()["state_bytes"])
    dist.init_process_group("fake", store=FakeStore(), rank=0, world_size=1)
    return sizes


@pytest.mark.parametrize("method", ["shampoo", "soap", "kl_shampoo"])
def test_an_optimizer_of_meta_parameters_follows_them_to_their_device(method):
    with torch.device("meta"):
        model = torch.nn.Sequential(torch.nn.Linear(6, 5), torch.nn.Linear(5, 3))
    optimizer = Shampoo(model.parameters(), method=method, lr=0.1)
    swaps = torch.__future__.get_swap_module_params_on_conversion()
    torch.__future__.set_swap_module_params_on_conversion(True)  # as for DTensors, FSDP2's
    try:
        model.to_empty(device="cpu")
    finally:
        torch.__future__.set_swap_module_params_on_conversion(swaps)
    for layer in model:
        layer.reset_parameters()
    before = [weight.detach().clone() for weight in model.parameters()]
    model(torch.ones(4, 6)).square().mean().backward()
    optimizer.step()
    for weight, old in zip(model.parameters(), before, strict=True):
        assert not torch.equal(weight, old)


def test_a_step_warns_of_meta_parameters_that_the_model_has_replaced():
    with torch.device("meta"):
        model = torch.nn.Linear(6, 5)
    optimizer = Shampoo(model.named_parameters(), lr=0.1)
    model.to_empty(device="cpu").reset_parameters()
    model(torch.ones(4, 6)).square().mean().backward()
    with pytest.warns(RuntimeWarning, match="weight is on the meta device"):
        optimizer.step()


def test_fake_tensors_are_refused_outside_of_their_mode():
    with FakeTensorMode():
        weight = torch.nn.Parameter(torch.ones(6, 5))
        weight.grad = torch.ones(6, 5)
    with pytest.raises(RuntimeError, match=r"layer of shape .* outside of its mode"):
        Shampoo([("layer", weight)]).step()
