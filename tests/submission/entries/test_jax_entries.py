"""Entries in JAX: the API, their twins' points and steps, and what they may look at."""

import inspect
import types

import numpy as np
import pytest
import torch

pytest.importorskip("jax", reason="JAX is not installed: requirements-jax.txt")
pytest.importorskip("optax", reason="optax is not installed: requirements-jax.txt")

from scripts.local import entries
from tests.submission import tiny_jax_training as in_jax
from tests.submission import tiny_training as in_torch
from tests.submission.entries.test_entries import (
    ALLOWED,
    handed_in,
    make_model,
    module_of,
    point_of,
    points_of,
)
from tests.submission.shampoo_jax.streams import double_precision
from tests.submission.tiny_training import make_batch

TWINS = {entry: entries.twin(entry) for entry in handed_in("jax")}


def run_of(entry):
    params = in_jax.arrays(dict(make_model().named_parameters()))
    return in_jax.Run(module_of(entry), params, point_of(entry))


@pytest.mark.parametrize(("entry", "twin"), TWINS.items())
def test_has_the_functions_and_the_points_of_its_twin(entry, twin):
    module, other = module_of(entry), module_of(twin)
    for name in ("init_optimizer_state", "update_params", "data_selection", "prepare_for_eval"):
        expected = list(inspect.signature(getattr(other, name)).parameters)
        assert list(inspect.signature(getattr(module, name)).parameters) == expected
    assert module.get_batch_size is other.get_batch_size
    assert points_of(entry) == points_of(twin)


@pytest.mark.parametrize(("entry", "twin"), TWINS.items())
def test_takes_the_steps_of_its_twin(entry, twin):
    """In float64: in float32 roots of factors with few gradients are rounding for the most part."""
    model = make_model().double()
    start = in_jax.arrays(dict(model.named_parameters()))
    peer = in_torch.Run(module_of(twin), model, point_of(twin))
    with double_precision():
        run = in_jax.Run(module_of(entry), start, point_of(entry))
        for step in range(6):
            batch = make_batch(step, dtype=torch.float64)
            run.step(in_jax.arrays(batch), step)
            peer.step(batch, step)
        weights = {name: np.array(value) for name, value in run.prepare().items()}
    peer.prepare()
    for name, weight in peer.model.named_parameters():
        moved = np.abs(weights[name] - start[name]).max()
        assert moved > 1e-3
        # The learning rate is in float32.
        assert np.allclose(weights[name], weight.detach(), rtol=0, atol=1e-6 * moved), name


@pytest.mark.parametrize("entry", ["adamw_jax", "shampoo_jax"])
def test_looks_at_nothing_of_the_workload_but_its_budgets(entry):
    run = run_of(entry)
    run.step(in_jax.arrays(make_batch()), 0)
    run.prepare()
    assert {"model_fn", "loss_fn", "step_hint"} <= run.workload.read <= ALLOWED


def test_self_tuning_ignores_whatever_hyperparameters_it_is_given():
    module = module_of("shampoo_jax_self_tuning")
    params = in_jax.arrays(dict(make_model().named_parameters()))
    for given in (None, types.SimpleNamespace(learning_rate=7.0)):
        run = in_jax.Run(module, params, given)
        assert run.state[1].rate(0) == module.POINT.learning_rate
