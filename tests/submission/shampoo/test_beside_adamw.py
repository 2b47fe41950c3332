"""What works with torch.optim.AdamW works here: tables take its steps, so that both end alike."""

import copy
from functools import partial

import pytest
import torch
from torch import nn
from torch.optim import lr_scheduler, swa_utils
from torch.utils import _pytree

from submission.shampoo import Shampoo
from tests.submission.shampoo.streams import OPTIONS, assert_equal, parameters, run, set_grads

ADAMW = {"lr": 0.01, "weight_decay": 0.1}
# Table by name, since "auto" takes a small matrix for one to precondition.
MAKERS = [torch.optim.AdamW, partial(Shampoo, table=True)]

SCHEDULES = {
    "LambdaLR": lambda o: lr_scheduler.LambdaLR(o, [lambda t: 0.9**t, lambda t: 1 / (1 + t)]),
    "MultiplicativeLR": lambda o: lr_scheduler.MultiplicativeLR(o, lambda t: 0.9),
    "StepLR": lambda o: lr_scheduler.StepLR(o, 3, 0.5),
    "MultiStepLR": lambda o: lr_scheduler.MultiStepLR(o, [2, 5]),
    "ConstantLR": lambda o: lr_scheduler.ConstantLR(o, 0.5, 3),
    "LinearLR": lambda o: lr_scheduler.LinearLR(o, 0.1, 1.0, 5),
    "ExponentialLR": lambda o: lr_scheduler.ExponentialLR(o, 0.9),
    "CosineAnnealingLR": lambda o: lr_scheduler.CosineAnnealingLR(o, 7),
    "CosineAnnealingWarmRestarts": lambda o: lr_scheduler.CosineAnnealingWarmRestarts(o, 3),
    "PolynomialLR": lambda o: lr_scheduler.PolynomialLR(o, 9, 2.0),
    "CyclicLR": lambda o: lr_scheduler.CyclicLR(o, 0.001, 0.02, step_size_up=3),
    "OneCycleLR": lambda o: lr_scheduler.OneCycleLR(o, 0.02, total_steps=12),
    "ReduceLROnPlateau": lambda o: lr_scheduler.ReduceLROnPlateau(o, patience=1),
    "SWALR": lambda o: swa_utils.SWALR(o, 0.05, anneal_epochs=4),
    "SequentialLR": lambda o: lr_scheduler.SequentialLR(
        o, [lr_scheduler.LinearLR(o, 0.1, 1.0, 3), lr_scheduler.CosineAnnealingLR(o, 6)], [3]
    ),
    "ChainedScheduler": lambda o: lr_scheduler.ChainedScheduler(
        [lr_scheduler.LinearLR(o, 0.1, 1.0, 3), lr_scheduler.ExponentialLR(o, 0.9)]
    ),
}


def _advance(schedule):
    is_plateau = isinstance(schedule, lr_scheduler.ReduceLROnPlateau)
    schedule.step(*[1.0] if is_plateau else [])


@pytest.mark.parametrize("as_tensor", [False, True])
@pytest.mark.parametrize("name", SCHEDULES)
def test_schedules_steer_the_lr_and_the_betas(name, as_tensor):
    ends = []
    for make in MAKERS:
        weights, trace = parameters([(6, 5), (7,)], torch.float32), []
        groups = [{"params": [weights[0]]}, {"params": [weights[1]], "weight_decay": 0.0}]
        lr = torch.tensor(0.01) if as_tensor else 0.01
        optimizer = make(groups, lr=lr, weight_decay=0.1)
        schedule = SCHEDULES[name](optimizer)
        for seed in range(9):
            set_grads(seed, weights)
            optimizer.step()
            _advance(schedule)
            trace += [float(group["lr"]) for group in optimizer.param_groups]
            trace += [group["betas"] for group in optimizer.param_groups]
        ends.append((weights, trace))
    assert ends[0][1] == ends[1][1]
    torch.testing.assert_close(ends[0][0], ends[1][0])


@pytest.mark.parametrize("is_built_first", [False, True])
@pytest.mark.parametrize("name", ["OneCycleLR", "SequentialLR", "CosineAnnealingWarmRestarts"])
def test_a_schedule_goes_on_bitwise_whether_it_is_built_before_or_after_loading(
    name, is_built_first
):
    weights = parameters([(6, 5), (7,)], torch.float32)
    optimizer = Shampoo(weights, **OPTIONS)
    build = SCHEDULES[name]
    schedule = build(optimizer)
    for seed in range(4):
        run(optimizer, weights, 1, seed)
        _advance(schedule)
    copies = [nn.Parameter(weight.detach().clone()) for weight in weights]
    other = Shampoo(copies, lr=0.5)
    saved = copy.deepcopy((optimizer.state_dict(), schedule.state_dict()))
    if not is_built_first:
        other.load_state_dict(saved[0])
    resumed = build(other)
    # As trainers do: a schedule that is built writes its first lr, so the optimizer loads last.
    resumed.load_state_dict(saved[1])
    other.load_state_dict(saved[0])
    for seed in range(4, 9):
        for one, its, schedules in ((optimizer, weights, schedule), (other, copies, resumed)):
            run(one, its, 1, seed)
            _advance(schedules)
    assert_equal(weights, copies)


@pytest.mark.parametrize("shapes", [[(7,)], [(6, 5)]])
def test_options_that_change_by_hand_hold_from_the_next_step_on(shapes):
    changes = [
        {"betas": (0.5, 0.9)},
        {"weight_decay": 0.5},
        {"eps": 1e-3},
        {"lr": torch.tensor(0.02)},
        {"maximize": True},
        {"maximize": False, "lr": 0.004},
        {"betas": [0.8, 0.95], "weight_decay": 0},
    ]
    ends = []
    for make in MAKERS:
        weights = parameters(shapes, torch.float32)
        optimizer = make(weights, **ADAMW)
        for seed, change in enumerate([{}, *changes, {}]):
            optimizer.param_groups[0].update(change)
            run(optimizer, weights, 1, seed)
        ends.append(weights)
    torch.testing.assert_close(*ends)


@pytest.mark.parametrize("make", [*MAKERS, partial(Shampoo, table=True, fused=False), Shampoo])
@pytest.mark.parametrize("shape", [(6,), (6, 6)])
def test_autograd_knows_that_a_step_has_outdated_a_graph(make, shape):
    weight = nn.Parameter(torch.ones(shape))
    optimizer = make([weight], lr=0.01)
    loss = weight.square().sum()
    loss.backward(retain_graph=True)
    optimizer.step()
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        loss.backward()


@pytest.mark.parametrize("variant", [{}, {"method": "soap"}, {"averaging": "ema"}])
def test_inference_mode_around_a_step_leaves_no_trace(variant):
    weights, others = parameters(dtype=torch.float32), parameters(dtype=torch.float32)
    options = {**OPTIONS, **variant}
    optimizer, other = Shampoo(weights, **options), Shampoo(others, **options)
    for seed in range(6):
        set_grads(seed, weights, others)
        with torch.inference_mode(mode=seed % 2 == 0):
            optimizer.step()
            optimizer.eval()
            optimizer.train()
        other.step()
    assert_equal(weights, others)
    assert not any(t.is_inference() for row in optimizer.state.values() for t in row.values())


class Wrapped(torch.Tensor):
    """A weight whose memory is that of another tensor, as of float8 training under FSDP2."""

    @staticmethod
    def __new__(cls, inner):
        options = {"strides": inner.stride(), "dtype": inner.dtype, "device": inner.device}
        return torch.Tensor._make_wrapper_subclass(cls, inner.shape, **options)

    def __init__(self, inner):
        self.inner = inner

    def __tensor_flatten__(self):
        return ["inner"], None

    @staticmethod
    def __tensor_unflatten__(inner, *_):
        return Wrapped(inner["inner"])

    @classmethod
    def __torch_dispatch__(cls, func, types, args, kwargs=None):
        args, kwargs = _pytree.tree_map_only(cls, lambda t: t.inner, (args, kwargs or {}))
        out = func(*args, **kwargs)
        return cls(out) if func is torch.ops.aten.detach.default else out


@pytest.mark.parametrize("variant", [{}, {"method": "soap"}, {"averaging": "ema"}])
def test_wrapped_weights_step_like_plain_ones(variant):
    weights = parameters([(6, 5), (7,), (4, 3, 3, 3)], torch.float32)
    wrapped = [nn.Parameter(Wrapped(weight.detach().clone())) for weight in weights]
    optimizers = [Shampoo(side, **OPTIONS, **variant) for side in (weights, wrapped)]
    generator = torch.Generator().manual_seed(0)
    for _ in range(5):
        for weight, other in zip(weights, wrapped, strict=True):
            weight.grad = torch.randn(weight.shape, generator=generator)
            other.grad = weight.grad.clone()
        for optimizer in optimizers:
            optimizer.step()
    assert_equal([weight.detach() for weight in weights], [w.inner for w in wrapped])
