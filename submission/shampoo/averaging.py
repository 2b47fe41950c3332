"""Averages of the iterates, which evaluation reads instead of the weights that training moves.

A step of the plain optimizer is wrapped, without gradients:

    moving = averager.begin(weights)
    ...                                # the plain step, on `moving`
    averager.finish(weights, moving, finite, options)

State is in float32, or float64 for float64 weights. Kernels run on lists, their number does not
grow with the number of weights, and the host never waits for the device.
"""

import abc
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from .config import check_saved, state_dtype
from .devices import scalar_for

# Of any averager's state.
STATE_NAMES = ("average", "z", "weight_sum", "remainder", "train_weight")


class Averager(abc.ABC):
    """What EMA and schedule-free averaging have in common; see `averager`.

    A weight's average begins with its own first step, so weights that join late are welcome. A
    weight that takes no step keeps its average.

    Attributes:
      training: False between `eval` and `train`.
    """

    # The name of the state that every weight has once it has taken a step.
    _main: str

    def __init__(self) -> None:
        self.training = True
        self._state: dict[Tensor, dict[str, Tensor]] = {}

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
          options: the parameter group, for "lr" (a number or a scalar tensor) and "averaging_*".
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
        for group in _by_kind(averaged):
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
        if self._main not in saved:
            self._state.pop(weight, None)
            return
        state = self._initial(weight)
        for name, start in state.items():
            state[name] = _fitting(saved.get(name), start, name, weight)
        if "train_weight" in saved:
            state["train_weight"] = _fitting(saved["train_weight"], weight, "train_weight", weight)
            self.training = False
        self._state[weight] = state

    @abc.abstractmethod
    def _initial(self, weight: Tensor) -> dict[str, Tensor]:
        """State before a weight's first step."""

    @abc.abstractmethod
    def _begin(self, weights: Sequence[Tensor]) -> list[Tensor]:
        """See `begin`; all weights have state."""

    @abc.abstractmethod
    def _averages(self, weights: list[Tensor], options: Mapping[str, Any]) -> list[Tensor]:
        """What evaluation reads, for weights of one device and dtype."""

    def _column(self, weights: Iterable[Tensor], name: str) -> list[Tensor]:
        return [self._state[weight][name] for weight in weights]


class ExponentialAverage(Averager):
    """x <- d x + (1 - d) W after each step (Polyak averaging with exponential weights).

    x is W before the weight's first step. d is the option "averaging_decay". State: "average".
    """

    _main = "average"

    def _initial(self, weight: Tensor) -> dict[str, Tensor]:
        return {"average": _copy(weight)}

    def _begin(self, weights: Sequence[Tensor]) -> list[Tensor]:
        return list(weights)

    def finish(
        self,
        weights: Sequence[Tensor],
        moving: Sequence[Tensor],
        finite: Tensor,
        options: Mapping[str, Any],
    ) -> None:
        for group in _by_kind(weights):
            averages = self._column(group, "average")
            gain = finite.to(averages[0].device, averages[0].dtype)
            gain = gain * (1 - options["averaging_decay"])
            change = _copies(group, averages)
            torch._foreach_sub_(change, averages)
            torch._foreach_mul_(change, gain)
            torch._foreach_add_(averages, change)

    def _averages(self, weights: list[Tensor], options: Mapping[str, Any]) -> list[Tensor]:
        return self._column(weights, "average")


class ScheduleFree(Averager):
    """Schedule-free averaging (Defazio et al. 2024, arXiv:2405.15682, equations 3 to 5).

    The weights hold y, where gradients are taken; evaluation reads x. With u such that a plain
    step is W <- W - lr u, decay included, and w the sum of lr^2 over the weight's steps:

        c = lr^2 / w
        y <- (1 - c) y + c z + lr (beta (1 - c) - 1) u
        z <- z - lr u
        x = y + (1 - 1/beta) (z - y)

    beta is the option "averaging_beta", in (0, 1]. While all lr have been 0, c is 0.

    The plain step moves a copy of y in the state's dtype, so that its displacement -lr u is not
    rounded to that of bf16 weights. Those have y's remainder beside them rather than y itself, so
    that they remain the truth when something else writes to them.

    State: "z"; "weight_sum", a float64 scalar; and, for weights of lower precision than the state,
    "remainder", y - W.
    """

    _main = "z"

    def __init__(self) -> None:
        super().__init__()
        # Never written to: weights that step together share one, whoever stays behind keeps it.
        self._sums: dict[tuple[torch.device, float], Tensor] = {}

    def _initial(self, weight: Tensor) -> dict[str, Tensor]:
        state = {"z": _copy(weight), "weight_sum": self._sum(weight.device, 0.0)}
        if weight.dtype != state["z"].dtype:
            state["remainder"] = torch.zeros_like(state["z"])
        return state

    def load(self, weight: Tensor, saved: Mapping[str, Tensor]) -> None:
        # None was saved by weights that had the state's precision then.
        remainder = {"remainder": torch.zeros_like(weight)}
        super().load(weight, {**remainder, **saved} if self._main in saved else saved)
        state = self._state.get(weight)
        if state is not None:
            state["weight_sum"] = self._sum(weight.device, float(state["weight_sum"]))

    def _sum(self, device: torch.device, value: float) -> Tensor:
        key = (device, value)
        if key not in self._sums:
            self._sums[key] = torch.full((), value, dtype=torch.float64, device=device)
        return self._sums[key]

    def _begin(self, weights: Sequence[Tensor]) -> list[Tensor]:
        moving: dict[Tensor, Tensor] = {}
        for group in _by_kind(weights):
            moving.update(zip(group, self._iterates(group), strict=True))
        return [moving[weight] for weight in weights]

    def finish(
        self,
        weights: Sequence[Tensor],
        moving: Sequence[Tensor],
        finite: Tensor,
        options: Mapping[str, Any],
    ) -> None:
        moved = dict(zip(weights, moving, strict=True))
        for group in _by_kind(weights, lambda weight: id(self._state[weight]["weight_sum"])):
            share = self._share(group, finite, options["lr"])
            z = self._column(group, "z")
            dtype = z[0].dtype
            y = group if group[0].dtype == dtype else self._iterates(group)
            steps = [moved[weight] for weight in group]
            torch._foreach_sub_(steps, y)
            # Written as sums of y and what is 0 in a skipped step, which leaves y as it was.
            pull = torch._foreach_sub(z, y)
            torch._foreach_mul_(pull, share.to(dtype))
            torch._foreach_add_(y, pull)
            torch._foreach_add_(z, steps)
            torch._foreach_mul_(steps, (1 - options["averaging_beta"] * (1 - share)).to(dtype))
            torch._foreach_add_(y, steps)
            if y is not group:
                remainders = self._column(group, "remainder")
                torch._foreach_copy_(group, y)
                torch._foreach_copy_(remainders, group)
                torch._foreach_neg_(remainders)
                torch._foreach_add_(remainders, y)

    def _share(self, weights: Sequence[Tensor], finite: Tensor, lr: float | Tensor) -> Tensor:
        """c, a float64 scalar, for weights that have one sum; counts the step into it."""
        old = self._state[weights[0]]["weight_sum"]
        lr = scalar_for(lr, old.device)
        if isinstance(lr, Tensor):
            lr = lr.to(torch.float64)
        term = finite.to(old.device, torch.float64) * (lr * lr)
        new = old + term
        for weight in weights:
            self._state[weight]["weight_sum"] = new
        return term / new.clamp_min(torch.finfo(new.dtype).tiny)

    def _averages(self, weights: list[Tensor], options: Mapping[str, Any]) -> list[Tensor]:
        averages = self._iterates(weights)
        lead = torch._foreach_sub(self._column(weights, "z"), averages)
        torch._foreach_mul_(lead, 1 - 1 / options["averaging_beta"])
        torch._foreach_add_(averages, lead)
        return averages

    def _iterates(self, weights: list[Tensor]) -> list[Tensor]:
        """y of weights of one device and dtype, in the state's dtype; new tensors."""
        z = self._column(weights, "z")
        iterates = _copies(weights, z)
        if weights[0].dtype != z[0].dtype:
            torch._foreach_add_(iterates, self._column(weights, "remainder"))
        return iterates


_MODES: dict[str, type[Averager]] = {"ema": ExponentialAverage, "schedule_free": ScheduleFree}


def averager(mode: str | None) -> Averager | None:
    """A new averager for the option "averaging"; None for None.

    Raises:
      ValueError: for an unknown mode.

    >>> ema, weight = averager("ema"), torch.zeros(2)
    >>> options = {"averaging_decay": 0.75}
    >>> ema.begin([weight])[0].add_(1)
    tensor([1., 1.])
    >>> ema.finish([weight], [weight], torch.tensor(True), options)
    >>> ema.eval([weight], options)
    >>> weight
    tensor([0.2500, 0.2500])
    >>> ema.train([weight])
    >>> weight
    tensor([1., 1.])
    """
    if mode is None:
        return None
    if mode not in _MODES:
        raise ValueError(f"averaging must be None, {' or '.join(map(repr, _MODES))}, got {mode!r}.")
    return _MODES[mode]()


def _by_kind(
    weights: Iterable[Tensor], key: Callable[[Tensor], object] = lambda weight: None
) -> list[list[Tensor]]:
    """Groups that list kernels can take: of one device, dtype and `key`."""
    groups: defaultdict[object, list[Tensor]] = defaultdict(list)
    for weight in weights:
        groups[weight.device, weight.dtype, key(weight)].append(weight)
    return list(groups.values())


def _copy(weight: Tensor) -> Tensor:
    """A copy in the state's dtype, with the weight's strides."""
    dtype = state_dtype(weight.dtype)
    return weight.detach().to(dtype, copy=True)


def _copies(weights: list[Tensor], like: list[Tensor]) -> list[Tensor]:
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
    return torch.empty_like(start, requires_grad=False).copy_(value)
