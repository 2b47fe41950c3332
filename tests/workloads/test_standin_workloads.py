"""One test matrix over all stand-ins: AlgoPerf's interface, told by what it does."""

import dataclasses
import math

import numpy as np
import pytest
import torch

from submission.algoperf_api import spec
from submission.algoperf_api.batch_sizes import get_batch_size
from tests.workloads.naive_ctc import naive_ctc_loss
from workloads import prng, registry

TRAIN, EVAL = spec.ForwardPassMode.TRAIN, spec.ForwardPassMode.EVAL
KEY = prng.key(7)


def queue(workload, rng=KEY, batch_size=8):
    return workload._build_input_queue(rng, "train", "", batch_size)


def forward(workload, model, batch, mode=TRAIN, rng=KEY, **options):
    logits, state = workload.model_fn(model, batch, None, mode, rng, False, **options)
    assert state is None
    return logits


def train_loss(workload, model, batch):
    loss = workload.loss_fn(batch["targets"], forward(workload, model, batch), batch["weights"])
    return loss["summed"] / loss["n_valid_examples"]


def naive_losses(workload, targets, logits, smoothing):
    """Losses in NumPy, in double precision, straight from the definition, and what each counts."""
    logits = logits.double().numpy()
    if workload.loss_type == spec.LossType.CTC_LOSS:
        pairs = list(zip(logits, targets.numpy(), strict=True))
        losses = np.array([naive_ctc_loss(frames, row[row != 0]) for frames, row in pairs])
        return losses, (targets != 0).sum(1).numpy()
    if workload.loss_type == spec.LossType.MEAN_ABSOLUTE_ERROR:
        # Officially, an example is an image, and there is no smoothing of pixels.
        losses = np.abs(logits - targets.double().numpy()).mean((1, 2))
        return losses, np.ones_like(losses)
    losses = naive_cross_entropies(workload, targets, logits, smoothing)
    return losses, np.ones_like(losses)


def naive_cross_entropies(workload, targets, logits, smoothing):
    if workload.loss_type == spec.LossType.SIGMOID_CROSS_ENTROPY:
        p = 1 / (1 + np.exp(-logits))
        soft = targets.double().numpy() * (1 - smoothing) + smoothing * 0.5
        return -(soft * np.log(p) + (1 - soft) * np.log(1 - p))
    classes = logits.shape[-1]
    log_p = logits - np.log(np.exp(logits).sum(-1, keepdims=True))
    soft = np.eye(classes)[targets.numpy()] * (1 - smoothing) + smoothing / classes
    return -(soft * log_p).sum(-1)


@pytest.fixture(scope="module")
def model(workload):
    return workload.init_model_fn(KEY)[0]


def test_facts_and_interface(workload):
    facts = registry.facts(workload.name)
    assert workload.target_metric_name == facts.metric
    assert workload.step_hint == facts.step_hint
    assert workload.max_allowed_runtime_sec == facts.max_runtime_seconds
    assert workload.eval_period_time_sec > 0
    assert facts.step_hint // 50 <= facts.eval_period_steps <= facts.step_hint // 30
    assert np.all(np.isfinite(workload.train_mean)) and np.all(workload.train_stddev > 0)
    for split in ("train", "eval_train", "validation", "test"):
        rows = {len(values) for values in workload.tables[split].values()}
        assert rows == {getattr(workload, f"num_{split}_examples")}


@pytest.mark.parametrize("split", ["train", "eval_train", "validation", "test"])
def test_batches_have_the_same_keys_shapes_and_types_in_every_split(workload, model, split):
    batch = next(workload._build_input_queue(KEY, split, "", 8))
    reference = next(queue(workload))
    assert {k: (v.shape, v.dtype) for k, v in batch.items()} == {
        k: (v.shape, v.dtype) for k, v in reference.items()
    }
    assert {"inputs", "targets", "weights"} <= set(batch)
    losses = workload.loss_fn(batch["targets"], forward(workload, model, batch, EVAL))
    assert batch["weights"].shape == losses["per_example"].shape
    assert len(batch["inputs"]) == 8


def test_splits_are_the_same_in_every_instance(workload):
    other = registry.load(workload.name)
    for split, table in workload.tables.items():
        for name, values in table.items():
            assert torch.equal(values, other.tables[split][name])


def test_model_shapes_types_and_output_layer(workload, model):
    parameters = dict(model.named_parameters())
    assert workload.param_shapes == {
        name: spec.ShapeTuple(tuple(p.shape)) for name, p in parameters.items()
    }
    types = workload.model_params_types
    assert types.keys() == parameters.keys()
    kinds = set(types.values())
    assert kinds & {spec.ParameterType.WEIGHT, spec.ParameterType.CONV_WEIGHT}
    assert spec.ParameterType.BIAS in kinds
    for name, kind in types.items():
        assert ("embedding" in name) == (kind == spec.ParameterType.EMBEDDING)
        assert ("norm" in name) == ("NORM" in kind.name)
        assert ("batch_norm" in name) == kind.name.startswith("BATCH_NORM")
        assert ("attention" in name and "norm" not in name) == kind.name.startswith("ATTENTION")
    output = [name for name in parameters if workload.is_output_params(name)]
    assert f"{workload.output_layer}.weight" in output
    for name in output:
        assert parameters[name].shape[0] == parameters[output[0]].shape[0]


def test_initial_weights_depend_on_the_key_alone(workload):
    torch.manual_seed(0)
    first = workload.init_model_fn(KEY)[0].state_dict()
    untouched = torch.rand(1)
    torch.manual_seed(0)
    assert torch.equal(torch.rand(1), untouched)
    torch.manual_seed(1)
    again = workload.init_model_fn(KEY)[0].state_dict()
    other = workload.init_model_fn(prng.key(8))[0].state_dict()
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert any(not torch.equal(first[name], other[name]) for name in first)


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("masked", [False, True])
def test_loss_equals_its_definition(workload, model, smoothing, masked):
    batch = next(queue(workload))
    generator = torch.Generator().manual_seed(3)
    shape = forward(workload, model, batch, EVAL).shape
    logits = 3 * torch.randn(shape, generator=generator)
    mask = None
    expected, counts = naive_losses(workload, batch["targets"], logits, smoothing)
    if masked:
        mask = (torch.rand(batch["weights"].shape, generator=generator) < 0.6).float()
        expected, counts = expected * mask.numpy(), counts * mask.numpy()
    loss = workload.loss_fn(batch["targets"], logits, mask, smoothing)
    assert loss["per_example"].shape == batch["weights"].shape
    np.testing.assert_allclose(loss["per_example"].numpy(), expected, rtol=1e-4, atol=1e-5)
    assert loss["summed"].item() == pytest.approx(expected.sum(), rel=1e-4)
    assert loss["n_valid_examples"].item() == counts.sum()


def test_label_smoothing_raises_the_loss_of_a_confident_right_answer(workload, model):
    batch = next(queue(workload))
    shape = forward(workload, model, batch, EVAL).shape
    targets = batch["targets"]
    if workload.loss_type == spec.LossType.CTC_LOSS:
        pytest.skip("CTC ignores label smoothing, as test_loss_equals_its_definition shows")
    if workload.loss_type == spec.LossType.MEAN_ABSOLUTE_ERROR:
        # Pixels have no label to smooth.
        assert workload.loss_fn(targets, targets, None, 0.1)["summed"] == 0
        return
    if workload.loss_type == spec.LossType.SIGMOID_CROSS_ENTROPY:
        logits = 20 * (targets - 0.5)
    else:
        logits = 10 * torch.nn.functional.one_hot(targets.long(), shape[-1]).float()
    sharp = workload.loss_fn(targets, logits)["summed"]
    assert workload.loss_fn(targets, logits, None, 0.1)["summed"] > sharp + 0.1


def test_dropout_acts_in_training_only_and_follows_the_key(workload):
    model = workload.init_model_fn(KEY)[0]
    head = model.get_parameter(f"{workload.output_layer}.weight")
    torch.nn.init.normal_(head, std=0.1, generator=torch.Generator().manual_seed(0))
    batch = next(queue(workload))
    plain = forward(workload, model, batch)
    dropped = forward(workload, model, batch, dropout_rate=0.5)
    assert not torch.allclose(plain, dropped)
    assert torch.equal(dropped, forward(workload, model, batch, dropout_rate=0.5))
    other = forward(workload, model, batch, rng=prng.key(8), dropout_rate=0.5)
    assert not torch.allclose(dropped, other)
    evaluated = forward(workload, model, batch, EVAL, dropout_rate=0.5)
    torch.testing.assert_close(evaluated, forward(workload, model, batch, EVAL))
    assert not evaluated.requires_grad and plain.requires_grad


def test_running_statistics_change_only_when_asked(workload):
    model = workload.init_model_fn(KEY)[0]
    batch = next(queue(workload))
    before = {name: values.clone() for name, values in model.named_buffers() if "running" in name}
    for update in (False, True):
        workload.model_fn(model, batch, None, TRAIN, KEY, update_batch_norm=update)
        buffers = dict(model.named_buffers())
        assert all(torch.equal(buffers[name], before[name]) is not update for name in before)


def test_evaluation_does_not_depend_on_the_batch_size(workload, model):
    def evaluate(batch_size):
        return workload._eval_model_on_split("validation", 50, batch_size, model, None, KEY, "")

    whole, padded = evaluate(50), evaluate(16)
    assert whole.keys() == padded.keys() and workload.target_metric_name in whole
    for name, value in whole.items():
        assert isinstance(value, float)
        assert padded[name] == pytest.approx(value, rel=1e-5)


def test_eval_model_reports_all_splits(workload, model):
    result = workload.eval_model(workload.eval_batch_size, model, None, KEY, "", None, 0)
    metric = workload.target_metric_name
    assert {f"{split}/{metric}" for split in ("train", "validation", "test")} <= set(result)
    assert result["validation/num_examples"] == workload.num_validation_examples
    assert result["test/num_examples"] == workload.num_test_examples
    assert all(math.isfinite(value) for value in result.values())
    if metric == "ppl":
        assert result["test/ppl"] == pytest.approx(math.exp(result["test/loss"]))


def test_a_few_steps_of_adamw_reduce_the_loss(workload):
    def train():
        model = workload.init_model_fn(KEY)[0]
        optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
        batches = queue(workload, batch_size=min(32, get_batch_size(workload.name)))
        losses = []
        for _ in range(20):
            loss = train_loss(workload, model, next(batches))
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
        return losses

    losses = train()
    assert sum(losses[-4:]) < sum(losses[:4])
    assert losses == train(), "training is not deterministic"


def test_every_parameter_gets_a_gradient(workload):
    model = workload.init_model_fn(KEY)[0]
    # What starts at zero, such as a last layer, lets no gradient through.
    for parameter in model.parameters():
        if not parameter.any():
            torch.nn.init.normal_(parameter, std=0.1)
    train_loss(workload, model, next(queue(workload))).backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None and parameter.grad.abs().sum() > 0, name


def test_targets_are_met_in_the_metrics_direction(workload, monkeypatch):
    metric, name = workload.target_metric_name, workload.name
    facts = registry.facts(name)
    target = 0.5 if facts.direction == "max" else 2.5
    better, worse = (0.6, 0.4) if facts.direction == "max" else (2.4, 2.6)
    rows = {
        name: dataclasses.replace(facts, validation_target=target, test_target=None),
    }
    monkeypatch.setattr("workloads.standin.base.STANDINS", rows)
    for value, reached in ((better, True), (target, True), (worse, False), (math.nan, False)):
        assert workload.has_reached_validation_target({f"validation/{metric}": value}) is reached
    assert not workload.has_reached_test_target({f"test/{metric}": better})
    assert workload.validation_target_value == target
    assert math.isnan(workload.test_target_value)
