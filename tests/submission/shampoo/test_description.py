"""What an optimizer says of itself: `print(optimizer)` and `diagnostics`."""

import math

import pytest
import torch

from submission.plan.ownership import block_cost
from submission.shampoo import Shampoo
from submission.shampoo.description import text
from tests.submission.shampoo.streams import OPTIONS, VARIANTS, parameters, run

LONG = [(300, 200), (7, 23, 31), (64, 3, 7, 7), (3,), (), (100, 3), (2, 2, 40, 41)]


@pytest.mark.parametrize("name", VARIANTS)
def test_print_is_short_and_resolves_every_option(name):
    named = [(f"block.{'x' * 40}.{i}", w) for i, w in enumerate(parameters(LONG))]
    lines = repr(Shampoo(named, **{**OPTIONS, **VARIANTS[name]})).splitlines()
    assert max(map(len, lines)) <= 100
    options = " ".join(lines[1 : next(i for i, x in enumerate(lines) if "block." in x)])
    assert "None" not in options
    assert "auto" not in options
    assert "damping=" in options  # SOAP's second moments are matched to damped eigenvalues


def test_parameters_that_differ_by_numbers_share_a_line():
    def layer(i):
        return [(f"layers.{i}.w1", (6, 5)), (f"layers.{i}.w2", (6, 5)), (f"layers.{i}.b", (6,))]

    rows = [row for i in (0, 1, 2, 10) for row in layer(i)] + [("layers.3.w1", (5, 6))]
    rows += [(f"experts.{i}.{j}#", (4, 4)) for i in range(2) for j in range(3)]
    weights = parameters([shape for _, shape in rows])
    optimizer = Shampoo(list(zip([name for name, _ in rows], weights, strict=True)))
    lines = [line.strip() for line in repr(optimizer).splitlines() if line.startswith("    ")]
    assert [line for line in lines if line.startswith(("layers", "experts"))] == [
        "layers.0-2,10.w1 [6, 5] x 4: Shampoo, 1 x [6, 5]",
        "layers.0-2,10.w2 [6, 5] x 4: Shampoo, 1 x [6, 5]",
        "layers.0-2,10.b [6] x 4: AdamW (vector)",
        "layers.3.w1 [5, 6]: Shampoo, 1 x [5, 6]",
        *(f"experts.0-1.{j}# [4, 4] x 2: Shampoo, 1 x [4, 4]" for j in range(3)),
    ]


@pytest.mark.parametrize("name", VARIANTS)
def test_totals_are_those_of_the_state_and_of_the_cost_model(name):
    weights = parameters(dtype=torch.float32)
    options = {**OPTIONS, **VARIANTS[name]}
    optimizer = Shampoo(weights, **options)
    before = text(optimizer.param_groups)[-1]
    run(optimizer, weights, 1)
    size = optimizer.diagnostics()["state_bytes"]
    if options.get("averaging"):
        size += sum(weight.nbytes for weight in weights)
        size += 8 * len(weights)  # of the steps that are averaged, or the sum of their weights
    assert text(optimizer.param_groups)[-1] == before
    shown = float(before.split("ranks: ")[1].split(" kB")[0])
    assert shown == pytest.approx(size / 1000, rel=0.01)


def test_work_is_that_of_all_blocks():
    optimizer = Shampoo(parameters([(600, 300)]), block_size=300, refresh_interval=5)
    cost = 2 * block_cost(300, 300, (True, True), 5)
    assert f"work: {cost / 1e9:.3g} GFLOP" in text(optimizer.param_groups)[-1]


def test_a_group_tells_only_what_it_does_differently():
    first, second, third = parameters([(6, 5)] * 3)
    optimizer = Shampoo(
        [{"params": [first]}, {"params": [second]}, {"params": [third], "lr": 0.5, "split": (4, 2)}]
    )
    text_of_groups = repr(optimizer)
    assert "group 1: as group 0\n" in text_of_groups
    assert "group 2: split=4 + 2, lr=0.5, all else as group 0\n" in text_of_groups


def test_scalars_are_flat_and_floats():
    weights = parameters([(6, 5), (4,)], torch.float32)
    optimizer = Shampoo(weights, **OPTIONS)
    assert set(map(type, optimizer.diagnostics().scalars().values())) == {float}
    run(optimizer, weights, 4)
    diagnostics = optimizer.diagnostics()
    flat = diagnostics.scalars(factors=True)
    assert set(map(type, flat.values())) == {float}
    assert all(math.isfinite(value) for value in flat.values())
    assert diagnostics.scalars().keys() == diagnostics.keys() - {"factors"}
    factor = diagnostics["factors"]["param 0 left"]
    assert flat["factors/param 0 left/refreshes"] == factor["refreshes"]
    assert flat["skipped_steps"] == 0
    assert "refreshes             8, 0 failed" in str(diagnostics)


@pytest.mark.parametrize(
    ("method", "solver"), [("shampoo", "eigh"), ("shampoo", "products"), ("soap", "auto")]
)
@pytest.mark.parametrize("smallest", [1.0, 0.1, 0.0])
def test_condition_is_that_of_the_damped_factor(method, solver, smallest):
    """1 of a multiple of the identity; 1 / damping where a direction has no gradient."""
    options = {"method": method, "root_solver": solver, "damping": 1e-3, "refresh_interval": 1}
    weight = torch.nn.Parameter(torch.zeros(4, 4, dtype=torch.float64))
    optimizer = Shampoo([weight], **options)
    for _ in range(3):
        weight.grad = torch.diag(torch.tensor([1, 1, 1, smallest], dtype=torch.float64))
        optimizer.step()
    diagnostics = optimizer.diagnostics()
    expected = 1 / (smallest**2 + 1e-3)
    assert diagnostics["condition"] == pytest.approx(expected, rel=0.01)
    assert diagnostics["condition_median"] == pytest.approx(expected, rel=0.01)
    assert diagnostics["damped"] == (smallest == 0)
