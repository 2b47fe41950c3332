"""Averages of the iterates, which evaluation reads instead of the weights that training moves."""

import torch
from torch import Tensor

from .averager import Averager
from .exponential_average import ExponentialAverage
from .schedule_free import ScheduleFree

# Of any averager's state.
STATE_NAMES = ("average", "average_steps", "z", "weight_sum", "remainder", "train_weight")

_MODES: dict[str, type[Averager]] = {"ema": ExponentialAverage, "schedule_free": ScheduleFree}


def averager(mode: str | None) -> Averager | None:
    """A new averager for the option "averaging"; None for None.

    Raises:
      ValueError: for an unknown mode.

    >>> from submission.plan.options import ShampooOptions
    >>> options = vars(ShampooOptions(averaging_decay=0.75))
    >>> ema, weight = averager("ema"), torch.zeros(2)
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


def state_bytes(mode: str | None, parameter: Tensor) -> int:
    """Bytes of the averages of one parameter, on any device; 0 without averaging."""
    averager_of_mode = averager(mode)
    if averager_of_mode is None:
        return 0
    two = torch.zeros(2, dtype=parameter.dtype, device="cpu")
    averager_of_mode.begin([two])
    return sum(
        tensor.itemsize * (parameter.numel() if tensor.shape == two.shape else tensor.numel())
        for tensor in averager_of_mode.state_tensors(two).values()
    )
