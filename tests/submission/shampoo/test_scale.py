"""The length of steps, whatever the scale of gradients is and wherever they are zero.

Lengths are root mean squares of updates in units of the learning rate. Those of AdamW are at most 1
on the streams here, and 0.1 to 0.6 where gradients have been random for some steps.
"""

import pytest
import torch

from submission.shampoo import Shampoo, kl_shampoo
from tests.submission.shampoo.streams import parameters, run
from tests.submission.shampoo.test_against_reference import errors

LR, SIZE = 0.01, 16
METHODS = ["shampoo", "soap", "kl_shampoo"]
STREAMS = {
    **{f"{scale:g}": [scale] * 24 for scale in (1e-8, 1e-4, 1.0, 1e4)},
    **{f"zero {count} times": [0.0] * count + [1e-5] * 24 for count in (1, 3, 12)},
    **{f"{first:g}, then 1": [first] + [1.0] * 24 for first in (1e-12, 1e-6, 1e-2, 1e4)},
    **{f"up by {rise:g}": [1.0] * 17 + [rise] * 24 for rise in (1e2, 1e4, 1e8)},
    "zero, tiny, one": [0.0] * 2 + [1e-6] * 9 + [1.0] * 24,
    "ever larger": [1e-8 * 2.0**step for step in range(40)],
    "late tiny": [1.0] * 12 + [1e-8] * 12,
    "late zero": [1.0] * 12 + [0.0] * 12,
    "one outlier": [1.0] * 12 + [1e6] + [1.0] * 12,
}


def gradients(scales, rows=SIZE, columns=SIZE):
    """Gaussian gradients [SIZE, SIZE], one of each scale, zero after some rows and columns."""
    generator, grads = torch.Generator().manual_seed(1), []
    for scale in scales:
        grad = torch.zeros(SIZE, SIZE)
        grad[:rows, :columns] = scale * torch.randn(rows, columns, generator=generator)
        grads.append(grad)
    return grads


def updates(streams, make=Shampoo, **options):
    """What an optimizer subtracts from weights at each step, over the learning rate.

    Args:
      streams: of gradients, one for each weight; shorter ones begin later.

    Returns:
      for each stream [steps, SIZE, SIZE].
    """
    weights = parameters([(SIZE, SIZE)] * len(streams), torch.float32)
    optimizer = make(weights, lr=LR, weight_decay=0.0, eps=1e-20, **options)
    all_updates = [[] for _ in streams]
    for step in range(-max(map(len, streams)), 0):
        before = [weight.detach().clone() for weight in weights]
        for weight, stream in zip(weights, streams, strict=True):
            weight.grad = stream[step] if len(stream) >= -step else None
        optimizer.step()
        for stream_updates, old, weight in zip(all_updates, before, weights, strict=True):
            if weight.grad is not None:
                stream_updates.append((old - weight.detach()) / LR)
    return [torch.stack(stream_updates) for stream_updates in all_updates]


def lengths(changes):
    return changes.square().mean((-2, -1)).sqrt()


@pytest.mark.parametrize("method", METHODS)
def test_steps_are_as_long_as_adamws(method):
    streams = [gradients(scales) for scales in STREAMS.values()]
    adamw = updates(streams, torch.optim.AdamW)
    shampoo = updates(streams, method=method)
    for name, expected, updated in zip(STREAMS, adamw, shampoo, strict=True):
        assert lengths(updated).max() < 2, name
        assert 0.3 < lengths(updated[-1]) / lengths(expected[-1]) < 4, name


@pytest.mark.parametrize("method", METHODS)
def test_where_rows_and_columns_have_no_gradients_the_others_move_as_far(method):
    """And as AdamW again when all have gradients; one entry alone may move 6 times as far."""
    areas = [(8, 16), (16, 8), (8, 8), (1, 16), (16, 1), (1, 1)]
    streams = [[*gradients([1.0] * 24, *area), *gradients([1.0] * 12)] for area in areas]
    adamw = updates(streams, torch.optim.AdamW)
    shampoo = updates(streams, method=method)
    for area, expected, updated in zip(areas, adamw, shampoo, strict=True):
        assert (lengths(updated[:24]) / lengths(expected[:24])).max() < 6, area
        assert lengths(updated[24:]).max() < 2, area


@pytest.mark.parametrize("make", [Shampoo, kl_shampoo])
def test_the_scale_of_all_gradients_makes_no_difference_to_kl_shampoo(make):
    """Up to rounding, of which scales other than powers of two would bring more."""
    scales = [1.0] * 5 + [0.0] + [1e-3] * 15
    factors = [1.0, 2.0**-27, 2.0**-13, 2.0**13]
    streams = [gradients([factor * scale for scale in scales]) for factor in factors]
    options = {"method": "kl_shampoo", "refresh": "together"}
    first, *others = updates(streams, make, **options)
    for other, scale in zip(others, factors[1:], strict=True):
        # Updates are differences of weights.
        torch.testing.assert_close(other, first, rtol=0, atol=1e-3, msg=str(scale))


@pytest.mark.parametrize("method", METHODS)
def test_the_scale_of_the_first_gradient_is_soon_forgotten(method):
    streams = [gradients([first] + [1.0] * 39) for first in (1.0, 0.0, 1e-12, 1e-3)]
    results = updates(streams, method=method)
    first, *others = [lengths(result[-1]) for result in results]
    for other in others:
        torch.testing.assert_close(other, first, rtol=0.2, atol=0)


@pytest.mark.parametrize("method", ["soap", "kl_shampoo"])
@pytest.mark.parametrize("overlap", [False, True])
def test_the_reference_agrees(method, overlap):
    options = {"method": method, "overlap": overlap}
    options = {**options, "refresh_interval": 2, "eps": 1e-12}
    for scales in (
        [0.0, 0.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0],
        [0.0, 1e-3, 1.0, 0.0, 1.0, 1.0, 1.0, 1.0],
        [1e-3, 1.0, 1e2, 1.0, 1.0, 0.0, 1.0, 1e-2],
    ):
        assert errors([(5, 5), (4, 4)], options, seed=0, scales=scales)[0] <= 1e-9


@pytest.mark.parametrize("dead", ["rows", "columns"])
def test_kl_factors_neither_grow_nor_shrink_where_gradients_stay_zero(dead):
    weight = parameters([(SIZE, SIZE)], torch.float32)[0]
    optimizer = Shampoo([weight], method="kl_shampoo", betas=(0.9, 0.5))
    area = (4, SIZE) if dead == "rows" else (SIZE, 4)
    for grad in gradients([1.0] * 200, *area):
        weight.grad = grad
        optimizer.step()
    state = optimizer.state_dict()["state"][0]
    means = [state[f"{side}_eigenvalues.0"].mean() for side in ("left", "right")]
    assert 0.3 < means[0] < 3
    torch.testing.assert_close(means[1], means[0])


@pytest.mark.parametrize("method", METHODS)
def test_a_low_rank_product_that_starts_at_zero_is_learnt(method):
    """A's gradient is zero while B is, and grows with it."""
    generator = torch.Generator().manual_seed(0)
    target = torch.randn(24, 3, generator=generator) @ torch.randn(3, 24, generator=generator)
    a = torch.nn.Parameter(torch.randn(4, 24, generator=generator) / 5)
    b = torch.nn.Parameter(torch.zeros(24, 4))
    optimizer = Shampoo([a, b], lr=0.03, method=method)
    losses = []
    for _ in range(150):
        optimizer.zero_grad()
        loss = (b @ a - target).square().mean()
        (1e-4 * loss).backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 1e-2 * losses[0]


@pytest.mark.parametrize("method", ["soap", "kl_shampoo"])
@pytest.mark.parametrize("solver", ["qr", "cholesky_qr"])
@pytest.mark.parametrize("value", [0.0, torch.nan])
def test_a_first_basis_is_exact_also_after_gradients_of_zero_and_skipped_steps(
    method, solver, value
):
    weights = parameters([(12, 9)])
    optimizer = Shampoo(weights, method=method, basis_solver=solver, refresh_interval=4)
    for _ in range(3):
        weights[0].grad = torch.full((12, 9), value, dtype=torch.float64)
        optimizer.step()
    assert all(row["refreshes"] == 0 for row in optimizer.diagnostics()["factors"].values())
    for seed in range(6):
        run(optimizer, weights, 1, seed)
        for row in optimizer.diagnostics()["factors"].values():
            assert row["residual"] < 1e-9 or row["refreshes"] > 1
