"""The training step: masks, smoothing, dropout, clipping, logging, and gradients under DDP."""

import inspect
import types

import absl.flags
import pytest
import torch
import torch.nn.functional as F
from torch.distributed.optim import ZeroRedundancyOptimizer
from torch.nn.parallel import DistributedDataParallel

from submission.algoperf_api import pytorch as api
from submission.algoperf_api import spec
from submission.algoperf_api.statistics import LatestBatch
from submission.shampoo import Shampoo
from tests import training_ranks
from tests.submission.tiny_training import Recorder, Run, TinyWorkload, entry_of, make_batch, same


def make_model():
    torch.manual_seed(1)
    return torch.nn.Linear(5, 3)


def run_of(model, make=torch.optim.SGD, logger=None, options=None, **point):
    """A run of an entry with this optimizer; its learning rate is 1 if the options have none."""

    def make_optimizer(parameters, hyperparameters):
        return make(parameters, **{"lr": 1.0, **(options or {})})

    point = types.SimpleNamespace(**{"warmup_factor": 0.0, **point})
    entry = entry_of(api, make_optimizer, LatestBatch)
    return Run(entry, model, point, TinyWorkload(logger))


def test_averages_need_the_latest_batch():
    groups = [{"params": [p]} for p in make_model().parameters()]
    optimizer = Shampoo([groups[0], {**groups[1], "averaging": "ema"}])
    with pytest.raises(ValueError, match=r"latest_batch must be statistics\.LatestBatch"):
        api.optimizer_state(TinyWorkload(None), optimizer, types.SimpleNamespace(warmup_factor=0.0))


def expected_grad(batch, smoothing=0.0):
    model = make_model()
    valid = batch["weights"] > 0
    logits = model(batch["inputs"][valid])
    F.cross_entropy(logits, batch["targets"][valid], label_smoothing=smoothing).backward()
    return model.weight.grad


@pytest.mark.parametrize("smoothing", [None, 0.0, 0.3])
def test_the_gradient_is_that_of_the_mean_loss_over_valid_examples(smoothing):
    model, batch = make_model().eval(), make_batch()
    model.weight.grad = torch.ones_like(model.weight)  # left by a step before
    run = run_of(model, label_smoothing=smoothing)
    run.step(batch)
    assert run.model is model
    assert model.training
    assert torch.allclose(model.weight.grad, expected_grad(batch, smoothing or 0.0), atol=1e-6)
    assert torch.allclose(model.weight, make_model().weight - model.weight.grad)


@pytest.mark.parametrize(
    ("point", "rate"),
    [({}, 0.25), ({"dropout_rate": None}, 0.25), ({"dropout_rate": 0.0}, 0.0)],
)
def test_dropout_is_the_points_or_else_the_workloads_own(point, rate):
    run = run_of(make_model(), **point)
    run.step(make_batch())
    assert run.workload.dropout_rate == rate


def test_metrics_are_logged_rarely_and_before_the_global_norm_is_clipped():
    logger = Recorder()
    for step in range(5):
        run = run_of(make_model(), logger=logger, grad_clip=1e-3)
        run.step(make_batch(), step)
        norm = torch.cat([p.grad.flatten() for p in run.model.parameters()]).norm()
        assert norm == pytest.approx(1e-3, rel=1e-3)
    assert [step for step, _ in logger.rows] == [0, 2, 4]
    assert api.is_logged(types.SimpleNamespace(step_hint=39), 1), "each step of a short run"
    metrics = logger.rows[0][1]
    assert metrics["grad_norm"] > 1e-2
    assert metrics["loss"] > 0


def test_the_run_ends_with_its_schedule_which_is_as_long_as_the_point_says():
    run = run_of(make_model(), step_hint_factor=0.05)
    for step in range(4):
        assert run.rate > 0
        run.step(make_batch(), step)
    assert run.rate == pytest.approx(0.0)
    last = run.model.weight.detach().clone()
    with pytest.raises(spec.TrainingCompleteError):
        run.step(make_batch(), 4)
    assert torch.equal(run.model.weight, last)


def test_the_schedule_ends_within_the_budget_that_the_point_names():
    run = run_of(make_model(), budget_factor=0.5)
    for step, (seconds, rate) in enumerate([(25.0, 0.5), (0.0, 0.5), (50.0, 0.0)]):
        run.step(make_batch(), step, seconds)
        assert run.rate == pytest.approx(rate), "a resumed runner may forget"


def test_data_selection_takes_the_next_batch_and_evaluation_reads_the_weights():
    run = run_of(make_model())
    assert api.data_selection(None, iter([1, 2]), {}, run.model, None, None, 0, None) == 1
    waited = []
    run.optimizer.finish = lambda: waited.append(True)
    assert run.prepare() == (run.state, run.model, "state")
    assert waited


def test_evaluation_reads_averages_and_training_goes_on_from_the_weights():
    options = {"lr": 0.1, "averaging": "ema", "overlap": True}
    averaged, plain = (run_of(make_model(), Shampoo, options=options) for _ in range(2))
    for step in range(6):
        for run in (averaged, plain):
            run.step(make_batch(seed=step), step)
        if step % 2:
            trained = averaged.model.weight.detach().clone()
            averaged.prepare()
            assert not torch.equal(averaged.model.weight, trained)
    averaged.optimizer.train()
    assert torch.equal(averaged.model.weight, plain.model.weight)


def normalising_model():
    torch.manual_seed(1)
    return torch.nn.Sequential(
        torch.nn.Linear(5, 4), torch.nn.BatchNorm1d(4), torch.nn.Linear(4, 3), torch.nn.Dropout()
    )


def trained_for_evaluation(model, batches, prepares, **options):
    options = {"lr": 0.1, "averaging": "ema", "averaging_share": 0.4, **options}
    run = run_of(model, Shampoo, options=options)
    for step, batch in enumerate(batches):
        run.step(batch, step)
        if step in prepares:
            run.prepare()
    return run


def test_averages_get_statistics_of_batch_normalisation_from_the_latest_batch():
    batches = [make_batch(seed=step) for step in range(5)]
    run = trained_for_evaluation(normalising_model(), batches, {2, 4})
    hidden = run.model[0](batches[-1]["inputs"])  # of the averages, which the model has now
    torch.testing.assert_close(run.model[1].running_mean, hidden.mean(0))
    torch.testing.assert_close(run.model[1].running_var, hidden.var(0))
    drawn = torch.rand(3)
    other = trained_for_evaluation(normalising_model(), batches, set())
    assert torch.equal(torch.rand(3), drawn), "evaluation takes no random numbers"
    for instance in (run, other):
        torch.manual_seed(2)
        instance.step(make_batch(seed=9), 5)
    assert same(list(run.model.parameters()), list(other.model.parameters()))


def test_without_averages_statistics_stay_those_of_training():
    batches = [make_batch(seed=step) for step in range(3)]
    runs = [
        trained_for_evaluation(normalising_model(), batches, prepares, averaging=None)
        for prepares in (set(), {2})
    ]
    assert [sorted(run.state) for run in runs] == [["optimizer", "scheduler"]] * 2
    assert same(*(list(run.model.buffers()) for run in runs))


def test_a_run_that_averages_is_saved_without_its_batch():
    run = trained_for_evaluation(normalising_model(), [make_batch()], {0})
    saved = {name: part.state_dict() for name, part in run.state.items()}
    assert saved["latest"] == {}
    again = run_of(normalising_model(), Shampoo, options={"averaging": "ema"})
    for name, part in again.state.items():
        part.load_state_dict(saved[name])
    again.prepare()  # before the next batch there is nothing to take statistics from
    assert torch.equal(again.model[1].running_mean, torch.zeros(4))


def statistics_of_ranks(rank, world):
    model = DistributedDataParallel(normalising_model())
    batches = [make_batch(seed=step, rows=slice(rank, None, world)) for step in range(3)]
    run = trained_for_evaluation(model, batches, {2})
    hidden = run.model.module[0](batches[-1]["inputs"])
    return run.model.module[1].running_mean, hidden.mean(0).detach()


def test_statistics_of_averages_are_the_mean_over_ranks():
    results = training_ranks.run(2, statistics_of_ranks, 2)
    expected = sum(mean for _, mean in results) / 2
    for statistic, _ in results:
        torch.testing.assert_close(statistic, expected)


def ddp_step(rank, world):
    """The gradient of a rank's rows, and what rank 0, which has the logger, logs of the step."""
    logger = Recorder() if rank == 0 else None
    run = run_of(DistributedDataParallel(make_model()), logger=logger)
    run.step(make_batch(rows=slice(rank, None, world)), 0)
    return run.model.module.weight.grad, logger and logger.rows


@pytest.mark.parametrize("world", [2, 4])
def test_ranks_with_unequal_numbers_of_valid_examples_get_the_global_mean(world):
    logger = Recorder()
    run_of(make_model(), logger=logger).step(make_batch(), 0)
    ((_, expected),) = logger.rows
    results = training_ranks.run(world, ddp_step, world)
    for grad, _ in results:
        assert torch.equal(grad, results[0][0])
        assert torch.allclose(grad, expected_grad(make_batch()), atol=1e-6)
    assert [rows for _, rows in results[1:]] == [None] * (world - 1)
    ((step, logged),) = results[0][1]
    assert step == 0
    assert logged == {name: pytest.approx(value, rel=1e-5) for name, value in expected.items()}


def prepared_states(rank, optimizer_class, options):
    """What the runner's `state_dict` on this rank gives after preparing for an evaluation."""
    model = DistributedDataParallel(make_model())
    run = run_of(model, optimizer_class, options={"lr": 0.1, **options})
    for step in range(3):
        run.step(make_batch(seed=rank), step)
    run.prepare()
    try:
        return len(run.optimizer.state_dict()["state"]), run.rate
    except RuntimeError:
        return None, run.rate


@pytest.mark.parametrize(
    ("optimizer_class", "options", "elsewhere"),
    [
        (Shampoo, {}, None),
        (ZeroRedundancyOptimizer, {"optimizer_class": torch.optim.Adam}, None),
        (torch.optim.Adam, {}, 2),
    ],
)
def test_before_an_evaluation_rank_0_has_all_state(optimizer_class, options, elsewhere):
    (first, rate), (second, same_rate) = training_ranks.run(
        2, prepared_states, optimizer_class, options
    )
    assert (first, second) == (2, elsewhere)
    assert 0 < rate == same_rate < 0.1, "the schedule moves the rate of every rank"


class Consolidates(torch.optim.SGD):
    """An optimizer that other ranks hold a part of, as far as `prepare_for_eval` sees."""

    asked = 0

    def consolidate_state_dict(self, to):
        self.asked += 1


@pytest.mark.parametrize(
    ("arguments", "asked"),
    [(None, 1), ([], 1), (["--save_checkpoints"], 1), (["--nosave_checkpoints"], 0)],
)
def test_state_is_brought_together_only_for_checkpoints(monkeypatch, arguments, asked):
    flags = absl.flags.FlagValues()
    if arguments is None:  # a program with other flags
        arguments = []
    else:
        absl.flags.DEFINE_boolean("save_checkpoints", True, "the runner's", flag_values=flags)
    flags(["runner", *arguments])
    monkeypatch.setattr(absl.flags, "FLAGS", flags)
    monkeypatch.setattr(torch.distributed, "is_initialized", lambda: True)
    run = run_of(make_model(), Consolidates)
    run.prepare()
    assert run.optimizer.asked == asked


def resumed_steps(rank, unwrapped):
    """Weights after steps on this rank's rows of a model that a restore has unwrapped, or not."""
    model = DistributedDataParallel(make_model())
    run = run_of(model, Shampoo, options={"lr": 0.1})
    if unwrapped:
        run.model = model.module
    for step in range(5):
        run.step(make_batch(seed=10 * step + rank), step)
    return isinstance(run.model, DistributedDataParallel), run.weights


def test_ranks_that_a_restore_has_unwrapped_go_on_together():
    expected = training_ranks.run(2, resumed_steps, False)
    for wrapped, weights in training_ranks.run(2, resumed_steps, True):
        assert wrapped
        assert same(weights, expected[0][1])


def test_a_point_takes_the_place_of_any_hyperparameters():
    def step(workload, hyperparameters, rng=0, train_state=None):
        """One step."""
        return workload, hyperparameters, rng, train_state

    with_point = api.with_hyperparameters(step, "point")
    assert with_point("w", "other", train_state={}) == ("w", "point", 0, {})
    assert with_point(workload="w", hyperparameters=None, rng=1) == ("w", "point", 1, None)
    assert inspect.signature(with_point) == inspect.signature(step)
    assert with_point.__doc__ == "One step."
