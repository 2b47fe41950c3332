"""The training step: masks, smoothing, dropout, clipping, logging, and gradients under DDP."""

import inspect
import types

import absl.flags
import pytest
import torch
import torch.nn.functional as F
from torch.distributed.optim import ZeroRedundancyOptimizer

from submission.algoperf_api import pytorch as api
from submission.shampoo import Shampoo
from tests import training_ranks
from workloads import spec


class TinyWorkload:
    """A linear classifier with dropout behind the parts of the workload API that a step uses."""

    step_hint = 80
    metrics_logger = None
    seen_dropout: object = "not asked"

    def model_fn(
        self,
        params,
        augmented_and_preprocessed_input_batch,
        model_state,
        mode,
        rng,
        update_batch_norm,
        dropout_rate=0.25,
    ):
        assert mode == spec.ForwardPassMode.TRAIN
        self.seen_dropout = dropout_rate
        return params(augmented_and_preprocessed_input_batch["inputs"]), model_state

    def loss_fn(self, label_batch, logits_batch, mask_batch=None, label_smoothing=0.0):
        losses = F.cross_entropy(
            logits_batch, label_batch, reduction="none", label_smoothing=label_smoothing
        )
        if mask_batch is None:
            mask_batch = torch.ones_like(losses)
        losses = losses * mask_batch
        return {
            "summed": losses.sum(),
            "n_valid_examples": mask_batch.sum(),
            "per_example": losses,
        }


class Recorder:
    def __init__(self):
        self.rows = []

    def append_scalar_metrics(self, metrics, step):
        self.rows.append((step, metrics))


def make_batch(rows=8, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return {
        "inputs": torch.randn(rows, 5, generator=generator),
        "targets": torch.randint(0, 3, (rows,), generator=generator),
        "weights": (torch.arange(rows) < rows - 3).float(),
    }


def make_model():
    torch.manual_seed(1)
    return torch.nn.Linear(5, 3)


def take_step(model, batch, workload=None, global_step=1, **hyperparameters):
    workload = workload or TinyWorkload()
    point = types.SimpleNamespace(warmup_factor=0.0, **hyperparameters)
    state = api.optimizer_state(workload, torch.optim.SGD(model.parameters(), lr=1.0), point)
    return api.update_params(
        workload=workload,
        current_param_container=model,
        current_params_types=None,
        model_state="state",
        hyperparameters=point,
        batch=batch,
        loss_type=spec.LossType.SOFTMAX_CROSS_ENTROPY,
        optimizer_state=state,
        eval_results=[],
        global_step=global_step,
        rng=None,
        train_state={},
    )


def expected_grad(batch, smoothing=0.0):
    model = make_model()
    valid = batch["weights"] > 0
    logits = model(batch["inputs"][valid])
    F.cross_entropy(logits, batch["targets"][valid], label_smoothing=smoothing).backward()
    return model.weight.grad


@pytest.mark.parametrize("smoothing", [0.0, 0.3])
def test_the_gradient_is_that_of_the_mean_loss_over_valid_examples(smoothing):
    model, batch = make_model(), make_batch()
    _, returned, model_state = take_step(model, batch, label_smoothing=smoothing)
    assert returned is model
    assert model_state == "state"
    assert torch.allclose(model.weight.grad, expected_grad(batch, smoothing), atol=1e-6)
    assert torch.allclose(model.weight, make_model().weight - model.weight.grad)


def test_dropout_is_the_points_or_else_the_workloads_own():
    workload = TinyWorkload()
    take_step(make_model(), make_batch(), workload)
    assert workload.seen_dropout == 0.25
    take_step(make_model(), make_batch(), workload, dropout_rate=0.5)
    assert workload.seen_dropout == 0.5


def test_clipping_bounds_the_global_norm():
    model = make_model()
    take_step(model, make_batch(), grad_clip=1e-3)
    norm = torch.cat([p.grad.flatten() for p in model.parameters()]).norm()
    assert norm == pytest.approx(1e-3, rel=1e-3)


def test_metrics_are_logged_rarely_and_before_clipping():
    workload = TinyWorkload()
    workload.metrics_logger = Recorder()
    for step in range(5):
        take_step(make_model(), make_batch(), workload, global_step=step, grad_clip=1e-3)
    assert [step for step, _ in workload.metrics_logger.rows] == [0, 2, 4]
    metrics = workload.metrics_logger.rows[0][1]
    assert metrics["grad_norm"] > 1e-2
    assert metrics["loss"] > 0


def test_the_schedule_is_as_long_as_the_point_says():
    point = types.SimpleNamespace(warmup_factor=0.0, step_hint_factor=0.25)
    optimizer = torch.optim.SGD(make_model().parameters(), lr=1.0)
    scheduler = api.optimizer_state(TinyWorkload(), optimizer, point)["scheduler"]
    for _ in range(20):
        optimizer.step()
        scheduler.step()
    assert optimizer.param_groups[0]["lr"] == pytest.approx(0.0)


def test_the_run_ends_with_its_schedule():
    model, batch = make_model(), make_batch()
    optimizer = torch.optim.SGD(model.parameters(), lr=1.0)
    point = types.SimpleNamespace(warmup_factor=0.0, step_hint_factor=0.05)
    state = api.optimizer_state(TinyWorkload(), optimizer, point)
    arguments = (TinyWorkload(), model, None, None, point, batch, None, state, [])
    for step in range(4):
        api.update_params(*arguments, step, None)
    last = model.weight.detach().clone()
    with pytest.raises(spec.TrainingCompleteError):
        api.update_params(*arguments, 4, None)
    assert torch.equal(model.weight, last)


def test_data_selection_takes_the_next_batch_and_evaluation_reads_the_weights():
    model = make_model()
    batch = api.data_selection(None, iter([1, 2]), {}, model, None, None, 0, None)
    assert batch == 1
    state = {"optimizer": torch.optim.SGD(model.parameters(), lr=1.0)}
    assert api.prepare_for_eval(None, model, None, "s", None, None, state, [], 0, None) == (
        state,
        model,
        "s",
    )


def test_evaluation_reads_averages_and_training_goes_on_from_the_weights():
    model, plain = make_model(), make_model()
    workload, point = TinyWorkload(), types.SimpleNamespace(warmup_factor=0.0)
    states = [
        api.optimizer_state(
            workload, Shampoo(net.parameters(), lr=0.1, averaging="ema", overlap=True), point
        )
        for net in (model, plain)
    ]
    for step in range(6):
        for net, state in zip((model, plain), states, strict=True):
            batch = make_batch(seed=step)
            loss_type = spec.LossType.SOFTMAX_CROSS_ENTROPY
            arguments = (workload, net, None, None, point, batch, loss_type, state, [], step, None)
            api.update_params(*arguments, train_state={})
        if step % 2:
            trained = model.weight.detach().clone()
            api.prepare_for_eval(
                workload, model, None, None, point, None, states[0], [], step, None
            )
            assert not torch.equal(model.weight, trained)
    states[0]["optimizer"].train()
    assert torch.equal(model.weight, plain.weight)


def test_an_unknown_workload_has_no_batch_size():
    with pytest.raises(ValueError, match="nonesuch"):
        api.get_batch_size("nonesuch")


def ddp_step(rank, world):
    """The gradient of a rank's rows, and what rank 0, which has the logger, logs of the step."""
    model = torch.nn.parallel.DistributedDataParallel(make_model())
    batch = {name: value[rank::world] for name, value in make_batch().items()}
    workload = TinyWorkload()
    if rank == 0:
        workload.metrics_logger = Recorder()
    take_step(model, batch, workload, global_step=0)
    return model.module.weight.grad, workload.metrics_logger and workload.metrics_logger.rows


@pytest.mark.parametrize("world", [2, 4])
def test_ranks_with_unequal_numbers_of_valid_examples_get_the_global_mean(world):
    alone = TinyWorkload()
    alone.metrics_logger = Recorder()
    take_step(make_model(), make_batch(), alone, global_step=0)
    ((_, expected),) = alone.metrics_logger.rows
    found = training_ranks.run(world, ddp_step, world)
    for grad, _ in found:
        assert torch.equal(grad, found[0][0])
        assert torch.allclose(grad, expected_grad(make_batch()), atol=1e-6)
    assert [rows for _, rows in found[1:]] == [None] * (world - 1)
    ((step, logged),) = found[0][1]
    assert step == 0
    assert logged == {name: pytest.approx(value, rel=1e-5) for name, value in expected.items()}


def prepared_states(rank, optimizer_class, options):
    """What the runner's `state_dict` on this rank gives after preparing for an evaluation."""
    model = torch.nn.parallel.DistributedDataParallel(torch.nn.Linear(5, 3, dtype=torch.float32))
    optimizer = optimizer_class(model.parameters(), lr=0.1, **options)
    point = types.SimpleNamespace(warmup_factor=0.0)
    workload = TinyWorkload()
    state = api.optimizer_state(workload, optimizer, point)
    for step in range(3):
        loss_type = spec.LossType.SOFTMAX_CROSS_ENTROPY
        arguments = (workload, model, None, None, point, make_batch(seed=rank), loss_type, state)
        api.update_params(*arguments, [], step, None, train_state={})
    api.prepare_for_eval(workload, model, None, None, point, None, state, [], 2, None)
    try:
        return len(state["optimizer"].state_dict()["state"]), optimizer.param_groups[0]["lr"]
    except RuntimeError:
        return None, optimizer.param_groups[0]["lr"]


@pytest.mark.parametrize(
    ("optimizer_class", "options", "elsewhere"),
    [
        (Shampoo, {}, None),
        (ZeroRedundancyOptimizer, {"optimizer_class": torch.optim.Adam}, None),
        (torch.optim.Adam, {}, 2),
    ],
)
def test_before_an_evaluation_rank_0_has_all_state(optimizer_class, options, elsewhere):
    found = training_ranks.run(2, prepared_states, optimizer_class, options)
    (first, rate), (second, same_rate) = found
    assert (first, second) == (2, elsewhere)
    assert 0 < rate == same_rate < 0.1, "the schedule moves the rate of every rank"


class Consolidates:
    """An optimizer that other ranks hold a part of, as far as `prepare_for_eval` sees."""

    def __init__(self):
        self.asked = 0

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
    monkeypatch.setattr(api, "_distributed", lambda: True)
    state = {"optimizer": Consolidates()}
    api.prepare_for_eval(None, None, None, None, None, None, state, [], 0, None)
    assert state["optimizer"].asked == asked


def resumed_steps(rank, unwrapped):
    """Weights after steps on this rank's rows of a model that a restore has unwrapped, or not."""
    model = torch.nn.parallel.DistributedDataParallel(make_model())
    workload, point = TinyWorkload(), types.SimpleNamespace(warmup_factor=0.0)
    state = api.optimizer_state(workload, Shampoo(model.parameters(), lr=0.1), point)
    if unwrapped:
        model = model.module
    for step in range(5):
        loss_type = spec.LossType.SOFTMAX_CROSS_ENTROPY
        batch = make_batch(seed=10 * step + rank)
        arguments = (workload, model, None, None, point, batch, loss_type, state, [], step, None)
        state, model, _ = api.update_params(*arguments, train_state={})
    return isinstance(model, torch.nn.parallel.DistributedDataParallel), list(model.parameters())


def test_ranks_that_a_restore_has_unwrapped_go_on_together():
    expected = training_ranks.run(2, resumed_steps, False)
    found = training_ranks.run(2, resumed_steps, True)
    for wrapped, weights in found:
        assert wrapped
        for weight, other in zip(weights, expected[0][1], strict=True):
            assert torch.equal(weight, other)


def test_a_point_takes_the_place_of_any_hyperparameters():
    def step(workload, hyperparameters, rng=0, train_state=None):
        """One step."""
        return workload, hyperparameters, rng, train_state

    given = api.with_hyperparameters(step, "mine")
    assert given("w", "theirs", train_state={}) == ("w", "mine", 0, {})
    assert given(workload="w", hyperparameters=None, rng=1) == ("w", "mine", 1, None)
    assert inspect.signature(given) == inspect.signature(step)
    assert given.__doc__ == "One step."


def test_the_schedule_ends_within_the_budget_that_the_point_names():
    workload = TinyWorkload()
    workload.max_allowed_runtime_sec = 60
    point = types.SimpleNamespace(warmup_factor=0.0, budget_factor=0.5)
    optimizer = torch.optim.SGD(make_model().parameters(), lr=1.0)
    scheduler = api.optimizer_state(workload, optimizer, point)["scheduler"]
    for seconds, rate in ((15.0, 0.5), (30.0, 0.0)):
        optimizer.step()
        scheduler.observe(seconds)
        scheduler.step()
        assert optimizer.param_groups[0]["lr"] == pytest.approx(rate)
