"""The state of the transformation: arrays alone, in a structure that shapes and options fix."""

from typing import Any, NamedTuple

from jax import Array


class ShampooState(NamedTuple):
    """State of `scale_by_shampoo` and of all that is made of it.

    Attributes:
      count: finite gradients so far, int32.
      calls: steps so far, skipped ones counted, int32; refreshes follow it.
      skipped: steps that a non-finite gradient has left without effect, int32.
      factor_weight: sum of the weights in the factors; factor / weight is their average.
      stacks: by the shape of the blocks, as in "384x384", arrays [lanes, rows, ...]: "left" and
        "right" factors, what the method derives from them, "left_failures" and "right_failures"
        (refreshes that were not trusted), the moments "first" and "second", and "velocity".
      leaves: by the index of a leaf without factors: "first", "second" and "velocity".
      peak_rate: the highest learning rate so far, of `shampoo` with independent decay; else None.
      average: of the weights, see `averaging`; None without.
    """

    count: Any  # as an array it would clash with the method of tuples
    calls: Array
    skipped: Array
    factor_weight: Array
    stacks: dict[str, dict[str, Array]]
    leaves: dict[str, dict[str, Array]]
    peak_rate: Array | None = None
    average: Any = None
