"""`submission.plan`: no framework is imported, and ownership is balanced."""

import json
import subprocess
import sys

import numpy as np
import pytest
import torch

from submission.plan import blocking, ownership
from submission.plan.options import BlockingConfig, ShampooOptions
from submission.shampoo.stack import matrix_view

SHAPES = [(300, 200), (64,), (1000, 40), (7, 3, 3, 3), (50000,), (90, 90), (20000, 8), (5, 40, 70)]


@pytest.mark.parametrize(
    "module",
    ["options", "blocking", "minimax", "ownership", "refresh", "reference", "reference_blocks"],
)
def test_no_framework_is_imported(module):
    code = (
        f"import sys, json, submission.plan.{module} as _;"
        "print(json.dumps([m for m in ('torch', 'jax', 'numpy', 'submission.shampoo') "
        "if m in sys.modules]))"
    )
    completed = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, check=True, text=True
    )
    assert json.loads(completed.stdout) == (["numpy"] if module == "reference" else [])


def loads(owned):
    """What each rank computes and sends."""
    grids = [[part.grid for part in parts] for parts in owned]
    cost = lambda g: g.blocks * ownership.block_cost(g.height, g.width, g.sides, 10)  # noqa: E731
    return [[sum(map(measure, row)) for row in grids] for measure in (cost, lambda g: g.elements)]


def test_what_ranks_compute_and_what_they_send_is_balanced_together():
    config = BlockingConfig(block_size=32)
    shapes = [(2000,), (1000,), (64, 24), (16, 32), (32, 64)]
    plans = [(i, blocking.plan_parameter(shape, config)) for i, shape in enumerate(shapes)]
    # 1.29 if either counts alone, blocks are in any order or totals are others.
    assert all(max(row) < 1.2 * sum(row) / 3 for row in loads(ownership.assign(plans, 3)))


@pytest.mark.parametrize("ranks", [1, 2, 3, 8, 64])
def test_every_block_has_one_owner_and_no_owner_has_more_than_the_mean_and_one_block(ranks):
    config = BlockingConfig(block_size=32, max_dim=10000)
    plans = [(i, blocking.plan_parameter(shape, config)) for i, shape in enumerate(SHAPES)]
    owned = ownership.assign(plans, ranks)
    parts = [part for row in owned for part in row]
    owners = [np.zeros(plan.matrix_shape) for _, plan in plans]
    for part in parts:
        matrix_view(part.grid, torch.from_numpy(owners[part.index])).add_(1)
        whole = plans[part.index][1].grids[part.number]
        if any(whole.sides):
            row, column = part.grid.row - whole.row, part.grid.column - whole.column
            first = row // whole.height * whole.columns + column // whole.width
            assert part.start == first
    assert all((count == 1).all() for count in owners)
    costs, _ = loads(owned)
    largest = ownership.block_cost(32, 32, (True, True), 10)
    strip = 100.0 * 2**16
    assert max(costs) <= sum(costs) / ranks + max(largest, strip)


def test_dtypes_are_strings():
    assert ShampooOptions(factor_dtype="bfloat16").factor_dtype == "bfloat16"
    with pytest.raises(ValueError, match="factor_dtype must be one of 'float32', 'bfloat16'"):
        ShampooOptions(factor_dtype="float16")
