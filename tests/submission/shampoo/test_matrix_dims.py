"""Which dimensions are matrices, what is a table, and stacks that move as lists of matrices do."""

import pytest
import torch
from torch import nn

from submission.plan.blocking import matrices_of, plan_parameter
from submission.plan.options import BlockingConfig
from submission.shampoo import Shampoo, parameter_groups
from tests.submission.shampoo.streams import OPTIONS, VARIANTS, parameters, run, set_grads

CONVOLUTIONS = [
    (64, 3, 7, 7),
    (6, 1, 5, 5),
    (3, 64, 7, 7),
    (512, 1, 3, 3),
    (32, 16, 3, 3, 3),
    (512, 256, 2, 2),
    (512, 512, 10),
    (384, 80, 3),
    (512, 1, 32),
    (768, 3, 16, 16),
    (8, 3, 16, 16),
    (768, 3, 32, 32),
    (768, 48, 128),
    (1, 64, 3, 3),
]
STACKS = {
    (8, 32, 48): (8, 32, 48),
    (8, 4096, 14336): (8, 4096, 14336),
    (256, 7168, 2048): (256, 7168, 2048),
    (12, 64, 768): (12, 64, 768),
    (128, 512, 128): (128, 512, 128),
    (3, 768, 768): (3, 768, 768),
    (32, 8, 4096, 14336): (256, 4096, 14336),
    (1, 197, 768): (1, 197, 768),
    (1, 1, 768): (1, 1, 768),
    (8, 1, 4096): (8, 1, 4096),
}


@pytest.mark.parametrize("shape", CONVOLUTIONS)
def test_a_tensor_with_a_kernel_is_one_matrix(shape):
    merged = 1, shape[0], torch.Size(shape).numel() // shape[0]
    assert matrices_of(shape, BlockingConfig()) == merged
    assert matrices_of(shape, BlockingConfig(matrix_dims="convolution")) == merged
    stacked = torch.Size(shape[:-2]).numel(), *shape[-2:]
    assert matrices_of(shape, BlockingConfig(matrix_dims="stack")) == stacked


@pytest.mark.parametrize("shape", STACKS)
def test_all_other_tensors_are_stacks_of_their_last_two_dimensions(shape):
    assert matrices_of(shape, BlockingConfig()) == STACKS[shape]
    assert matrices_of(shape, BlockingConfig(matrix_dims="stack")) == STACKS[shape]
    merged = 1, shape[0], torch.Size(shape).numel() // shape[0]
    assert matrices_of(shape, BlockingConfig(matrix_dims="convolution")) == merged


@pytest.mark.parametrize(
    ("shape", "options", "is_table"),
    [
        ((50257, 768), {}, True),
        ((768, 50257), {}, True),
        ((128256, 8192), {}, True),
        ((28672, 8192), {}, False),
        ((8192, 28672), {}, False),
        ((24576, 3072), {}, False),
        ((20000, 20000), {}, False),
        ((8, 14336, 4096), {}, False),
        ((4, 50257, 768), {}, True),
        ((53248, 3072), {}, True),
        ((53248, 3072), {"split": (26624, 26624)}, True),
        ((49152, 3072), {"split": (24576, 24576)}, False),
        ((10, 4), {"table": True}, True),
        ((50257, 768), {"table": False}, False),
        ((28672, 8192), {"table_aspect": 2.0}, True),
        ((28672, 8192), {"max_dim": 32768, "table_aspect": 2.0}, False),
    ],
)
def test_a_table_is_told_by_its_shape_or_by_the_user(shape, options, is_table):
    plan = plan_parameter(shape, BlockingConfig(**options))
    assert plan.reason.startswith("table") == is_table
    assert all(any(grid.sides) != is_table for grid in plan.grids)


@pytest.mark.parametrize("shape", [(60, 4), (4, 60), (3, 60, 4), (3, 4, 60)])
def test_the_short_side_of_a_table_may_have_a_factor(shape):
    config = BlockingConfig(table=True, oversize="one_sided", block_size=8, matrix_dims="stack")
    plan = plan_parameter(shape, config)
    is_tall = shape[-2] == 60
    assert {grid.sides for grid in plan.grids} == {(not is_tall, is_tall)}
    assert sum(grid.elements for grid in plan.grids) == torch.Size(shape).numel()


def listed(weights, pieces):
    """The pieces of each weight as parameters of their own."""
    return [nn.Parameter(x.detach().clone()) for weight in weights for x in pieces(weight)]


def move_alike(optimizer, weights, list_optimizer, listing, pieces):
    """Steps on random gradients of the weights, and on the pieces of these of the listed ones."""
    for seed in range(9):
        set_grads(seed, weights)
        grads = [grad for weight in weights for grad in pieces(weight.grad)]
        for weight, grad in zip(listing, grads, strict=True):
            weight.grad = grad.clone()
        optimizer.step()
        list_optimizer.step()


def last_two(weight):
    return weight.reshape(-1, *weight.shape[-2:]) if weight.dim() > 2 else [weight]


# Unlike ones in one optimizer: cut evenly, unevenly, in both directions; vectors; a matrix.
SHAPES = [(3, 10, 5), (4, 7, 23), (2, 2, 12, 18), (3, 1, 18), (5, 4), (6,)]


@pytest.mark.parametrize("name", VARIANTS)
def test_a_stack_moves_as_a_list_of_its_matrices(name):
    options = {**OPTIONS, **VARIANTS[name], "matrix_dims": "stack"}
    stacked = parameters(SHAPES)
    listing = listed(stacked, last_two)
    stack_optimizer, list_optimizer = Shampoo(stacked, **options), Shampoo(listing, **options)
    move_alike(stack_optimizer, stacked, list_optimizer, listing, last_two)
    expected = torch.cat([weight.detach().flatten() for weight in listing])
    result = torch.cat([weight.detach().flatten() for weight in stacked])
    assert (result - expected).abs().max() <= 1e-12 * expected.abs().max()


@pytest.mark.parametrize("method", ["shampoo", "soap", "kl_shampoo"])
@pytest.mark.parametrize(
    ("shape", "split"),
    [((18, 6), (6, 6, 6)), ((16, 6), (8, 4, 4)), ((12, 2, 3, 3), (6, 6)), ((3, 12, 17), (5, 7))],
)
def test_a_fused_matrix_moves_as_a_list_of_its_parts(shape, split, method):
    options = {**OPTIONS, "method": method, "refresh": "staggered"}
    fused = parameters([shape, (shape[0],)])
    dimension = 1 if len(shape) == 3 else 0

    def parts(weight):
        return weight.split(split, dim=dimension) if weight.dim() > 1 else [weight]

    listing = listed(fused, parts)
    fused_optimizer = Shampoo(fused, **options, split=split)
    list_optimizer = Shampoo(listing, **{**options, "refresh": "together"})
    fused_optimizer.param_groups[0]["refresh"] = "together"
    move_alike(fused_optimizer, fused, list_optimizer, listing, parts)
    fused_parts = [part for weight in fused for part in parts(weight.detach())]
    for part, weight in zip(fused_parts, listing, strict=True):
        assert (part - weight).abs().max() <= 1e-12


def test_state_of_a_version_without_these_options_goes_on_with_its_blocks():
    """A stack was then one matrix, as a convolution is, and all that was over max_dim a table."""
    options = {**OPTIONS, "max_dim": 16}
    shapes = [(3, 10, 4), (20, 12), (6,)]
    old, new = parameters(shapes), parameters(shapes)
    merged = {"matrix_dims": "convolution", "table_aspect": 1.0}
    first, second = Shampoo(old, **options, **merged), Shampoo(new, **options)
    run(first, old, 4)
    saved = first.state_dict()
    for name in ("matrix_dims", "split", "table", "table_aspect"):
        del saved["param_groups"][0][name]
    for a, b in zip(new, old, strict=True):
        a.data.copy_(b.data)
    second.load_state_dict(saved)
    run(first, old, 4, first_seed=4)
    run(second, new, 4, first_seed=4)
    for a, b in zip(new, old, strict=True):
        assert torch.equal(a, b)


class Tied(nn.Module):
    def __init__(self):
        super().__init__()
        self.embedding = nn.Embedding(11, 8)
        self.attention = nn.MultiheadAttention(8, 2)
        self.position = nn.utils.parametrizations.weight_norm(nn.Conv1d(8, 8, 20, groups=2), dim=2)
        self.depthwise = nn.Conv2d(8, 8, 3, groups=8)
        self.up = nn.ConvTranspose2d(8, 6, 2, groups=2)
        self.pair = nn.Bilinear(8, 5, 40)
        self.head = nn.Linear(8, 11, bias=False)
        self.head.weight = self.embedding.weight


def test_modules_say_what_their_parameters_are():
    model = Tied()
    groups = parameter_groups(model)
    keys = ("table", "matrix_dims", "split")
    told = {
        name: {key: group[key] for key in keys if key in group}
        for group in groups
        for name in group["param_names"]
    }
    assert told.keys() == {name for name, _ in model.named_parameters()}
    assert {name: options for name, options in told.items() if options} == {
        "embedding.weight": {"table": True},
        "attention.in_proj_weight": {"split": (8, 8, 8)},
        "position.parametrizations.weight.original1": {
            "matrix_dims": "convolution",
            "split": (4, 4),
        },
        "up.weight": {"split": (4, 4)},
        "pair.weight": {"matrix_dims": "stack"},
    }
    optimizer = Shampoo(groups)
    assert "embedding.weight [11, 8]: AdamW (table)" in repr(optimizer)
    assert "attention.in_proj_weight [24, 8]: Shampoo, 3 x [8, 8]" in repr(optimizer)
    assert "pair.weight [40, 8, 5]: Shampoo, 40 x [8, 5]" in repr(optimizer)
    for parameter in model.parameters():
        parameter.grad = torch.ones_like(parameter)
    optimizer.step()
    assert sum(len(group["params"]) for group in groups) == len(list(model.parameters()))
