"""JAX's version solves the problems of PyTorch's zoo, to the same bounds."""

import jax.numpy as jnp
import pytest
import torch

from submission.shampoo_jax import kl_shampoo, shampoo, soap
from tests.submission.shampoo import zoo
from tests.submission.shampoo.test_convergence import HALF, STEPS, Variant
from tests.submission.shampoo_jax.streams import stepping

RATE = 0.3
BASE = {"b1": 0.9, "b2": 0.9, "refresh_interval": 5}
VARIANTS = {
    "shampoo": (shampoo, HALF),
    "soap": (soap, Variant.bounds),
    "kl_shampoo": (kl_shampoo, Variant.bounds),
}


@pytest.mark.parametrize(("make", "bounds"), VARIANTS.values(), ids=VARIANTS)
def test_every_method_solves_every_problem(make, bounds):
    problems = [build() for build in zoo.ZOO.values()]
    targets = [target for problem in problems for target in problem.parameters]
    optimizer = make(lambda count: RATE * (1 - count / STEPS), **BASE)
    step = stepping(optimizer)
    weights = [jnp.asarray(target.detach().numpy().copy()) for target in targets]
    state = optimizer.init(weights)
    start = losses(problems).detach()
    for _ in range(STEPS):
        grads = torch.autograd.grad(losses(problems).sum(), targets)
        weights, state = step(weights, state, [jnp.asarray(grad.numpy()) for grad in grads])
        with torch.no_grad():
            for target, weight in zip(targets, weights, strict=True):
                target.copy_(torch.as_tensor(weight.tolist()))
    left = (losses(problems).detach() / start).tolist()
    rows = zip(zoo.ZOO, left, bounds, strict=True)
    assert not [(name, value, bound) for name, value, bound in rows if not value <= bound]


def losses(problems):
    return torch.stack([problem.loss() for problem in problems])
