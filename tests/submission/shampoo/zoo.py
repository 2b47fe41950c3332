"""Tiny problems that tell good optimizers from broken ones; float32, seeded, full gradients."""

import dataclasses
from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional

Loss = Callable[[], Tensor]


@dataclasses.dataclass(frozen=True)
class Problem:
    """A loss whose infimum is 0.

    Attributes:
      parameters: where it starts; float32 tensors that require a gradient.
      loss: its value at the parameters as they are, a scalar.
    """

    parameters: list[Tensor]
    loss: Loss


def _generator(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def _rotation(size: int, generator: torch.Generator) -> Tensor:
    return torch.linalg.qr(torch.randn(size, size, generator=generator)).Q


def _spread(size: int, condition: float, generator: torch.Generator) -> Tensor:
    """A symmetric matrix with eigenvalues from 1 down to 1/condition, in no special directions."""
    basis = _rotation(size, generator)
    return (basis * torch.logspace(0, -torch.tensor(condition).log10(), size)) @ basis.T


def kronecker_quadratic(seed: int = 0) -> Problem:
    """tr(A X B X^T)/2 with X [12, 8]: a Hessian B (x) A of condition 1e4, along no axis."""
    generator = _generator(seed)
    left, right = _spread(12, 100.0, generator), _spread(8, 100.0, generator)
    weight = torch.randn(12, 8, generator=generator).requires_grad_()
    return Problem([weight], lambda: ((left @ weight @ right) * weight).sum() / 2)


def matrix_factorisation(seed: int = 0) -> Problem:
    """|U V^T - M|^2/2 with U and V [12, 8], M [12, 12] of rank 4 and condition 10."""
    generator = _generator(seed)
    scales = torch.logspace(0, -1, 4)
    target = (_rotation(12, generator)[:, :4] * scales) @ _rotation(12, generator)[:4]
    left = (torch.randn(12, 8, generator=generator) / 4).requires_grad_()
    right = (torch.randn(12, 8, generator=generator) / 4).requires_grad_()
    return Problem([left, right], lambda: (left @ right.T - target).square().sum() / 2)


def logistic_regression(seed: int = 0) -> Problem:
    """Cross-entropy of 96 labelled points in 12 classes: W [12, 8], b [12], correlated features."""
    generator = _generator(seed)
    features = 3 * torch.randn(96, 8, generator=generator) @ _spread(8, 30.0, generator)
    labels = (features @ torch.randn(8, 12, generator=generator)).argmax(dim=1)
    weight = torch.zeros(12, 8, requires_grad=True)
    bias = torch.zeros(12, requires_grad=True)
    return Problem(
        [weight, bias], lambda: functional.cross_entropy(features @ weight.T + bias, labels)
    )


def teacher_network(seed: int = 0) -> Problem:
    """Mean squared error of a network 8-12-8 on 96 points that another one of its kind labelled."""
    generator = _generator(seed)
    shapes = [(12, 8), (12,), (12, 8), (8,)]
    inputs = torch.randn(96, 8, generator=generator) @ _spread(8, 10.0, generator)

    def draw() -> list[Tensor]:
        return [torch.randn(shape, generator=generator) for shape in shapes]

    def outputs(weights: list[Tensor]) -> Tensor:
        hidden = torch.tanh(functional.linear(inputs, weights[0], weights[1]))
        return (hidden @ weights[2] + weights[3]) / 3

    targets = outputs(draw())
    student = [weight.requires_grad_() for weight in draw()]
    return Problem(student, lambda: functional.mse_loss(outputs(student), targets))


ZOO: dict[str, Callable[[], Problem]] = {
    "kronecker quadratic": kronecker_quadratic,
    "matrix factorisation": matrix_factorisation,
    "logistic regression": logistic_regression,
    "teacher network": teacher_network,
}
