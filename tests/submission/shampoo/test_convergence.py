"""Every variant of the optimizer on every problem of the zoo.

Each bound is one that broken optimizers miss. On all problems: SGD at the same learning rate and
momentum (but for two points of the winning entry, and the preset on the factorisation), and
directions that are rotated back the wrong way. On the quadratic also: the diagonal method alone,
roots of the wrong sign or none, and bases that are wrong, none, or turn without the first moment.

Rounding differs between instruction sets, and what is left of a loss with it: by 5 % mostly, by a
factor of 5 on the factorisation. Bounds are at least 1.4 times what AVX-512, AVX2 and SSE leave.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any

import pytest
import torch

from submission.shampoo import Shampoo, algoperf_winner, kl_shampoo, shampoo, soap
from tests.submission.shampoo import zoo

STEPS = 100
BASE = {"lr": 0.3, "betas": (0.9, 0.9), "refresh_interval": 5}
PRESETS = {
    "shampoo preset": shampoo,
    "soap preset": soap,
    "kl_shampoo preset": kl_shampoo,
    "algoperf_winner": algoperf_winner,
}
MOMENTUM = {"momentum": 0.9, "betas": (0.0, 0.9)}
SCHEDULE_FREE = {"averaging": "schedule_free", "betas": (0.0, 0.9), "lr": 0.5}
# Exponent 1/2 is slower on problems without noise, but faster than AdamW, which
# leaves 1.6e-4 of the quadratic.
HALF = (1.4e-4, 1e-3, 6e-2, 2e-2)
SHORT_STATE = {"factor_dtype": torch.bfloat16, "root_dtype": torch.bfloat16}


@dataclasses.dataclass(frozen=True)
class Variant:
    """One optimizer.

    Attributes:
      method: a method or a preset.
      options: besides `BASE`.
      dtype: of the weights.
      bounds: what may be left of the loss of each problem.
    """

    method: str
    options: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    dtype: torch.dtype = torch.float32
    bounds: tuple[float, ...] = (5e-5, 2e-4, 4e-2, 2e-2)

    def __str__(self) -> str:
        dtype = "" if self.dtype == torch.float32 else f" {self.dtype}"
        return f"{self.method} {self.options or ''}{dtype}"

    def make(self, weights):
        # Bounds are those of 1/4, which all variants can have.
        exponent = {"exponent": None} if self.method == "shampoo" else {}
        options = {**BASE, **exponent, **self.options}
        if self.method in PRESETS:
            return PRESETS[self.method](weights, **options)
        return Shampoo(weights, method=self.method, **options)


VARIANTS = [
    Variant("shampoo"),
    Variant("shampoo", {"exponent": "auto"}, bounds=HALF),
    Variant("shampoo preset", bounds=(1e-4, 1e-2, 6e-2, 2e-2)),
    Variant("soap preset"),
    Variant("kl_shampoo preset"),
    # It whitens as the preset of Shampoo does, and is as slow on the second problem.
    Variant("soap", {"nesterov": True}, bounds=(5e-5, 1e-2, 4e-2, 2e-2)),
    Variant("kl_shampoo", {"nesterov": True}),
    Variant("shampoo", {**MOMENTUM, "lr": 0.03}),
    Variant(
        "soap",
        {**MOMENTUM, "lr": 0.03, "nesterov": True},
        bounds=(5e-5, 2e-4, 6e-2, 2e-2),
    ),
    # Graftings. SGD's magnitude is no match for the quadratic's condition, and AdaGrad's shrinks:
    # they themselves leave 1.8e-2 and 1.5e-2 of it.
    Variant("soap", {"grafting": "adam"}),
    Variant("kl_shampoo", {"grafting": "adam"}),
    Variant("shampoo", {"grafting": "rmsprop", "lr": 0.1, "nesterov": True}),
    Variant("shampoo", {"grafting": None, "lr": 0.5}),
    # Over six seeds it leaves 3.7e-4 to 1.5e-3 of the second problem, whose curvature changes.
    Variant("shampoo", {"grafting": "adagrad", "lr": 0.5}, bounds=(1e-3, 2e-3, 6e-2, 4e-2)),
    Variant("soap", {"grafting": "adam", "block_size": 8}),
    Variant(
        "algoperf_winner",
        {"point": 3, "lr": 0.3, **MOMENTUM},
        bounds=(1.2e-2, 1e-3, 0.1, 5e-2),
    ),
    Variant("algoperf_winner", {"point": 1}, bounds=(1e-6, 2e-4, 4e-2, 2e-2)),
    Variant("algoperf_winner", {"point": 4, "lr": 0.15}, bounds=(1e-4, 5e-3, 6e-2, 2e-2)),
    # Blocks and sides.
    Variant("kl_shampoo", {"block_size": 8}),
    Variant("shampoo", {"max_aspect": 1.0}),
    Variant("soap", {"table": True, "oversize": "one_sided"}),
    # Solvers.
    Variant("shampoo", {"exponent": 0.4}),
    Variant("shampoo", {"root_solver": "products", "exponent": 1 / 3}),
    Variant("shampoo", {"root_solver": "products"}),
    Variant("shampoo", {"root_solver": "products", "exponent": 0.5, "damping": 1e-4}),
    Variant("soap", {"basis_solver": "qr"}),
    Variant("soap", {"basis_solver": "cholesky_qr"}),
    Variant("kl_shampoo", {"basis_solver": "qr"}),
    # Refreshes.
    Variant("shampoo", {"refresh": "together"}),
    Variant("shampoo", {"refresh_interval": 1}),
    Variant("soap", {"refresh_interval": 20}),
    Variant("shampoo", {"overlap": True}),
    Variant("soap", {"overlap": True}),
    # Decay, averages, precision.
    Variant("kl_shampoo", {"weight_decay": 1e-3}),
    Variant("soap", {"weight_decay": 1e-3, "decay_mode": "independent"}),
    Variant("shampoo", {"weight_decay": 1e-5, "decay_mode": "l2"}),
    Variant("shampoo", {"averaging": "ema", "averaging_decay": 0.8}),
    Variant("shampoo", SCHEDULE_FREE, bounds=(1e-4, 2e-4, 6e-2, 2e-2)),
    Variant("soap", SCHEDULE_FREE, bounds=(1e-3, 2e-4, 8e-2, 2e-2)),
    Variant("shampoo", SHORT_STATE),
    Variant("soap", SHORT_STATE),
    Variant("kl_shampoo", SHORT_STATE),
    Variant("kl_shampoo", {"root_dtype": torch.bfloat16}),
    Variant("soap", dtype=torch.bfloat16),
    Variant("kl_shampoo", dtype=torch.float16),
    Variant("shampoo", SCHEDULE_FREE, torch.bfloat16, bounds=(1e-4, 2e-4, 6e-2, 2e-2)),
]


def left_over(variant, seed=0):
    """What is left of each problem's loss after steps at learning rates that fall to zero."""
    problems = [build(seed) for build in zoo.ZOO.values()]
    targets = [target for problem in problems for target in problem.parameters]
    weights = [torch.nn.Parameter(target.detach().to(variant.dtype)) for target in targets]
    optimizer = variant.make(weights)
    rate, start = optimizer.param_groups[0]["lr"], torch.ones(len(problems))
    for step in range(STEPS):
        optimizer.param_groups[0]["lr"] = rate * (1 - step / STEPS)
        losses = torch.stack([problem.loss() for problem in problems])
        start = losses.detach() if step == 0 else start
        for weight, grad in zip(weights, torch.autograd.grad(losses.sum(), targets), strict=True):
            weight.grad = grad.to(variant.dtype)
        optimizer.step()
        _copy(weights, targets)
    optimizer.eval()
    _copy(weights, targets)
    assert all(weight.isfinite().all() for weight in weights)
    return torch.stack([problem.loss().detach() for problem in problems]) / start


@torch.no_grad()
def _copy(sources, targets):
    torch._foreach_copy_(targets, sources)


@pytest.mark.parametrize("variant", VARIANTS, ids=str)
def test_every_variant_solves_every_problem(variant):
    rows = zip(zoo.ZOO, left_over(variant).tolist(), variant.bounds, strict=True)
    assert not [(name, value, bound) for name, value, bound in rows if not value <= bound]
