"""What averages of iterates have in common; the modes are in files of their own.

A step of the plain optimizer is wrapped, without gradients:

    moving = averager.begin(weights)
    ...                                # the plain step, on `moving`
    averager.finish(weights, moving, finite, options)

State is in float32, or float64 for float64 weights. Kernels run on lists, so that their number does
not grow with the number of weights (long ones aside), and the host never waits for the device.
"""

import abc
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from .config import check_saved, state_dtype
from .devices import to_list
from .foreach import are_same
from .placement import local


class Averager(abc.ABC):
    """What EMA and schedule-free averaging have in common; see `averager`.

    A weight's average begins with its own first step, so weights that join late are welcome. A
    weight that takes no step keeps its average.

    Attributes:
      training: False between `eval` and `train`.
    """

    # Names of state that every weight has once it has taken a step: of its shape, and a float64
    # scalar that counts its steps in some way.
    _main: str
    _counter: str

    def __init__(self) -> None:
        self.training = True
        self._state: dict[Tensor, dict[str, Tensor]] = {}
        self._shards: dict[Tensor, Tensor] = {}  # of DTensors, as they were last seen
        # Never written to: weights that step together share one, whoever stays behind keeps it.
        self._counts: dict[tuple[torch.device, float], Tensor] = {}
        # The weights of the last step and their groups, whose members have one counter since then.
        self._grouped: tuple[Sequence[Tensor], list[list[Tensor]]] = (), []

    def shard(self, parameter: Tensor) -> Tensor:
        """What this rank holds of a parameter, the weight that all other methods take.

        Moving a module to another dtype or device gives a DTensor another one; its state follows.
        """
        shard = local(parameter)
        if shard is parameter:
            return shard
        known = self._shards.setdefault(parameter, shard)
        if known is not shard:
            self._shards[parameter] = shard
            if known in self._state:
                self._state[shard] = self._state.pop(known)
        return shard

    def check_training(self) -> None:
        """Raises RuntimeError in eval mode."""
        if not self.training:
            raise RuntimeError(
                "step() needs the weights that training moves: call the optimizer's train() "
                "after eval()."
            )

    def begin(self, weights: Sequence[Tensor]) -> list[Tensor]:
        """Starts a step and the averages of new weights.

        Args:
          weights: those that take the step; of any mixture of devices and floating dtypes.

        Returns:
          What the plain step must move, in place, in the order and shapes of `weights`.

        Raises:
          RuntimeError: in eval mode; nothing has changed then.
        """
        self.check_training()
        for weight in weights:
            if weight not in self._state:
                self._state[weight] = self._initial(weight)
        return self._begin(weights)

    @abc.abstractmethod
    def finish(
        self,
        weights: Sequence[Tensor],
        moving: Sequence[Tensor],
        finite: Tensor,
        options: Mapping[str, Any],
    ) -> None:
        """Ends a step: the weights, and what evaluation reads, are those after it.

        Args:
          weights: as given to `begin`.
          moving: what `begin` returned, moved by the plain step.
          finite: a boolean scalar on any device; where False, `moving` must be as it was, and the
            weights and all state stay as they were, but perhaps the sign of a zero.
          options: the parameter group, for "averaging_*" and, schedule-free, "lr" (a number or a
            scalar tensor).
        """

    @torch.no_grad()
    def eval(self, weights: Iterable[Tensor], options: Mapping[str, Any]) -> None:
        """Puts the averages into the weights, those that have one; `options` as in `finish`."""
        self.training = False
        averaged = []
        for weight in weights:
            state = self._state.get(weight)
            if state is not None and "train_weight" not in state:
                state["train_weight"] = weight.detach().clone()
                averaged.append(weight)
        for group in by_kind(averaged):
            torch._foreach_copy_(group, self._averages(group, options))

    @torch.no_grad()
    def train(self, weights: Iterable[Tensor]) -> None:
        """Puts back, bit for bit, the weights that `eval` replaced."""
        self.training = True
        for weight in weights:
            if "train_weight" in self._state.get(weight, ()):
                weight.copy_(self._state[weight].pop("train_weight"))

    def state_tensors(self, weight: Tensor) -> dict[str, Tensor]:
        """What must be saved for a weight, by name; live tensors, none if it took no step."""
        return dict(self._state.get(weight, {}))

    def load(self, weight: Tensor, saved: Mapping[str, Tensor]) -> None:
        """Takes copies of what `state_tensors` returned, from a dict that may hold more.

        With "train_weight" among it, the averager is in eval mode from now on. With none of it,
        the weight's average begins anew at its next step.

        Raises:
          ValueError: if something is missing or its shape does not fit; nothing has changed then.
        """
        self._grouped = (), []
        if self._main not in saved:
            self._state.pop(weight, None)
            return
        saved = {**self._absent(weight), **saved}
        state = self._initial(weight)
        for name, start in state.items():
            state[name] = _fitting(saved.get(name), start, name, weight)
        if "train_weight" in saved:
            state["train_weight"] = _fitting(saved["train_weight"], weight, "train_weight", weight)
            self.training = False
        count = to_list(state[self._counter])
        state[self._counter] = self._count(weight.device, float(count))
        self._state[weight] = state

    @abc.abstractmethod
    def _initial(self, weight: Tensor) -> dict[str, Tensor]:
        """State before a weight's first step."""

    @abc.abstractmethod
    def _absent(self, weight: Tensor) -> dict[str, Tensor]:
        """State that may be missing where it was saved, as it was then."""

    @abc.abstractmethod
    def _begin(self, weights: Sequence[Tensor]) -> list[Tensor]:
        """See `begin`; all weights have state."""

    @abc.abstractmethod
    def _averages(self, weights: list[Tensor], options: Mapping[str, Any]) -> list[Tensor]:
        """What evaluation reads, for weights of one device and dtype."""

    def _column(self, weights: Iterable[Tensor], name: str) -> list[Tensor]:
        return [self._state[weight][name] for weight in weights]

    def _count(self, device: torch.device, value: float) -> Tensor:
        key = (device, value)
        if key not in self._counts:
            self._counts[key] = torch.full((), value, dtype=torch.float64, device=device)
        return self._counts[key]

    def _by_count(self, weights: Sequence[Tensor]) -> list[list[Tensor]]:
        """Groups of one device, dtype and counter, which is the first weight's, too."""
        if not are_same(weights, self._grouped[0]):
            groups = by_kind(weights, lambda weight: id(self._state[weight][self._counter]))
            self._grouped = tuple(weights), groups
        return self._grouped[1]

    def _advance(self, weights: Iterable[Tensor], count: Tensor) -> None:
        for weight in weights:
            self._state[weight][self._counter] = count


def by_kind(
    weights: Iterable[Tensor], key: Callable[[Tensor], object] = lambda weight: None
) -> list[list[Tensor]]:
    """Groups that list kernels can take: of one device, dtype and `key`."""
    groups: defaultdict[object, list[Tensor]] = defaultdict(list)
    for weight in weights:
        groups[weight.device, weight.dtype, key(weight)].append(weight)
    return list(groups.values())


def copy_of(weight: Tensor) -> Tensor:
    """A copy in the state's dtype, with the weight's strides."""
    dtype = state_dtype(weight.dtype)
    return weight.detach().to(dtype, copy=True)


def copies(weights: list[Tensor], like: list[Tensor]) -> list[Tensor]:
    """Copies of `weights` in the dtype of `like`, which has their shapes; a fixed operator count.

    One call that makes all tensors is much cheaper than one call for each.
    """
    if weights[0].dtype == like[0].dtype:
        return list(torch._foreach_mul(weights, 1))
    copies = list(torch._foreach_mul(like, 1))
    torch._foreach_copy_(copies, weights)
    return copies


def _fitting(saved: Tensor | None, start: Tensor, name: str, weight: Tensor) -> Tensor:
    """A copy of `saved` in the layout, dtype and place of `start`."""
    value = check_saved(saved, name, start.shape, weight)
    return torch.empty_like(start).copy_(value)
