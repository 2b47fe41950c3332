"""Stand-ins in JAX are those in PyTorch: data, initial weights, logits, losses, statistics."""

import numpy as np
import pytest
import torch

pytest.importorskip("jax", reason="JAX is not installed: requirements-jax.txt")

import jax

from common.cli import UserError
from submission.algoperf_api import spec
from workloads import prng, registry

TRAIN, EVAL = spec.ForwardPassMode.TRAIN, spec.ForwardPassMode.EVAL
KEY = prng.key(7)
ROWS = 8


def moved(weights):
    """The same noise on all weights: some layers start at zero, and would hide the rest."""
    generator = np.random.default_rng(0)
    return {
        name: np.array(value) + 0.1 * generator.normal(size=value.shape).astype(np.float32)
        for name, value in sorted(weights.items())
    }


@pytest.mark.slow
@pytest.mark.parametrize("name", registry.in_jax())
def test_is_its_twin(name):
    twin, workload = registry.load(name), registry.load(name, "jax")
    model, _ = twin.init_model_fn(KEY)
    params, statistics = workload.init_model_fn(KEY)
    start = dict(model.named_parameters())
    assert start.keys() == params.keys()
    for weight, value in start.items():
        assert np.array_equal(params[weight], value.detach()), weight
    params = moved(params)
    model.load_state_dict({k: torch.from_numpy(v) for k, v in params.items()}, strict=False)

    batches = [
        next(instance._build_input_queue(KEY, "train", "", global_batch_size=ROWS))
        for instance in (twin, workload)
    ]
    for part, values in batches[0].items():
        assert np.array_equal(batches[1][part], values), part

    def loss(params, statistics):
        logits, statistics = workload.model_fn(
            params, batches[1], statistics, TRAIN, None, update_batch_norm=True
        )
        losses = workload.loss_fn(batches[1]["targets"], logits, batches[1]["weights"], 0.2)
        return losses["summed"], (losses["n_valid_examples"], statistics)

    differentiate = jax.jit(jax.value_and_grad(loss, has_aux=True))
    (summed, (valid, after)), grads = differentiate(params, statistics)
    logits, _ = twin.model_fn(model, batches[0], None, TRAIN, None, update_batch_norm=True)
    losses = twin.loss_fn(batches[0]["targets"], logits, batches[0]["weights"], 0.2)
    losses["summed"].backward()
    assert float(summed) == pytest.approx(losses["summed"].item(), rel=1e-5)
    assert float(valid) == losses["n_valid_examples"].item()
    for weight, value in model.named_parameters():
        scale = max(float(value.grad.abs().max()), 1e-3)
        assert np.allclose(grads[weight], value.grad, rtol=0, atol=1e-4 * scale), weight
    expected = {k: v for k, v in model.named_buffers() if "running" in k}
    assert (after or {}).keys() == expected.keys()
    for part, value in expected.items():
        assert np.allclose(after[part], value, rtol=1e-4, atol=1e-5), part

    metrics = [
        instance._eval_model_on_split("validation", 20, ROWS, weights, state, None, "")
        for instance, weights, state in ((twin, model, None), (workload, params, after))
    ]
    assert metrics[1] == pytest.approx(metrics[0], rel=1e-4)


def test_dropout_follows_the_key_and_scales_what_is_left():
    workload = registry.load("mnist_vit", "jax")
    params, _ = workload.init_model_fn(KEY)
    params = moved(params)
    batch = next(workload._build_input_queue(KEY, "train", "", global_batch_size=ROWS))

    def logits(mode, rng, rate):
        return np.array(workload.model_fn(params, batch, None, mode, rng, True, rate)[0])

    dropped, other = (logits(TRAIN, prng.key(seed), 0.5) for seed in (1, 2))
    assert np.array_equal(dropped, logits(TRAIN, prng.key(1), 0.5))
    assert not np.allclose(dropped, other)
    assert np.array_equal(logits(EVAL, prng.key(1), 0.5), logits(TRAIN, prng.key(1), 0.0))


def test_a_workload_without_a_model_in_jax_is_named():
    with pytest.raises(UserError, match=r"brain_unet has no model in JAX; those .*: mnist_vit"):
        registry.load("brain_unet", "jax")
