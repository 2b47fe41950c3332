"""Where JAX is not installed these tests are skipped before any of them imports it."""

import pytest


def pytest_collect_file():
    for package in ("jax", "optax"):
        pytest.importorskip(package, reason=f"{package} is not installed: requirements-jax.txt")
