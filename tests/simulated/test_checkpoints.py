"""Checkpoints from and to a pretended device: training goes on as if nothing had happened."""

import copy
import io

import pytest
import torch

from submission.shampoo import Shampoo
from tests.simulated.device import simulated
from tests.simulated.runs import OPTION_SETS, difference, optimizer_of, start, steps
from tests.simulated.tensors import SimTensor, on_device, values_of

CHOSEN = [
    "shampoo",
    "kl_shampoo",
    "overlap soap",
    "schedule_free",
    "tensor lr, independent",
]


def _host(value):
    """A state dict with its tensors on the CPU, as `torch.load(map_location="cpu")` gives it."""
    if isinstance(value, torch.Tensor):
        return values_of(value).clone()
    if isinstance(value, dict):
        return {key: _host(item) for key, item in value.items()}
    return [_host(item) for item in value] if isinstance(value, list) else value


def _resumed(weights, options, state, on=lambda x: x):
    optimizer, parameters = optimizer_of([values_of(w) for w in weights], options, on)
    optimizer.load_state_dict(state)
    return optimizer, parameters


@pytest.mark.parametrize("name", CHOSEN)
def test_training_goes_on_from_a_checkpoint_on_either_device(name):
    options = OPTION_SETS[name]
    host_optimizer, expected = optimizer_of(start(), options)
    steps(host_optimizer, expected, range(4))
    of_host = copy.deepcopy(host_optimizer.state_dict())
    middle = [parameter.detach().clone() for parameter in expected]
    steps(host_optimizer, expected, range(4, 7))
    host_optimizer.finish()
    final = [parameter.detach() for parameter in expected]
    with simulated() as record:
        sim_optimizer, parameters = optimizer_of(start(), options, on_device)
        steps(sim_optimizer, parameters, range(4), on_device)
        saved = sim_optimizer.state_dict()
        state_values = [v for entry in saved["state"].values() for v in entry.values()]
        assert all(type(value) is SimTensor for value in state_values)
        resumed = [
            _resumed(parameters, options, copy.deepcopy(saved), on_device),
            _resumed(middle, options, _host(of_host), on_device),
        ]
        for optimizer, weights in ((sim_optimizer, parameters), *resumed):
            steps(optimizer, weights, [4], on_device)
            record.clear()
            steps(optimizer, weights, [5], on_device)
            assert record.waits == []
            steps(optimizer, weights, [6], on_device)
            optimizer.finish()
            assert difference(weights, final) <= 1e-6
        saved = _host(saved)
    optimizer, weights = _resumed(middle, options, saved)
    steps(optimizer, weights, range(4, 7))
    optimizer.finish()
    assert difference(weights, final) <= 1e-6


def test_a_file_and_a_deep_copy_hold_all_state():
    with simulated():
        optimizer, parameters = optimizer_of(start(), {"method": "soap"}, on_device)
        steps(optimizer, parameters, range(4), on_device)
        buffer = io.BytesIO()
        torch.save(optimizer.state_dict(), buffer)
        buffer.seek(0)
        loaded = torch.load(buffer, weights_only=False)
        resumed = _resumed(parameters, {"method": "soap"}, loaded, on_device)
        twin = copy.deepcopy(optimizer)
        assert isinstance(twin, Shampoo)
        copies = (resumed, (twin, twin.param_groups[0]["params"]))
        steps(optimizer, parameters, range(4, 7), on_device)
        for other, weights in copies:
            steps(other, weights, range(4, 7), on_device)
            assert difference(weights, [values_of(p) for p in parameters]) == 0
