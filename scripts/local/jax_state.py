"""Trees of JAX's arrays as tensors, for the checkpoint file that both frameworks have."""

from collections.abc import Sequence
from typing import Any

import jax
import numpy as np
import torch


def saved(tree: Any) -> list[torch.Tensor]:
    """Copies of the leaves of a tree."""
    return [torch.from_numpy(np.array(leaf)) for leaf in jax.tree.leaves(tree)]


def restored(leaves: Sequence[torch.Tensor], like: Any) -> Any:
    """The tree that was saved, each array where that of a new trial's tree lies.

    Raises:
      ValueError: if the tree is of another structure.
    """
    of_new, structure = jax.tree.flatten(like)
    pairs = list(zip(leaves, of_new, strict=True))
    for leaf, new in pairs:
        if (tuple(leaf.shape), leaf.numpy().dtype) != (new.shape, new.dtype):
            raise ValueError(f"{leaf.dtype} {tuple(leaf.shape)}, not {new.dtype} {new.shape}")
    arrays = [jax.device_put(leaf.numpy(), new.sharding) for leaf, new in pairs]
    return jax.tree.unflatten(structure, arrays)
