"""What the checks on a GPU run, on a pretended one: nothing of it is left on the host."""

import pytest
import torch

from scripts.benchmark import captured, networks, training
from scripts.local import rivals
from tests.simulated.device import simulated

DEVICE = "sim:0"


def test_a_step_without_a_graph_is_compared_with_itself():
    with simulated() as record:
        comparison = captured.compare(
            {"matrix": (12, 8), "vector": (7,)}, torch.device(DEVICE), steps=3
        )
    assert comparison["difference"] == 0
    assert not comparison["captured"]
    assert record.waits


@pytest.mark.parametrize("name", networks.TINY)
def test_a_training_step_runs_on_it(name, autograd_engine):
    optimizers = {"ours_shampoo": rivals.available()["ours_shampoo"]}
    with simulated():
        (row,) = training.measure(networks.TINY[name], optimizers, 2, torch.device(DEVICE), 2, 1)
    assert row["failure"] is None
    assert row["plain"]["wall"]["count"] == row["refresh"]["wall"]["count"] == 1
