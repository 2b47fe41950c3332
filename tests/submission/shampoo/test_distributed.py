"""Several gloo ranks take the steps of one device."""

import functools

import pytest
import torch
import torch.distributed as dist
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.tensor import Replicate, Shard, distribute_tensor

from submission.shampoo import Shampoo
from tests.submission.shampoo import ranks
from tests.submission.shampoo.streams import OPTIONS, VARIANTS, parameters

SHAPES = [(7,), (12, 9), (11, 2), (3, 4, 2, 2), (70, 3), (5, 1), (1, 5), (10, 10), (30, 2)]
STEPS = 25
BY_ROWS, SPREAD = [Shard(0)], [Replicate(), Shard(0)]


def gradients(step, shapes=SHAPES):
    generator = torch.Generator().manual_seed(step)
    return [torch.randn(shape, generator=generator, dtype=torch.float64) for shape in shapes]


def laid_out(mode, tensors):
    """The tensors as parameters that lie on the ranks as under DDP, FSDP2 or HSDP."""
    world = dist.get_world_size() if dist.is_initialized() else 1
    if mode in ("one", "ddp"):
        return [torch.nn.Parameter(tensor.clone()) for tensor in tensors]
    if mode == "fsdp":
        mesh, places = init_device_mesh("cpu", (world,)), BY_ROWS
    else:
        mesh = init_device_mesh("cpu", (2, world // 2), mesh_dim_names=("copies", "rows"))
        places = SPREAD
    if mode == "columns":  # tensor parallel within data parallel, the fallback
        return [
            torch.nn.Parameter(distribute_tensor(t, mesh, [Shard(0), Shard(t.dim() - 1)]))
            for t in tensors
        ]
    return [torch.nn.Parameter(distribute_tensor(t, mesh, places)) for t in tensors]


def like(parameter, tensor):
    tensor = tensor.to(parameter.dtype)
    if not hasattr(parameter, "device_mesh"):
        return tensor
    return distribute_tensor(tensor, parameter.device_mesh, parameter.placements)


def full(parameter):
    parameter = parameter.detach()
    return (parameter.full_tensor() if hasattr(parameter, "device_mesh") else parameter).clone()


def weights_after(mode, options, steps=STEPS, dtype=torch.float32, absent=(), spoilt=()):
    """The weights after some steps of the stream, as every rank sees them."""
    weights = laid_out(mode, [p.detach() for p in parameters(SHAPES, dtype)])
    optimizer = Shampoo(weights, **{**OPTIONS, **options})
    for step in range(steps):
        for index, (weight, grad) in enumerate(zip(weights, gradients(step), strict=True)):
            weight.grad = None if (step, index) in absent else like(weight, grad)
            if (step, index) in spoilt:
                weight.grad = like(weight, grad * torch.nan)
        optimizer.step()
    return [full(weight) for weight in weights]


def on_ranks(rank, mode, *args):
    del rank
    return weights_after(mode, *args)


def worst(found, expected):
    pairs = zip(found, expected, strict=True)
    return max(float((a - b).norm() / b.norm()) for a, b in pairs)


# The whole matrix at four ranks, what is most unlike in it at other numbers of them.
FEW = ("shampoo", "soap", "kl_shampoo", "staggered", "adagrad, layer", "ema")
MATRIX = [
    *(("ddp", 4, tuple(VARIANTS)), ("fsdp", 4, tuple(VARIANTS)), ("hsdp", 4, tuple(VARIANTS))),
    *(("ddp", 1, FEW), ("fsdp", 1, FEW), ("ddp", 2, FEW), ("fsdp", 2, FEW), ("ddp", 8, FEW)),
    *(("fsdp", 8, FEW), ("hsdp", 8, FEW), ("columns", 4, FEW)),
]
# Stochastic rounding draws other numbers for a block that lies elsewhere in its stack.
TOLERANCES = {"bfloat16 state": 1e-2}


@functools.cache
def on_one_device(name):
    return weights_after("one", VARIANTS[name])


def several(rank, mode, names):
    del rank
    return {name: weights_after(mode, VARIANTS[name]) for name in names}


@pytest.mark.parametrize(("mode", "world", "names"), MATRIX)
def test_takes_the_steps_of_one_device(mode, world, names):
    found = ranks.run(world, several, mode, names)
    errors = {name: max(worst(each[name], on_one_device(name)) for each in found) for name in names}
    assert not {n: e for n, e in errors.items() if not e <= TOLERANCES.get(n, 1e-6)}
