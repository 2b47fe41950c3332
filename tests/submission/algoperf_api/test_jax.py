"""The training step in JAX: PyTorch's, and what JAX has of its own: donation, averages, devices."""

import json
import os
import subprocess
import sys
import types
from pathlib import Path

import numpy as np
import pytest
import torch

pytest.importorskip("jax", reason="JAX is not installed: requirements-jax.txt")
pytest.importorskip("optax", reason="optax is not installed: requirements-jax.txt")

import jax
import jax.numpy as jnp
import optax

from submission.algoperf_api import jax as api
from submission.algoperf_api import pytorch as torch_api
from submission.algoperf_api import spec
from submission.shampoo_jax import evaluated, shampoo
from tests.submission import tiny_training
from tests.submission.tiny_jax_training import Run, TinyWorkload, arrays
from tests.submission.tiny_training import Recorder, entry_of, make_batch

ROOT = Path(__file__).parents[3]


def make_model():
    torch.manual_seed(1)
    return torch.nn.Sequential(torch.nn.Linear(5, 6), torch.nn.Tanh(), torch.nn.Linear(6, 3))


def sgd(learning_rate, hyperparameters, mesh):
    return optax.sgd(learning_rate)


def averaging(learning_rate, hyperparameters, mesh):
    """Gradient descent whose state is an average of the weights."""

    def update(grads, average, params):
        updates = jax.tree.map(lambda grad: -learning_rate * grad, grads)
        weights = optax.apply_updates(params, updates)
        return updates, jax.tree.map(lambda a, w: 0.5 * a + 0.5 * w, average, weights)

    return optax.GradientTransformation(lambda params: jax.tree.map(jnp.copy, params), update)


def averages(state, params):
    return state


def run_of(entry=None, logger=None, model_state=None, **point):
    """A run from the weights of `make_model`; the learning rate is 1 if the point has none."""
    point = types.SimpleNamespace(**{"learning_rate": 1.0, "warmup_factor": 0.0, **point})
    params = arrays(dict(make_model().named_parameters()))
    return Run(entry or entry_of(api, sgd), params, point, TinyWorkload(logger), model_state)


def torch_run_of(logger=None, **point):
    """The same run in PyTorch."""
    entry = tiny_training.entry_of(
        torch_api, lambda parameters, point: torch.optim.SGD(parameters, lr=1.0)
    )
    point = types.SimpleNamespace(**{"warmup_factor": 0.0, **point})
    workload = tiny_training.TinyWorkload(logger)
    return tiny_training.Run(entry, make_model(), point, workload)


def difference(run, peer):
    """The largest of a weight to PyTorch's."""
    expected = arrays(dict(peer.model.named_parameters()))
    return max(float(np.abs(run.params[name] - expected[name]).max()) for name in expected)


@pytest.mark.parametrize(
    "point",
    [
        {},
        {"label_smoothing": 0.3},
        {"label_smoothing": None, "grad_clip": None},
        {"grad_clip": 0.05},
        {"warmup_factor": 0.1},
        {"step_hint_factor": 0.1},
    ],
)
def test_a_plain_step_is_pytorchs_and_so_is_what_is_logged(point):
    logger, peers = Recorder(), Recorder()
    run, peer = run_of(logger=logger, **point), torch_run_of(peers, **point)
    for step in range(5):
        run.step(arrays(make_batch(step)), step)
        peer.step(make_batch(step), step)
        assert difference(run, peer) < 1e-6
    assert [step for step, _ in logger.rows] == [step for step, _ in peers.rows] == [0, 2, 4]
    for (_, logged), (_, expected) in zip(logger.rows, peers.rows, strict=True):
        assert logged == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize(
    ("point", "rate"),
    [({}, 0.25), ({"dropout_rate": None}, 0.25), ({"dropout_rate": 0.0}, 0.0)],
)
def test_dropout_is_the_points_or_else_the_workloads_own(point, rate):
    run = run_of(**point)
    run.step(arrays(make_batch()))
    assert run.workload.dropout_rate == rate


def test_batch_statistics_are_those_that_the_model_returns():
    run = run_of(model_state={"mean": jnp.asarray(8.0)})
    run.step(arrays(make_batch()))
    assert 3 < float(run.model_state["mean"]) < 5, "half of the old one"


@pytest.mark.parametrize(("warmup", "hint"), [(0.0, 1.0), (0.1, 0.5), (0.5, 0.1)])
def test_the_rate_is_that_of_pytorchs_schedule(warmup, hint):
    point = {"warmup_factor": warmup, "step_hint_factor": hint}
    run, peer = run_of(**point), torch_run_of(**point)
    for step in range(int(80 * hint)):
        assert run.state[1].rate(step) == peer.rate
        peer.optimizer.step()
        peer.scheduler.step()


def test_the_rate_ends_with_the_time_and_never_rises_again():
    run = run_of(budget_factor=0.5)
    training = run.state[1]
    assert training.rate(0, 0.0) == 1.0
    assert training.rate(1, 25.0) == pytest.approx(0.5)
    assert training.rate(2, 0.0) == pytest.approx(0.5), "a resumed runner may forget"
    assert training.rate(3, 50.0) == 0.0
    with pytest.raises(spec.TrainingCompleteError):
        run_of(budget_factor=0.5).step(arrays(make_batch()), 1, seconds=50.0)


def test_the_run_ends_with_its_schedule():
    run = run_of(step_hint_factor=0.05)
    for step in range(4):
        run.step(arrays(make_batch()), step)
    last = {name: np.array(value) for name, value in run.params.items()}
    with pytest.raises(spec.TrainingCompleteError):
        run.step(arrays(make_batch()), 4)
    assert all(np.array_equal(run.params[name], value) for name, value in last.items())


def test_the_step_is_traced_once():
    run = run_of(entry_of(api, averaging, reader=lambda point: averages))
    for step in range(4):
        run.step(arrays(make_batch(step)), step)
        run.prepare()
    assert run.workload.traces == 1


def test_without_averages_evaluation_reads_the_weights():
    run = run_of()
    run.step(arrays(make_batch()))
    before = run.params
    assert run.prepare() is before


def test_evaluation_reads_averages_and_training_goes_on_from_the_weights():
    entry = entry_of(api, averaging, reader=lambda point: averages)
    averaged, plain = (run_of(entry, learning_rate=0.1) for _ in range(2))
    average = {name: np.array(value) for name, value in plain.params.items()}
    for step in range(6):
        for run in (averaged, plain):
            run.step(arrays(make_batch(step)), step)
        average = {name: 0.5 * average[name] + 0.5 * plain.params[name] for name in average}
        for _ in range(step % 3):  # never, once, twice in a row
            read = averaged.prepare()
            for name, value in average.items():
                assert np.allclose(read[name], value, atol=1e-6), name
                assert not np.allclose(read[name], plain.params[name], atol=1e-4)
    averaged.step(arrays(make_batch(9)), 9)
    plain.step(arrays(make_batch(9)), 9)
    for name, value in plain.params.items():
        assert np.array_equal(averaged.params[name], value)


def test_averages_are_evaluated_with_statistics_of_their_own():
    batch = arrays(make_batch())
    run = run_of(
        entry_of(api, averaging, reader=lambda point: averages),
        model_state={"mean": jnp.asarray(8.0), "of no batch": jnp.asarray(3.0)},
        learning_rate=0.1,
    )
    run.step(batch)
    read = run.prepare()
    hidden = np.tanh(batch["inputs"] @ read["0.weight"].T + read["0.bias"])
    expected = (hidden @ read["2.weight"].T + read["2.bias"]).mean()
    assert float(run.model_state["mean"]) == pytest.approx(float(expected), abs=1e-5)
    assert run.model_state["of no batch"] == 3


def test_a_restored_state_goes_on_where_it_was_saved_after_an_evaluation():
    entry = entry_of(api, averaging, reader=lambda point: averages)
    run, other = (run_of(entry, learning_rate=0.1) for _ in range(2))
    run.step(arrays(make_batch()), 0)
    run.prepare()
    saved = jax.tree.map(np.array, (run.state[0], run.params))
    other.state, other.params = (saved[0], other.state[1]), saved[1]
    for instance in (run, other):
        instance.step(arrays(make_batch(1)), 1)
    assert all(np.array_equal(run.params[name], other.params[name]) for name in run.params)


def test_data_selection_takes_the_next_batch():
    assert api.data_selection(None, iter([1, 2]), None, None, None, None, 0, None) == 1


@pytest.mark.slow
def test_four_devices_take_the_steps_of_one_and_share_the_state():
    """In a process of its own, since devices are made once."""
    environment = {**os.environ, "JAX_NUM_CPU_DEVICES": "4", "JAX_PLATFORMS": "cpu"}
    command = [sys.executable, "-m", "tests.submission.algoperf_api.divided_training"]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    figures = json.loads(done.stdout)
    run = run_of(entry_of(api, small_shampoo, reader=lambda point: evaluated), learning_rate=0.1)
    for step in range(6):
        run.step(arrays(make_batch(step)), step)
    for name, expected in run.params.items():
        assert np.allclose(figures["weights"][name], expected, atol=1e-3), name
    for name, expected in run.prepare().items():
        assert np.allclose(figures["read"][name], expected, atol=1e-3), name
        assert not np.allclose(figures["read"][name], figures["weights"][name], atol=1e-2), name
    assert figures["devices"] == 4
    assert figures["lanes of a device"] == [1]
    assert figures["loss"] > 0


def small_shampoo(learning_rate, hyperparameters, mesh):
    """Cut into blocks that four devices do not divide evenly."""
    options = {"block_size": 3, "refresh_interval": 2, "averaging": "ema", "averaging_decay": 0.5}
    return shampoo(learning_rate, **options, mesh=mesh)
