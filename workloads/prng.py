"""Random keys: NumPy arrays of two int32, split and folded as in AlgoPerf's PyTorch runs.

>>> data_rng, model_rng = split(key(1), 2)
>>> data_rng, seed(fold_in(model_rng, 3)), words(-model_rng)
(array([2109702317, 1190592343], dtype=int32), 4321575496062811992, (3714592396, 3907003195))
"""

import numpy as np
from numpy.typing import NDArray

Key = NDArray[np.int32]


def _key_from(entropy: list[int], count: int) -> NDArray[np.int32]:
    words = np.random.SeedSequence(entropy).generate_state(2 * count, np.uint32)
    return (words >> 1).astype(np.int32).reshape(count, 2)


def words(rng: Key) -> tuple[int, int]:
    """The key as two non-negative integers; AlgoPerf's own keys may hold negative ones."""
    return int(rng[0]) & 0xFFFFFFFF, int(rng[1]) & 0xFFFFFFFF


def key(seed: int) -> Key:
    """The key that stands for one non-negative integer seed."""
    return _key_from([seed], 1)[0]


def split(rng: Key, num: int = 2) -> NDArray[np.int32]:
    """`num` independent keys, an int32 array of shape [num, 2]."""
    return _key_from([*words(rng)], num)


def fold_in(rng: Key, data: int) -> Key:
    """The key of `rng` for one non-negative integer, such as a step."""
    return _key_from([*words(rng), data], 1)[0]


def seed(rng: Key) -> int:
    """One integer seed below 2**63 for generators that take an integer."""
    first, second = words(rng)
    return (first << 31) | second
