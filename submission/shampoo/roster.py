"""Which members of a stack take a step; in most training the same at every step."""

from collections.abc import Container
from functools import cached_property

from torch import Tensor

from .stacks import Stack


class Roster:
    """The members of a stack that take a step, and their views of what it holds.

    Args:
      stack: whose members.
      indices: the parameters that have a gradient.

    Attributes:
      present: for each member of the stack, whether it takes the step.
      members: those that do.
    """

    def __init__(self, stack: Stack, indices: Container[int]) -> None:
        self.stack = stack
        self.present = [member.index in indices for member in stack.layout.parts]
        self.members = [member for member in stack.layout.parts if member.index in indices]

    @cached_property
    def views(self) -> list[Tensor]:
        """Their `Stack.views`."""
        return [view for view, here in zip(self.stack.views, self.present, strict=True) if here]

    @cached_property
    def adam(self) -> tuple[list[Tensor], list[Tensor], list[Tensor]]:
        """First moments, second moments and step counts of a stack that Adam alone moves.

        Moments are as matrices, step counts scalars.
        """
        stack = self.stack
        assert stack.diagonal is not None and stack.diagonal.second is not None
        first, second = (
            [
                state.narrow(0, member.offset, member.grid.blocks).view(member.matrix_shape)
                for member in self.members
            ]
            for state in (stack.ensure_first(), stack.diagonal.second)
        )
        return first, second, [stack.steps[member.offset, 0, 0] for member in self.members]
