"""Every variant of the optimizer on every problem of the zoo.

Each bound is one that broken optimizers miss. On all problems: SGD at the same learning rate, and
directions that are rotated back the wrong way. On the quadratic also: Adam, roots of the wrong
sign or none, and bases that are wrong or turn without the first moment.
"""

import functools
import sys
from pathlib import Path

import pytest
import torch

from submission.shampoo import Shampoo, algoperf_winner, kl_shampoo, shampoo, soap

sys.path.insert(0, str(Path(__file__).parent))
import zoo  # noqa: E402

STEPS = 100
BASE = {"lr": 0.3, "betas": (0.9, 0.9), "refresh_interval": 5}
MOMENTUM = {"momentum": 0.9, "betas": (0.0, 0.9)}
SHORT = {"factor_dtype": torch.bfloat16, "root_dtype": torch.bfloat16}
WINNERS = {"betas": (0.9, 0.9), "refresh_interval": 5}

# What may be left of each problem's loss.
BOUNDS = (5e-5, 2e-4, 4e-2, 1.5e-2)
VARIANTS = {
    **{
        f"{method} {options or ''}": (functools.partial(Shampoo, method=method), options)
        for methods, options in [
            (("shampoo", "soap", "kl_shampoo"), {}),
            (("shampoo", "soap", "kl_shampoo"), {"nesterov": True}),
            (("shampoo", "kl_shampoo"), {**MOMENTUM, "lr": 0.03}),
            (("soap",), {**MOMENTUM, "lr": 0.03, "nesterov": True}),
            (("soap", "kl_shampoo"), {"grafting": "adam"}),
            (("shampoo",), {"grafting": "rmsprop", "lr": 0.1, "nesterov": True}),
            (("shampoo",), {"grafting": None, "lr": 0.5}),
            (("kl_shampoo",), {"block_size": 8}),
            (("shampoo", "soap"), {"block_size": 8, "grafting": "adam", "grafting_scope": "layer"}),
            (("shampoo",), {"max_aspect": 1.0}),
            (("soap", "kl_shampoo"), {"max_dim": 10, "oversize": "one_sided"}),
            (("shampoo",), {"exponent": 0.4}),
            (("shampoo",), {"root_solver": "coupled_newton", "exponent": 1 / 3}),
            (("shampoo",), {"root_solver": "newton_denman_beavers"}),
            (
                ("shampoo",),
                {"root_solver": "newton_denman_beavers", "exponent": 0.5, "damping": 1e-4},
            ),
            (("soap", "kl_shampoo"), {"basis_solver": "qr"}),
            (("soap", "kl_shampoo"), {"basis_solver": "cholesky_qr"}),
            (("shampoo", "soap"), {"refresh": "together"}),
            (("shampoo",), {"refresh_interval": 1}),
            (("soap", "kl_shampoo"), {"refresh_interval": 20}),
            (("shampoo", "soap", "kl_shampoo"), {"refresh_tolerance": 0.1}),
            (("shampoo", "soap", "kl_shampoo"), {"overlap": True}),
            (("shampoo", "kl_shampoo"), {"factor_interval": 3}),
            (("kl_shampoo",), {"weight_decay": 1e-3}),
            (("soap",), {"weight_decay": 1e-3, "decay_mode": "independent"}),
            (("shampoo",), {"weight_decay": 1e-5, "decay_mode": "l2"}),
            (("shampoo",), {"averaging": "ema", "averaging_decay": 0.8}),
            (
                ("shampoo", "kl_shampoo"),
                {"averaging": "schedule_free", "betas": (0.0, 0.9), "lr": 0.5},
            ),
            (("shampoo", "soap", "kl_shampoo"), SHORT),
        ]
        for method in methods
    },
    "shampoo preset": (shampoo, {}),
    "soap preset": (soap, {}),
    "kl_shampoo preset": (kl_shampoo, {}),
    "algoperf_winner 1": (functools.partial(algoperf_winner, point=1), WINNERS),
    "algoperf_winner 4": (functools.partial(algoperf_winner, point=4), {**WINNERS, "lr": 0.15}),
}


def left_over(make, dtype=torch.float32):
    """What is left of each problem's loss after steps at rates that fall to zero."""
    problems = [build() for build in zoo.ZOO.values()]
    start = [problem.excess() for problem in problems]
    targets = [target for problem in problems for target in problem.parameters]
    weights = [torch.nn.Parameter(target.detach().to(dtype)) for target in targets]
    optimizer = make(weights)
    rate = optimizer.param_groups[0]["lr"]
    for step in range(STEPS):
        optimizer.param_groups[0]["lr"] = rate * (1 - step / STEPS)
        loss = torch.stack([problem.loss() for problem in problems]).sum()
        for weight, grad in zip(weights, torch.autograd.grad(loss, targets), strict=True):
            weight.grad = grad.to(dtype)
        optimizer.step()
        with torch.no_grad():
            torch._foreach_copy_(targets, weights)
    optimizer.eval()
    assert all(weight.isfinite().all() for weight in weights)
    with torch.no_grad():
        torch._foreach_copy_(targets, weights)
    return [problem.excess() / first for problem, first in zip(problems, start, strict=True)]


def missed(found, bounds):
    return {
        name: f"{left:.1e} of the loss, at most {bound:.1e}"
        for name, left, bound in zip(zoo.ZOO, found, bounds, strict=True)
        if not left <= bound
    }


@pytest.mark.parametrize("name", VARIANTS)
def test_every_variant_solves_every_problem(name):
    make, options = VARIANTS[name]
    assert not missed(left_over(functools.partial(make, **{**BASE, **options})), BOUNDS)


@pytest.mark.parametrize(
    ("method", "options", "dtype", "bounds"),
    [
        # SGD's magnitude is no match for the quadratic's condition, and AdaGrad's shrinks: they
        # themselves leave 1.7e-2 and 6e-3 of it.
        (
            "shampoo",
            {**MOMENTUM, "grafting": "sgd", "nesterov": True},
            torch.float32,
            (1.2e-2, 1e-3, 0.1, 5e-2),
        ),
        (
            "shampoo",
            {"grafting": "adagrad", "lr": 0.5},
            torch.float32,
            (1e-3, 5e-4, 6e-2, 2e-2),
        ),
        (
            "soap",
            {"averaging": "schedule_free", "betas": (0.0, 0.9), "lr": 0.5},
            torch.float32,
            (1e-3, 2e-4, 6e-2, 1.5e-2),
        ),
        ("shampoo", {}, torch.float64, BOUNDS),
        # Weights of 8 bits are 1/500 off.
        ("shampoo", {}, torch.bfloat16, BOUNDS),
        ("soap", {}, torch.bfloat16, BOUNDS),
        ("kl_shampoo", {}, torch.float16, BOUNDS),
        ("shampoo", {"averaging": "schedule_free","betas": (0.0, 0.9), "lr": 0.5}, torch.bfloat16, BOUNDS),
    ],
    ids=str,
)
def test_some_variants_solve_them_less_well(method, options, dtype, bounds):
    make = functools.partial(Shampoo, method=method, **{**BASE, **options})
    assert not missed(left_over(make, dtype), bounds)
