"""Blocking: every element in exactly one block, even cuts, documented routes to AdamW."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from submission.shampoo.blocking import cut, plan, stack_layouts, whole
from submission.shampoo.config import BlockingConfig

shapes = st.lists(st.integers(1, 40), min_size=0, max_size=4)
configs = st.builds(
    BlockingConfig,
    block_size=st.integers(2, 16),
    max_dim=st.integers(2, 200),
    max_aspect=st.floats(1, 64),
)


@given(st.integers(1, 5000), st.integers(2, 600))
def test_cuts_are_even_and_as_few_as_possible(length, block_size):
    parts = [size for count, size in cut(length, block_size) for _ in range(count)]
    assert sum(parts) == length
    assert max(parts) <= block_size
    assert max(parts) - min(parts) <= 1
    assert len(parts) == -(-length // block_size)


@given(st.lists(shapes, min_size=1, max_size=5), configs)
def test_each_element_belongs_to_exactly_one_block(all_shapes, config):
    plans = [(index, plan(shape, config)) for index, shape in enumerate(all_shapes)]
    counts = [torch.zeros(p.matrix) for _, p in plans]
    for layout in stack_layouts(part for each in plans for part in whole(*each)):
        blocks = torch.zeros(layout.blocks, layout.height, layout.width)
        for member in layout.members:
            rows = blocks.narrow(0, member.offset, member.tile.blocks)
            member.tile.of_stack(rows).add_(1)
            member.tile.of_matrix(counts[member.index]).add_(1)
        assert (blocks == 1).all(), "members overlap in the stack"
    for count, shape in zip(counts, all_shapes, strict=True):
        assert (count == 1).all()
        assert count.numel() == torch.Size(shape).numel()


@given(st.integers(2, 30), st.integers(2, 30), st.integers(2, 8))
def test_a_tile_reads_the_same_block_from_matrix_and_stack(height, width, block_size):
    matrix = torch.arange(height * width).view(height, width)
    config = BlockingConfig(block_size=block_size, max_aspect=1e9)
    for tile in plan((height, width), config).tiles:
        blocks = torch.empty(tile.blocks, tile.height, tile.width, dtype=matrix.dtype)
        tile.of_stack(blocks).copy_(tile.of_matrix(matrix))
        last_row = tile.row + (tile.rows - 1) * tile.height
        last_column = tile.column + (tile.columns - 1) * tile.width
        expected = matrix[last_row : last_row + tile.height, last_column : last_column + tile.width]
        assert torch.equal(blocks[-1], expected)


@pytest.mark.parametrize(
    ("shape", "reason"),
    [
        ((), "scalar"),
        ((5,), "vector"),
        ((1, 9), "vector"),
        ((9, 1, 1), "vector"),
        ((101, 8), "a dimension over max_dim=100"),
        ((4, 5), ""),
    ],
)
def test_routes(shape, reason):
    assert plan(shape, BlockingConfig(max_dim=100)).reason == reason


def test_a_slender_block_is_preconditioned_on_its_short_side_and_not_cut_along_the_long_one():
    config = BlockingConfig(block_size=64, max_aspect=8.0)
    (tile,) = plan((1000, 4), config).tiles
    assert (tile.height, tile.width, tile.sides) == (1000, 4, (False, True))
    assert all(tile.sides == (True, True) for tile in plan((1000, 8), config).tiles)


def test_convolutions_merge_all_but_the_first_dimension():
    assert plan((16, 3, 5, 5), BlockingConfig()).matrix == (16, 75)


@pytest.mark.parametrize(
    ("options", "name"),
    [
        ({"block_size": 1}, "block_size"),
        ({"block_size": 2.5}, "block_size"),
        ({"max_dim": 0}, "max_dim"),
        ({"max_aspect": 0.5}, "max_aspect"),
    ],
)
def test_bad_options_are_named(options, name):
    with pytest.raises(ValueError, match=name):
        BlockingConfig(**options)
