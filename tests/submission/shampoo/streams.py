"""Parameters, gradients, option sets and copies that the optimizer's tests share."""

import copy
import io
import pickle

import torch

from submission.shampoo import Shampoo

OPTIONS = {
    "lr": 0.01,
    "betas": (0.9, 0.99),
    "eps": 1e-8,
    "weight_decay": 0.1,
    "block_size": 5,
    "max_dim": 64,
    "max_aspect": 4.0,
    "exponent": None,
    "refresh": "together",
    "damping": 1e-3,
    "refresh_interval": 3,
    "nesterov": False,
}
SHAPES = [(7,), (), (12, 9), (11, 2), (3, 4, 2, 2), (70, 3), (5, 1), (10, 10), (30, 2)]


def parameters(shapes=SHAPES, dtype=torch.float64, seed=0):
    generator = torch.Generator().manual_seed(seed)
    draw = (torch.randn(shape, generator=generator, dtype=torch.float64) for shape in shapes)
    return [torch.nn.Parameter(value.to(dtype)) for value in draw]


def set_grads(seed, *lists):
    """Gives the parameters of each list the same random gradients."""
    generator = torch.Generator().manual_seed(seed)
    for row in zip(*lists, strict=True):
        grad = torch.randn(row[0].shape, generator=generator, dtype=torch.float64)
        for parameter in row:
            parameter.grad = grad.to(parameter)


def run(optimizer, weights, steps, first_seed=0):
    for seed in range(first_seed, first_seed + steps):
        set_grads(seed, weights)
        optimizer.step()


def after_steps(steps, shapes=SHAPES, dtype=torch.float64, **options):
    """An optimizer after these steps, with `OPTIONS` but for those given, and its parameters."""
    weights = parameters(shapes, dtype)
    optimizer = Shampoo(weights, **{**OPTIONS, **options})
    run(optimizer, weights, steps)
    return optimizer, weights


def through_a_file(state_dict):
    buffer = io.BytesIO()
    torch.save(state_dict, buffer)
    buffer.seek(0)
    return torch.load(buffer, weights_only=True)


def travelled(optimizer, weights, how):
    """Another optimizer with copies of these weights and state, and the copies."""
    if how == "torch.save":
        copies = [torch.nn.Parameter(weight.detach().clone()) for weight in weights]
        other = Shampoo(copies)
        other.load_state_dict(through_a_file(optimizer.state_dict()))
        return other, copies
    other = {"deepcopy": copy.deepcopy, "pickle": lambda o: pickle.loads(pickle.dumps(o))}[how](
        optimizer
    )
    return other, other.param_groups[0]["params"]


def assert_equal(left, right):
    """Bit for bit, and of the same dtypes."""
    for a, b in zip(left, right, strict=True):
        assert a.dtype == b.dtype
        assert torch.equal(a, b)


# One of every kind of state and of every way through a step.
VARIANTS = {
    "shampoo": {},
    "soap": {"method": "soap"},
    "soap, qr": {"method": "soap", "basis_solver": "qr"},
    "soap, cholesky_qr": {"method": "soap", "basis_solver": "cholesky_qr"},
    "soap, grafted": {"method": "soap", "grafting": "adam"},
    "kl_shampoo": {"method": "kl_shampoo"},
    # Every second: a refresh of one gradient's factor finds any basis of its null space.
    "no grafting": {"grafting": None},
    "sgd, momentum": {"grafting": "sgd", "momentum": 0.5, "betas": (0.0, 0.99)},
    "adagrad": {"grafting": "adagrad", "decay_mode": "l2"},
    "rmsprop, nesterov": {"grafting": "rmsprop", "nesterov": True, "momentum": 0.5},
    "products": {"root_solver": "products", "decay_mode": "independent"},
    "products, 1/3": {"root_solver": "products", "exponent": 1 / 3},
    "staggered": {"refresh": "staggered"},
    "overlap": {"refresh": "staggered", "overlap": True},
    "overlap soap": {"method": "soap", "overlap": True},
    "bfloat16 state": {"factor_dtype": torch.bfloat16, "root_dtype": torch.bfloat16},
    "one-sided": {"oversize": "one_sided", "max_dim": 11, "table_aspect": 1.0},
    "ema": {"averaging": "ema"},
    "schedule_free": {"averaging": "schedule_free", "betas": (0.0, 0.99)},
}
