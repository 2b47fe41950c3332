"""What needs autograd on the pretended device, in a process in which nothing ran before."""

import pytest

from tests.scripts.commands import finish
from tests.simulated.device import simulated


@pytest.mark.slow
def test_autograd_and_the_training_step_run_on_the_device():
    with simulated():
        pass  # skips where there can be no such device
    files = [f"tests/simulated/test_{name}.py" for name in ("device", "training", "gpu_checks")]
    done = finish("-m", "pytest", "-n0", "-k", "autograd_runs or training_step", *files)
    assert done.returncode == 0, done.stdout
    assert "......" in done.stdout and "skipped" not in done.stdout
