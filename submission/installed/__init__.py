"""Distributed Shampoo, SOAP and KL-Shampoo, as they are installed.

`stacked_shampoo.torch` has the optimizer for PyTorch, and its names are here too. They load torch
when they are asked for: `stacked_shampoo.jax`, with the transformations for JAX, loads none.

    from stacked_shampoo import Shampoo

    optimizer = Shampoo(model.parameters(), lr=1e-3, weight_decay=0.1)

In the repository these are `submission.shampoo` and its neighbours; pyproject.toml maps folders.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .torch import (
        BlockingConfig,
        DistributedConfig,
        Shampoo,
        ShampooConfig,
        StateConfig,
        algoperf_winner,
        evaluation,
        kl_shampoo,
        parameter_groups,
        shampoo,
        soap,
    )

__all__ = [
    "BlockingConfig",
    "DistributedConfig",
    "Shampoo",
    "ShampooConfig",
    "StateConfig",
    "algoperf_winner",
    "evaluation",
    "kl_shampoo",
    "parameter_groups",
    "shampoo",
    "soap",
]


def __getattr__(name: str) -> Any:
    """Loads torch's optimizer with the first of its names."""
    if name in __all__:
        return getattr(importlib.import_module(".torch", __name__), name)
    if name == "__version__":
        return importlib.import_module("importlib.metadata").version("stacked-shampoo")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
