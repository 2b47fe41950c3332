"""CTC and edit distances as their definitions have them, for tests."""

import functools
import itertools

import numpy as np


def naive_ctc_loss(logits, target):
    """Minus the log-probability of a target, over frames; NumPy arrays [frames, symbols], [n].

    It keeps the probabilities that the frames so far wrote the first k symbols and that the last
    frame was a blank, or the k-th symbol.
    """
    odds = np.exp(logits - logits.max(1, keepdims=True))
    blank, symbol = np.zeros(len(target) + 1), np.zeros(len(target) + 1)
    blank[0] = 1
    for p in odds / odds.sum(1, keepdims=True):
        written = np.zeros_like(symbol)
        for k in range(1, len(target) + 1):
            repeated = k > 1 and target[k - 1] == target[k - 2]
            arriving = blank[k - 1] + (0 if repeated else symbol[k - 1])
            written[k] = p[target[k - 1]] * (symbol[k] + arriving)
        blank, symbol = (blank + symbol) * p[0], written
    return -np.log(blank[-1] + symbol[-1])


def collapsed(path):
    """A path's symbols: repeats merged, then blanks (0) removed."""
    return [symbol for symbol, _ in itertools.groupby(path) if symbol != 0]


def enumerated_ctc_loss(logits, target):
    """The same loss, summed over all paths; for few frames and symbols."""
    odds = np.exp(logits)
    p = odds / odds.sum(1, keepdims=True)
    frames, symbols = logits.shape
    total = sum(
        np.prod(p[range(frames), path])
        for path in itertools.product(range(symbols), repeat=frames)
        if collapsed(path) == list(target)
    )
    return -np.log(total)


@functools.cache
def naive_edit_distance(first, second):
    """The least number of insertions, deletions and substitutions between tuples.

    By recursion on their ends.
    """
    if not first or not second:
        return len(first) + len(second)
    if first[-1] == second[-1]:
        return naive_edit_distance(first[:-1], second[:-1])
    return 1 + min(
        naive_edit_distance(first[:-1], second),
        naive_edit_distance(first, second[:-1]),
        naive_edit_distance(first[:-1], second[:-1]),
    )
