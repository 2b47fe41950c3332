"""What an optimizer keeps of a parameter group beside what the group's dict holds."""

import dataclasses
import operator
from collections.abc import Mapping
from typing import Any

from torch import Tensor

from .averaging import Averager
from .config import ShampooConfig, StateConfig, check_lr
from .layout import Layout

OPTIONS = tuple(field.name for field in dataclasses.fields(ShampooConfig))
FIXED = tuple(field.name for field in dataclasses.fields(StateConfig))


class Kept:
    """Stacks, averages and validated options of one parameter group.

    Attributes:
      layout: its stacks, None before its first step.
      parameters: those in the stacks.
      averager: what keeps averages of its weights, if anything has been asked for.
    """

    def __init__(self) -> None:
        self.layout: Layout | None = None
        self.parameters: list[Tensor] = []
        self.averager: Averager | None = None
        self._validated: list[Any] = []
        self._config: StateConfig | None = None

    def is_lost(self, state: Mapping[Tensor, Any]) -> bool:
        """Whether there are stacks, but `Optimizer.state` has no entry of theirs any more."""
        return bool(self.parameters) and all(
            state.get(parameter) in (None, {}) for parameter in self.parameters
        )

    def config(self, group: Mapping[str, Any]) -> StateConfig:
        """The fixed options, once all options are validated: again only when one has changed.

        Raises:
          ValueError: if an option is out of range.
        """
        check_lr(group["lr"])
        # Compared by identity: until they are validated, they may be anything, tensors for one.
        values = [group[name] for name in OPTIONS if name != "lr"]
        values.extend(group["betas"])
        last = self._validated
        if self._config is None or not (
            len(values) == len(last) and all(map(operator.is_, values, last))
        ):
            ShampooConfig(**{name: group[name] for name in OPTIONS})
            self._config = StateConfig(**{name: group[name] for name in FIXED})
            self._validated = values
        return self._config
