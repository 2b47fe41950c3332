"""Every entry: the API's functions, a readable search space, and steps that learn."""

import importlib
import json
import types
from pathlib import Path

import pytest
import torch

from workloads import prng, registry, spec

ENTRIES = ("shampoo", "adamw", "nadamw", "nesterov", "shampoo_self_tuning")
WITH_POINTS = ENTRIES[:3]
STANDIN_POINTS = Path(__file__).parents[3] / "workloads" / "standin" / "points"
POINT = {
    "learning_rate": 3e-3,
    "one_minus_beta1": 0.1,
    "one_minus_beta2": 0.01,
    "weight_decay": 0.01,
    "warmup_factor": 0.0,
    "label_smoothing": 0.0,
    "dropout_rate": 0.0,
}


def module_of(entry):
    return importlib.import_module(f"submission.entries.{entry}.submission")


def points_of(entry, suite="official"):
    """Its points under the official benchmark, or on the stand-ins."""
    own = Path(module_of(entry).__file__).with_name("tuning_search_space.json")
    path = own if suite == "official" else STANDIN_POINTS / f"{entry}.json"
    return json.loads(path.read_text())


@pytest.mark.parametrize("entry", ENTRIES)
def test_has_the_functions_of_the_api(entry):
    for name in (
        "init_optimizer_state",
        "update_params",
        "get_batch_size",
        "data_selection",
        "prepare_for_eval",
    ):
        assert callable(getattr(module_of(entry), name))


@pytest.mark.parametrize("suite", ["official", "standin"])
@pytest.mark.parametrize("entry", WITH_POINTS)
def test_has_five_different_points_with_the_same_keys(entry, suite):
    points = points_of(entry, suite)
    assert len(points) == 5
    assert len({json.dumps(point, sort_keys=True) for point in points}) == 5
    assert len({tuple(point) for point in points}) == 1


@pytest.mark.parametrize("suite", ["official", "standin"])
def test_the_entries_to_be_compared_tune_the_same_hyperparameters(suite):
    shampoo, adamw, nadamw = (set(points_of(entry, suite)[0]) for entry in WITH_POINTS)
    assert adamw == nadamw
    assert adamw <= shampoo


class ShortHint:
    """A workload with a step hint of which a warm-up of a tenth is over soon."""

    step_hint = 30

    def __init__(self, workload):
        self.workload = workload

    def __getattr__(self, name):
        return getattr(self.workload, name)


@pytest.mark.parametrize("entry", ENTRIES)
def test_twenty_steps_on_one_batch_lower_its_loss(entry):
    module = module_of(entry)
    workload = registry.load("mnist_vit")
    data_rng, model_rng, rng = prng.split(prng.key(0), 3)
    model, model_state = workload.init_model_fn(model_rng)
    extra = points_of("shampoo")[0] if entry == "shampoo" else {}
    point = types.SimpleNamespace(**{**extra, **POINT, "step_hint_factor": 1.0})
    if entry == "nesterov":
        point.learning_rate = 0.1
    if entry == "shampoo_self_tuning":
        point = None
        workload = ShortHint(workload)
    state = module.init_optimizer_state(workload, model, model_state, point, rng)
    queue = workload._build_input_queue(
        data_rng, "train", "", global_batch_size=module.get_batch_size("mnist_vit")
    )
    batch = module.data_selection(workload, queue, state, model, model_state, point, 0, rng)

    def loss():
        with torch.no_grad():
            logits, _ = workload.model_fn(
                model, batch, model_state, spec.ForwardPassMode.EVAL, rng, False
            )
            return float(workload.loss_fn(batch["targets"], logits)["summed"])

    before = loss()
    for step in range(20):
        state, model, model_state = module.update_params(
            workload=workload,
            current_param_container=model,
            current_params_types=workload.model_params_types,
            model_state=model_state,
            hyperparameters=point,
            batch=batch,
            loss_type=workload.loss_type,
            optimizer_state=state,
            eval_results=[],
            global_step=step,
            rng=rng,
        )
    assert loss() < 0.9 * before
    assert all(hasattr(value, "state_dict") for value in state.values())


def test_nadamw_is_adamw_with_the_look_ahead_average():
    from submission.entries.nadamw.nadamw import NAdamW

    generator = torch.Generator().manual_seed(0)
    weight = torch.nn.Parameter(torch.randn(4, 3, generator=generator, dtype=torch.float64))
    optimizer = NAdamW([weight], lr=0.1, betas=(0.8, 0.9), eps=1e-8, weight_decay=0.2)
    expected = weight.detach().clone()
    m = v = torch.zeros_like(expected)
    for step in range(1, 6):
        grad = torch.randn(4, 3, generator=generator, dtype=torch.float64)
        weight.grad = grad.clone()
        optimizer.step()
        m, v = 0.8 * m + 0.2 * grad, 0.9 * v + 0.1 * grad**2
        ahead = (0.8 * m + 0.2 * grad) / (1 - 0.8**step)
        expected = expected * (1 - 0.1 * 0.2) - 0.1 * ahead / ((v / (1 - 0.9**step)).sqrt() + 1e-8)
    assert torch.allclose(weight, expected, rtol=1e-12)


def test_nadamw_counts_steps_on_the_host_wherever_they_were_loaded_from():
    from submission.entries.nadamw.nadamw import NAdamW

    class OnAGpu(torch.Tensor):
        """A tensor that only `cpu` makes an ordinary one."""

        def cpu(self):
            return self.as_subclass(torch.Tensor)

    weight = torch.nn.Parameter(torch.ones(2))
    optimizer = NAdamW([weight])
    weight.grad = torch.ones(2)
    optimizer.step()
    saved = optimizer.state_dict()
    saved["state"][0]["step"] = saved["state"][0]["step"].as_subclass(OnAGpu)
    optimizer.load_state_dict(saved)
    assert type(optimizer.state[weight]["step"]) is torch.Tensor
    assert optimizer.state[weight]["step"] == 1


def test_nadamw_names_bad_options():
    from submission.entries.nadamw.nadamw import NAdamW

    with pytest.raises(ValueError, match="betas"):
        NAdamW([torch.nn.Parameter(torch.ones(1))], betas=(0.9, 1.0))
    with pytest.raises(ValueError, match="lr"):
        NAdamW([torch.nn.Parameter(torch.ones(1))], lr=-1.0)
