"""With `capturable` all plain steps are one: the same operators on the same memory."""

import pytest
import torch

from tests.simulated.device import simulated
from tests.simulated.runs import SOLVERS, optimizer_of, set_gradients, start
from tests.simulated.tensors import on_device, values_of

# Gradients come to the same memory at each step, as those of a captured backward do.
_WARM, _SETS = (
    3,
    {
        "shampoo": {},
        "nesterov, momentum": {"nesterov": True, "momentum": 0.5, "fused": False},
        "adagrad, l2": {"grafting": "adagrad", "decay_mode": "l2"},
        "soap": {"method": "soap"},
        "kl_shampoo": {"method": "kl_shampoo"},
    },
)


def _tapes(options, change_lr):
    """The operators of two plain steps, storages numbered alike where they are of one step only."""
    last = {"refresh": "together", "refresh_interval": 1000, "refresh_step": 2000}
    tapes = []
    with simulated() as record:
        optimizer, parameters = optimizer_of(
            start(), {"block_size": 8, **SOLVERS, **options}, on_device
        )
        for seed in range(1, 1 + _WARM):
            set_gradients(parameters, 1, on_device)
            if seed == _WARM:
                optimizer.param_groups[0].update(last)
            optimizer.step()
        grads = [parameter.grad for parameter in parameters]
        for seed in (10, 11):
            for grad in grads:
                values_of(grad).mul_(1.0 + 0.01 * seed)
            change_lr(optimizer.param_groups[0])
            record.clear()
            record.tape = []
            optimizer._step()
            tapes.append(record.tape)
            record.tape = None
            assert record.waits == []
    return _alike(*tapes)


def _alike(*tapes):
    storages = [{s._cdata for operator in tape for s, _ in operator.tensors} for tape in tapes]
    lasting = set.intersection(*storages)
    rows = []
    for tape in tapes:
        temporary = {}
        rows.append([])
        for operator in tape:
            keys = [
                s._cdata
                if s._cdata in lasting
                else -1 - temporary.setdefault(s._cdata, len(temporary))
                for s, _ in operator.tensors
            ]
            rows[-1].append(
                (operator.name, keys, [view for _, view in operator.tensors], operator.arguments)
            )
    return rows


@pytest.mark.parametrize("name", _SETS)
def test_a_plain_step_is_the_same_operators_on_the_same_memory(name):
    options = {"capturable": True, "lr": torch.tensor(0.01), **_SETS[name]}

    def change(group):
        values_of(group["lr"]).mul_(0.5)

    first, second = _tapes(options, change)
    assert len(first) > 20
    assert first == second


def test_without_it_a_learning_rate_is_part_of_a_step():
    def change(group):
        group["lr"] = group["lr"] * 0.5

    first, second = _tapes({}, change)
    assert first != second
