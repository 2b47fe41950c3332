"""Leaves out of a run of doctests what needs a framework that is not installed."""

from importlib.util import find_spec

collect_ignore_glob = (
    []
    if find_spec("jax") and find_spec("optax")
    else ["submission/shampoo_jax/*", "tests/submission/shampoo_jax/divided.py"]
)
