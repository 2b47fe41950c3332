"""How gradients come into stacks, and updates out of them: on one device, by copying."""

import abc
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from .roster import Roster
from .stacks import matrix_view

# By parameter index, what this rank holds of gradients or weights, as matrices.
Matrices = Mapping[int, Tensor]


class Exchange(abc.ABC):
    """Serves the stacks of one group whose parameters lie alike, see `placement`.

    A step calls `take`, `ready` for each stack in order, and `give`.

    Attributes:
      bytes_per_step: what this rank sends to others in a step, known from shapes.
    """

    bytes_per_step = 0

    def take(
        self, rosters: Sequence[Roster], grads: Matrices, weights: Matrices, l2: float
    ) -> None:
        """Fills the buffers of the rosters' stacks, here from whole gradients.

        Members that take no step get zeros.

        Args:
          rosters: of those stacks that the exchange is to serve in this step.
          grads: parameters without a gradient are absent.
          weights: of all parameters.
          l2: so much of the weights is added to the gradients.
        """
        for roster in rosters:
            if not all(roster.present):
                roster.stack.buffer.zero_()
        targets = [view for roster in rosters for view in roster.views]
        if targets:
            torch._foreach_copy_(targets, regions(rosters, grads))
        if targets and l2 != 0:
            add_weights(targets, regions(rosters, weights), l2)

    def ready(  # noqa: B027 - for most there is nothing to do
        self, number: int, roster: Roster, weights: Matrices, decay: Tensor | None
    ) -> None:
        """A stack's buffer holds its updates; what is owned may be on its way.

        Args:
          number: counts the stacks, in order.
          roster: the stack's.
          weights, decay: as for `give`.
        """

    @abc.abstractmethod
    def give(
        self,
        rosters: Sequence[Roster],
        present: Collection[int],
        weights: Matrices,
        decay: Tensor | None,
    ) -> None:
        """Shrinks the weights by the fraction `decay`, and subtracts the updates.

        Args:
          rosters: as for `take`.
          present: the parameters that have a gradient here.
          weights: of all parameters, moved in place.
          decay: a scalar on the device; None for no decay.
        """


class Local(Exchange):
    """All on one device."""

    def give(
        self,
        rosters: Sequence[Roster],
        present: Collection[int],
        weights: Matrices,
        decay: Tensor | None,
    ) -> None:
        """See `Exchange.give`."""
        del present
        sources = [view for roster in rosters for view in roster.views]
        move(regions(rosters, weights), sources, decay)


def decay_of(finite: Tensor, options: Mapping[str, Any], dtype: torch.dtype) -> Tensor | None:
    """The fraction of the weights that a step takes away, 0 where it is skipped; None for none.

    Args:
      finite: a boolean scalar, whether the step is taken.
      options: the parameter group, with "shrink", the strength of decoupled decay.
    """
    if options["shrink"] == 0:
        return None
    return finite.to(dtype) * (options["lr"] * options["shrink"])


def add_weights(targets: list[Tensor], weights: Sequence[Tensor], l2: float) -> None:
    """Adds l2 times the weights to the gradients in `targets`."""
    exact = [weight.to(targets[0].dtype) for weight in weights]
    torch._foreach_add_(targets, exact, alpha=l2)


def move(targets: list[Tensor], sources: list[Tensor], decay: Tensor | None) -> None:
    """Shrinks `targets` by the fraction `decay`, a scalar, and subtracts `sources`."""
    if not targets:
        return
    if decay is not None:
        if targets[0].dtype == decay.dtype:
            torch._foreach_mul_(targets, 1 - decay)
        else:
            # Rounding 1 - decay to a short mantissa would give no decay, or far too much.
            add_decay(sources, targets, decay)
    torch._foreach_sub_(targets, sources)


def add_decay(updates: list[Tensor], weights: Sequence[Tensor], decay: Tensor) -> None:
    """Adds to updates the fraction of the weights that they lose."""
    if updates:
        exact = [weight.to(decay.dtype) for weight in weights]
        torch._foreach_add_(updates, torch._foreach_mul(exact, decay))


def regions(rosters: Sequence[Roster], matrices: Matrices) -> list[Tensor]:
    """The members' parts of their parameters, or of what has their shape, see `matrix_view`."""
    return [
        matrix_view(member.grid, matrices[member.index])
        for roster in rosters
        for member in roster.members
    ]
