"""Several ranks of one trial: the steps of one process, one set of files, one state to resume."""

import csv
import dataclasses
import functools
import time
import types

import pytest
import torch
import torch.distributed as dist
from torch.distributed.optim import ZeroRedundancyOptimizer

from common.cli import UserError
from scripts.local import checkpoint, entries, ranks
from scripts.local.clock import SubmissionClock
from scripts.local.metrics_log import read_evaluations
from scripts.local.runner import Hooks, Stopped, run_trial
from scripts.local.trial import Trial, read_status
from submission.shampoo import Shampoo
from tests import training_ranks
from tests.scripts.fake import fake_main

# This study's weights lie near the solution, so that both targets are met before the last step.
REACHES = Trial("fake", "fake_sgd", study=4, trial=1, hyperparameters={"learning_rate": 0.02})
NO_TARGETS = dataclasses.replace(REACHES, ignore_targets=True)


def take_part(rank, trial, folder, stops=(-1, -1), load=None):
    """Trains on this rank; asks to stop if it is `stops[0]` and at step `stops[1]`."""
    fake_main.register()
    steps = iter(range(1, 1000))
    hooks = Hooks(stop_requested=lambda: (rank, next(steps)) == stops)
    try:
        status = run_trial(trial, folder, 0.0, hooks, load or entries.load)
    except Stopped:
        status = {"reason": "stopped"}
    return status, torch.get_rng_state().double().std().item()


def on(world, folder, trial, *args):
    """The statuses of a trial's ranks, which share the batch of one process."""
    folder.mkdir(exist_ok=True)
    results = training_ranks.run(world, take_part, trial, folder, *args)
    assert len({state for _, state in results}) == 1, "the ranks' random states have parted"
    return [status for status, _ in results]


def values(folder, name):
    with (folder / "measurements.csv").open() as stream:
        return [float(row[name]) for row in csv.DictReader(stream) if row[name]]


@pytest.mark.slow
@pytest.mark.parametrize("world", [2, 4])
def test_ranks_reach_the_targets_in_the_steps_of_one_process(tmp_path, world):
    (alone,) = on(1, tmp_path / "alone", REACHES)
    statuses = on(world, tmp_path / "together", REACHES)
    assert alone["reason"] == "targets" and alone["global_step"] < 24
    for status in statuses:
        assert status == statuses[0], "the ranks have not agreed on the time"
        assert (status["reason"], status["global_step"]) == ("targets", alone["global_step"])
    for name in ("validation/loss", "test/loss", "train/loss"):
        expected = values(tmp_path / "alone", name)
        assert values(tmp_path / "together", name) == pytest.approx(expected, rel=1e-5)
    assert read_status(tmp_path / "together") == statuses[0]
    names = {path.name for path in (tmp_path / "alone").iterdir()}
    assert {path.name for path in (tmp_path / "together").iterdir()} == names


@pytest.mark.slow
def test_a_real_workload_takes_the_same_steps_with_dropout_and_shifts(tmp_path):
    point = entries.points("adamw")[0] | {"grad_clip": 0.5, "dropout_rate": 0.1}
    trial = Trial("mnist_vit", "adamw", 0, 1, point, max_steps=4, ignore_targets=True)
    on(1, tmp_path / "alone", trial)
    on(2, tmp_path / "together", trial)
    for name in ("loss", "grad_norm", "validation/loss", "test/accuracy"):
        expected = values(tmp_path / "alone", name)
        assert values(tmp_path / "together", name) == pytest.approx(expected, rel=1e-5)


DIVIDED = {
    "zero": functools.partial(ZeroRedundancyOptimizer, optimizer_class=torch.optim.Adam),
    "shampoo": functools.partial(Shampoo, refresh_interval=3),
}


def divided(name):
    """The entry `fake_adam` with an optimizer whose state is divided among the ranks."""
    module = entries.load("fake_adam")

    def init_optimizer_state(workload, model, model_state, hyperparameters, rng):
        rate = hyperparameters.learning_rate
        return {"optimizer": DIVIDED[name](model.parameters(), lr=rate)}

    functions = {name: getattr(module, name) for name in entries.REQUIRED}
    return types.SimpleNamespace(**functions | {"init_optimizer_state": init_optimizer_state})


@pytest.mark.slow
@pytest.mark.parametrize("name", DIVIDED)
def test_a_stop_asked_of_one_rank_saves_the_state_of_all(tmp_path, name):
    trial = dataclasses.replace(NO_TARGETS, entry=name)
    on(4, tmp_path / "whole", trial, (-1, -1), divided)
    stopped = on(4, tmp_path / "resumed", trial, (2, 8), divided)
    assert stopped == [{"reason": "stopped"}] * 4
    snapshot = checkpoint.load(tmp_path / "resumed" / "checkpoint.pt")
    assert snapshot["global_step"] == 8
    assert list(snapshot["model"]) == ["weight", "bias"]
    assert set(snapshot["optimizer_state"]["optimizer"]["state"]) == {0, 1}
    on(4, tmp_path / "resumed", trial, (-1, -1), divided)
    for metric in ("loss", "validation/loss"):
        assert values(tmp_path / "resumed", metric) == values(tmp_path / "whole", metric)
    counts = [row["preemption_count"] for row in read_evaluations(tmp_path / "resumed")]
    assert counts == [0, 1, 1, 1, 1]


@pytest.mark.slow
@pytest.mark.usefixtures("fakes")
def test_another_number_of_ranks_cannot_resume(tmp_path, monkeypatch):
    on(2, tmp_path, NO_TARGETS, (0, 3))
    monkeypatch.setattr(torch, "get_num_threads", lambda: 1)  # as in a rank
    with pytest.raises(UserError, match=r"checkpoint\.pt.*nproc=2, not nproc=1; choose another"):
        run_trial(NO_TARGETS, tmp_path, 0.0, Hooks())


def agreed(rank):
    clock = SubmissionClock()
    with clock.running():
        time.sleep(0.1 * rank)
    settled = clock.add_slowest(rank, -rank)
    clock.add_slowest()
    return settled, ranks.from_first(lambda: ("rank", rank)), clock.wall


def test_ranks_agree_on_time_and_on_what_the_first_one_says():
    results = training_ranks.run(3, agreed)
    wall = results[0][-1]
    assert results == [((2.0, 0.0), ("rank", 0), wall)] * 3
    assert 0.2 <= wall < 10, "the time of the slowest rank, once"
    assert agreed(1)[:2] == ((1, -1), ("rank", 1)), "one process agrees with itself"


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (RuntimeError("[x/gloo/transport/tcp/pair.cc:553] Connection closed by peer\n!"), "gone"),
        (RuntimeError("[x/gloo/unbound_buffer.cc:78] Timed out waiting 3000ms"), "for 3 s"),
        (dist.DistNetworkError("recvValue failed"), "gone"),
        (RuntimeError("mat1 and mat2 shapes cannot be multiplied"), None),
        (ValueError("gloo"), None),
    ],
    ids=str,
)
def test_the_loss_of_another_rank_is_told_from_errors(error, message):
    loss = ranks._rank_lost(error, timeout_seconds=3)
    assert (loss is None) == (message is None)
    if loss is not None:
        assert message in str(loss) and "\n" not in str(loss)
