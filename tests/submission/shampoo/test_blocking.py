"""Blocking: every element in exactly one block, even cuts, documented routes to AdamW."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from submission.plan.blocking import parts_of, plan_parameter, stack_specs
from submission.plan.options import MATRIX_DIMS, BlockingConfig
from submission.shampoo.stack import matrix_view, stack_view

shapes = st.lists(st.integers(1, 40), min_size=0, max_size=4)
configs = st.builds(
    BlockingConfig,
    block_size=st.integers(2, 16),
    matrix_dims=st.sampled_from(MATRIX_DIMS),
    max_dim=st.integers(2, 200),
    table_aspect=st.floats(1, 16),
    oversize=st.sampled_from(["diagonal", "one_sided"]),
    max_aspect=st.floats(1, 64),
)


@given(st.lists(shapes, min_size=1, max_size=5), configs)
def test_each_element_belongs_to_exactly_one_block(all_shapes, config):
    plans = [(index, plan_parameter(shape, config)) for index, shape in enumerate(all_shapes)]
    counts = [torch.zeros(p.matrix_shape) for _, p in plans]
    for layout in stack_specs(part for planned in plans for part in parts_of(*planned)):
        blocks = torch.zeros(layout.blocks, layout.height, layout.width)
        for member in layout.parts:
            rows = blocks.narrow(0, member.offset, member.grid.blocks)
            stack_view(member.grid, rows).add_(1)
            matrix_view(member.grid, counts[member.index]).add_(1)
        assert (blocks == 1).all(), "members overlap in the stack"
    for count, shape in zip(counts, all_shapes, strict=True):
        assert (count == 1).all()
        assert count.numel() == torch.Size(shape).numel()


@given(st.integers(2, 30), st.integers(2, 30), st.integers(2, 8))
def test_a_grid_reads_the_same_block_from_matrix_and_stack(height, width, block_size):
    matrix = torch.arange(height * width).view(height, width)
    config = BlockingConfig(block_size=block_size, max_aspect=1e9)
    for grid in plan_parameter((height, width), config).grids:
        blocks = torch.empty(grid.blocks, grid.height, grid.width, dtype=matrix.dtype)
        stack_view(grid, blocks).copy_(matrix_view(grid, matrix))
        last_row = grid.row + (grid.rows - 1) * grid.height
        last_column = grid.column + (grid.columns - 1) * grid.width
        expected = matrix[last_row : last_row + grid.height, last_column : last_column + grid.width]
        assert torch.equal(blocks[-1], expected)


@pytest.mark.parametrize(
    ("shape", "reason"),
    [
        ((), "scalar"),
        ((5,), "vector"),
        ((1, 9), "vector"),
        ((9, 1, 1), "vector"),
        ((101, 8), "table: over max_dim=100 and 8 times its other side"),
        ((4, 5), ""),
    ],
)
def test_routes(shape, reason):
    assert plan_parameter(shape, BlockingConfig(max_dim=100)).reason == reason


def test_a_slender_block_is_preconditioned_on_its_short_side_and_not_cut_along_the_long_one():
    config = BlockingConfig(block_size=64, max_aspect=8.0)
    (grid,) = plan_parameter((1000, 4), config).grids
    assert (grid.height, grid.width, grid.sides) == (1000, 4, (False, True))
    assert all(grid.sides == (True, True) for grid in plan_parameter((1000, 8), config).grids)
