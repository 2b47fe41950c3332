"""Training on a pretended device: AlgoPerf, gradient scaling, averages, odd tensors."""

import gc
import types

import pytest
import torch
from torch import nn

from submission.algoperf_api import pytorch as api
from submission.algoperf_api.statistics import LatestBatch
from submission.shampoo import Shampoo, exponential_average
from tests.simulated.device import simulated
from tests.simulated.runs import (
    SOLVERS,
    difference,
    gradients,
    optimizer_of,
    set_gradients,
    start,
    steps,
)
from tests.simulated.tensors import on_device, values_of
from tests.submission.tiny_training import Recorder, Run, TinyWorkload, entry_of, make_batch

OPTIONS = {"lr": 0.01, "block_size": 8, "refresh_interval": 3, "distributed": None, **SOLVERS}


def _model():
    """A classifier of as many classes as features, in float64.

    In float32, SOAP makes differences of 1e-6 in weights from another order of a sum. With fewer
    classes the last layer's first factors have null spaces of several dimensions, whose eigenbases
    are arbitrary: a difference of 1e-16 between weights then becomes one of 1e-3 at the first
    refresh, on the CPU alone too.
    """
    torch.manual_seed(1)
    model = nn.Sequential(nn.Linear(5, 6), nn.LayerNorm(6), nn.GELU(), nn.Linear(6, 6))
    return model.double()


def _entry(options):
    def make_optimizer(parameters, hyperparameters):
        return Shampoo(parameters, **{**OPTIONS, **options})

    return entry_of(api, make_optimizer, LatestBatch)


def _train(model, options, place, record=None):
    """Weights after five steps and an evaluation, and the waits of each step and of the latter."""
    logger, waits = Recorder(), []
    point = types.SimpleNamespace(warmup_factor=0.0, grad_clip=1.0, label_smoothing=0.1)
    run = Run(_entry(options), model, point, TinyWorkload(logger))
    for step in range(6):
        made = make_batch(seed=step, dtype=torch.float64)
        batch = {name: place(value) for name, value in made.items()}
        if record is not None:
            record.clear()
        # Every second step of this workload is logged.
        run.step(batch, step)
        waits.append([] if record is None else list(record.waits))
    if record is not None:
        record.clear()
    run.prepare()
    waits.append([] if record is None else list(record.waits))
    return run, logger.rows, waits


@pytest.mark.parametrize(
    "options",
    [
        {},
        # At the usual eps, rounding in directions without gradients would make a step.
        {"method": "soap", "eps": 1e-4},
        {"method": "kl_shampoo", "overlap": True},
        {"averaging": "ema"},
        {"averaging": "schedule_free"},
    ],
    ids=str,
)
@pytest.mark.usefixtures("autograd_engine")
def test_the_training_step_of_algoperf_waits_only_to_log(options):
    expected, rows, _ = _train(_model(), options, lambda x: x)
    with simulated() as record:
        run, logged_rows, waits = _train(_model().to("sim:0"), options, on_device, record)
    assert difference(list(run.model.parameters()), expected.weights) <= 1e-9
    assert [step for step, _ in logged_rows] == [step for step, _ in rows] == [0, 2, 4]
    for (_, metrics), (_, expected_metrics) in zip(logged_rows, rows, strict=True):
        assert metrics == pytest.approx(expected_metrics, rel=1e-5)
    logged = {wait.place.partition(" ")[0].partition(":")[0] for wait in waits[4]}
    assert logged == {"pytorch.py"}
    assert len(waits[4]) == 2
    # Up to step 4, in the last early refresh, bases begin with a decomposition.
    assert waits[5] == waits[6] == []


def test_a_step_with_a_scaled_gradient_that_is_not_finite_is_skipped_without_a_wait():
    with simulated() as record:
        optimizer, parameters = optimizer_of(start(), {**SOLVERS, "fused": True}, on_device)
        steps(optimizer, parameters, range(4), on_device)
        before = [values_of(parameter).clone() for parameter in parameters]
        record.clear()
        for found_inf, scale in ((1.0, 4.0), (0.0, float("inf"))):
            set_gradients(parameters, 4, on_device)
            parameters[1].grad *= torch.full((), scale, device="sim:0")
            optimizer.grad_scale = torch.full((), 4.0, device="sim:0")
            optimizer.found_inf = torch.full((), found_inf, device="sim:0")
            optimizer.step()
        assert record.waits == []
        assert difference(parameters, before) == 0
        assert optimizer.diagnostics()["skipped_steps"] == 2


@pytest.mark.parametrize("averaging", ["ema", "schedule_free"])
def test_evaluation_swaps_averages_in_and_out_without_a_wait(averaging, monkeypatch):
    # Of the weights, with 7 to 120 elements, two are long.
    monkeypatch.setattr(exponential_average, "_LONG", 50)

    def run(on, record=None):
        optimizer, parameters = optimizer_of(start(), {**SOLVERS, "averaging": averaging}, on)
        seen = []
        for seed in range(4):
            steps(optimizer, parameters, [seed], on)
            if record is not None:
                record.clear()
            optimizer.eval()
            seen += [values_of(parameter).clone() for parameter in parameters]
            optimizer.train()
            assert record is None or record.waits == []
        return seen

    expected = run(lambda x: x)
    with simulated() as record:
        averages = run(on_device, record)
    assert difference(averages, expected) <= 1e-6


@pytest.mark.parametrize(
    "options", [{"decay_mode": "independent"}, {"averaging": "schedule_free"}], ids=str
)
def test_a_learning_rate_in_a_tensor_of_the_cpu_is_a_number_to_the_device(options):
    def run(on):
        optimizer, parameters = optimizer_of(start(), {**SOLVERS, **options}, on)
        optimizer.param_groups[0]["lr"] = torch.tensor([0.02])
        steps(optimizer, parameters, range(4), on)
        return parameters

    expected = [parameter.detach() for parameter in run(lambda x: x)]
    with simulated():
        assert difference(run(on_device), expected) <= 1e-6


def test_half_precision_weights_and_strided_gradients():
    def run(on):
        weights = [weight.bfloat16() for weight in start()]
        optimizer, parameters = optimizer_of(weights, SOLVERS, on)
        for seed in range(5):
            for parameter, grad in zip(parameters, gradients(seed), strict=True):
                parameter.grad = None
                if grad is not None:
                    # In memory the other way round.
                    turned = grad.bfloat16().T.contiguous() if grad.dim() == 2 else grad.bfloat16()
                    parameter.grad = on(turned).T if grad.dim() == 2 else on(turned)
            optimizer.step()
        return parameters

    expected = [parameter.detach().float() for parameter in run(lambda x: x)]
    with simulated():
        assert difference([values_of(p).float() for p in run(on_device)], expected) <= 1e-6


def test_a_caller_under_autocast_changes_nothing():
    with simulated():
        weights = []
        for enabled in (False, True):
            optimizer, parameters = optimizer_of(start(), SOLVERS, on_device)
            with torch.autocast("sim", torch.bfloat16, enabled=enabled):
                steps(optimizer, parameters, range(3), on_device)
            weights.append([values_of(parameter) for parameter in parameters])
        assert difference(*weights) == 0


@pytest.mark.parametrize("method", ["shampoo", "soap", "kl_shampoo"])
def test_an_optimizer_dropped_amid_a_refresh_leaves_its_memory_to_nobody_else(method):
    options = {**SOLVERS, "method": method, "overlap": True, "refresh_interval": 1}
    with simulated():  # which fails at its end if memory was freed too early
        optimizer, parameters = optimizer_of(start(), options, on_device)
        steps(optimizer, parameters, range(3), on_device)
        del optimizer
        gc.collect()
