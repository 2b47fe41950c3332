"""What only a GPU can show: agreement with the CPU, and no host synchronisation in a step."""

import pytest
import torch
from torch import nn

from submission.shampoo import Shampoo
from tests.submission.shampoo import streams
from tests.submission.shampoo.streams import VARIANTS, run, set_grads

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")

SHAPES = [(64, 48), (64, 48), (130, 70), (32, 3, 3, 3), (48,), (), (5, 200)]
OPTIONS = {"lr": 0.01, "weight_decay": 0.1, "block_size": 64, "refresh_interval": 5}


def parameters(device, dtype=torch.float32):
    return [
        nn.Parameter(weight.detach().to(device)) for weight in streams.parameters(SHAPES, dtype)
    ]


def without_waiting(step):
    torch.cuda.set_sync_debug_mode("error")
    try:
        step()
    finally:
        torch.cuda.set_sync_debug_mode("default")


@pytest.mark.parametrize("variant", ["shampoo", "no grafting", "adagrad", "ema", "staggered"])
def test_the_gpu_agrees_with_the_cpu(variant):
    """With eigh on both; what depends on bases inside degenerate eigenspaces is left out."""
    options = {**OPTIONS, **VARIANTS[variant], "root_solver": "eigh"}
    on_cpu, on_gpu = parameters("cpu", torch.float64), parameters("cuda", torch.float64)
    optimizers = [Shampoo(on_cpu, **options), Shampoo(on_gpu, **options)]
    for seed in range(12):
        set_grads(seed, on_cpu, on_gpu)
        for optimizer in optimizers:
            optimizer.step()
    for a, b in zip(on_cpu, on_gpu, strict=True):
        torch.testing.assert_close(b.cpu(), a, rtol=0, atol=1e-9)


@pytest.mark.parametrize("variant", VARIANTS)
def test_a_plain_step_never_waits_for_the_device(variant):
    weights = parameters("cuda")
    optimizer = Shampoo(weights, **{**OPTIONS, **VARIANTS[variant]})
    run(optimizer, weights, 6)
    optimizer.finish()
    optimizer.param_groups[0].update(refresh="together", refresh_interval=1000)
    optimizer.param_groups[0]["refresh_step"] = 2000
    set_grads(7, weights)
    without_waiting(optimizer.step)


@pytest.mark.parametrize("overlap", [False, True])
@pytest.mark.parametrize(
    "options",
    [
        {"root_solver": "products"},
        {"root_solver": "products", "exponent": 1 / 3},
        {"method": "soap", "basis_solver": "cholesky_qr"},
        {"method": "kl_shampoo", "basis_solver": "cholesky_qr"},
    ],
    ids=str,
)
def test_a_refresh_by_products_never_waits_for_the_device(options, overlap):
    weights = parameters("cuda")
    optimizer = Shampoo(
        weights, **{**OPTIONS, "refresh_interval": 1, "overlap": overlap}, **options
    )
    run(optimizer, weights, 6)
    set_grads(7, weights)
    without_waiting(optimizer.step)
    assert optimizer.diagnostics()["failed_roots"] == 0


@pytest.mark.parametrize("variant", VARIANTS)
def test_a_non_finite_gradient_changes_nothing(variant):
    weights = parameters("cuda")
    optimizer = Shampoo(weights, **{**OPTIONS, **VARIANTS[variant]})
    run(optimizer, weights, 4)
    before = [weight.detach().clone() for weight in weights]
    set_grads(9, weights)
    weights[2].grad[0, 0] = torch.nan
    optimizer.step()
    assert all(torch.equal(a, b) for a, b in zip(before, weights, strict=True))
    assert optimizer.diagnostics()["skipped_steps"] == 1
