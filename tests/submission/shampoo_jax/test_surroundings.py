"""What JAX does to the process that it runs in."""

import subprocess
import sys

import jax.numpy as jnp


def test_a_process_that_has_used_jax_can_start_others():
    """As the supervisor does, with a fork: JAX warns of it, and a warning is an error in tests."""
    assert jnp.ones(2).sum() == 2
    command = [sys.executable, "-I", "-S", "-c", "print(1)"]
    done = subprocess.run(command, preexec_fn=lambda: None, capture_output=True, text=True)
    assert done.stdout == "1\n"
