"""How JAX behaves in a run of tests, and what is left out where it is not installed."""

import os
from importlib.util import find_spec

# On a GPU every process that uses JAX would take most of the memory for itself.
os.environ.setdefault("JAX_PLATFORMS", "cpu")
# Tests compile often and compute little.
os.environ.setdefault("JAX_DISABLE_MOST_OPTIMIZATIONS", "1")

collect_ignore_glob = (
    []
    if find_spec("jax") and find_spec("optax")
    else [
        *(
            "submission/shampoo_jax/*",
            "submission/algoperf_api/jax.py",
            "submission/entries/*_jax*",
        ),
        *("tests/submission/shampoo_jax/divided.py", "tests/submission/tiny_jax_training.py"),
        *("tests/submission/algoperf_api/divided_training.py", "workloads/standin_jax/*"),
        "scripts/local/jax_state.py",
    ]
)
