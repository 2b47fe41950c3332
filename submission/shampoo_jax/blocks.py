"""Functions of the blocks of a stack: of all at once, or of one after another; traced."""

from collections.abc import Callable

import jax
from jax import Array, lax

Blocks = dict[str, Array]

# Blocks of as many elements pass through a core's cache one after another.
_LONG = 1 << 16


def are_in_turn(height: int, width: int) -> bool:
    """Whether blocks of a shape are stepped one after another, where that is faster.

    On a CPU whole stacks would be read from memory for every operation, and its products of many
    matrices are slower than those of one.
    """
    return jax.default_backend() == "cpu" and height * width >= _LONG


def mapped(function: Callable[[Blocks], Blocks], blocks: Blocks, in_turn: bool) -> Blocks:
    """What a function of arrays [K, ...], which are independent along K, makes of them.

    Args:
      function: returns as many arrays of the same shapes and dtypes.
      blocks: the arrays.
      in_turn: whether it is called in a loop over K, for arrays [1, ...]; those that it changes
        are changed in place.
    """
    if not in_turn:
        return function(blocks)
    names: list[str] = []

    def probe(block: Blocks) -> Blocks:
        new = function(block)
        names.extend(name for name in new if new[name] is not block[name])
        return new

    jax.eval_shape(probe, {name: array[:1] for name, array in blocks.items()})

    def trip(index: Array, changed: Blocks) -> Blocks:
        return replaced(function, blocks, changed, index)

    count = len(next(iter(blocks.values())))
    changed = lax.fori_loop(0, count, trip, {name: blocks[name] for name in names})
    return {**blocks, **changed}


def replaced(
    function: Callable[[Blocks], Blocks], blocks: Blocks, changed: Blocks, index: Array
) -> Blocks:
    """`changed`, a part of `blocks`, with what the function makes of the block at an index.

    Args:
      function: takes all arrays of a block, [1, ...], and returns at least what changes.
      blocks: arrays [K, ...].
      changed: those of them that change, at present.
      index: an int32 scalar.
    """
    block = {
        name: lax.dynamic_slice_in_dim(array, index, 1)
        for name, array in {**blocks, **changed}.items()
    }
    new = function(block)
    return {
        name: lax.dynamic_update_slice_in_dim(array, new[name], index, 0)
        for name, array in changed.items()
    }
