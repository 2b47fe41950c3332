"""Steps that run the same operators on the same memory, so that a graph of one may be replayed."""

import pytest
import torch
from torch.utils import _pytree
from torch.utils._python_dispatch import TorchDispatchMode

from submission.shampoo import Shampoo
from submission.shampoo import optimizer as module
from tests.submission.shampoo.streams import OPTIONS, assert_equal, parameters, set_grads


class _Graph(TorchDispatchMode):
    """Records operators with their memory, to run them again as a graph of a device does."""

    def __init__(self):
        super().__init__()
        self.calls = []

    def __torch_dispatch__(self, operator, types, args=(), kwargs=None):
        results = operator(*args, **(kwargs or {}))
        if not operator.is_view:
            self.calls.append((operator, args, kwargs or {}, results))
        return results

    def replay(self):
        """Runs all again; what was new memory when it was recorded takes what is new now."""
        for operator, args, kwargs, results in self.calls:
            again = operator(*args, **kwargs)
            pairs = zip(_pytree.tree_leaves(results), _pytree.tree_leaves(again), strict=True)
            for old, new in pairs:
                if isinstance(old, torch.Tensor) and old is not new:
                    old.copy_(new)


def _optimizer(weights, **options):
    lr = torch.tensor(0.01, dtype=weights[0].dtype)
    return Shampoo(weights, **{**OPTIONS, **options, "lr": lr, "capturable": True})


def _set_in_place(seed, *lists):
    """Gives gradients that stay where they are, as those of a graph do."""
    fresh = [torch.nn.Parameter(weight.detach().clone()) for weight in lists[0]]
    set_grads(seed, fresh)
    for weights in lists:
        for weight, source in zip(weights, fresh, strict=True):
            if weight.grad is None:
                weight.grad = torch.zeros_like(weight)
            weight.grad.copy_(source.grad)


@pytest.mark.parametrize("refresh", ["together", "staggered"])
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"nesterov": True, "momentum": 0.5, "fused": False},
        {"grafting": "adagrad", "decay_mode": "l2"},
        {"method": "soap"},
        {"method": "kl_shampoo"},
    ],
    ids=str,
)
def test_a_replayed_step_is_a_step(options, refresh, monkeypatch):
    weights, others = parameters(), parameters()
    first, second = (_optimizer(row, refresh=refresh, **options) for row in (weights, others))
    graph = _Graph()
    for seed in range(10):
        _set_in_place(seed, weights, others)
        if seed == 5:
            with monkeypatch.context() as patch, graph:
                patch.setattr(module, "is_capturing", lambda device: True)
                first.step()
            waits = {"aten._local_scalar_dense.default", "aten.nonzero.default"}
            assert not waits & {str(call[0]) for call in graph.calls}
            first.refresh()
        elif seed > 5:
            if seed == 8:
                weights[0].grad[0] = others[0].grad[0] = torch.nan
            graph.replay()
            first.refresh()
        else:
            first.step()
        second.step()
        for optimizer in (first, second):
            optimizer.param_groups[0]["lr"].mul_(0.9)
    assert_equal(weights, others)
    assert first.diagnostics()["skipped_steps"] == second.diagnostics()["skipped_steps"] == 1
    assert first.diagnostics()["refreshes"] == second.diagnostics()["refreshes"] > 0


def test_a_step_without_a_graph_refreshes_by_itself():
    weights = parameters()
    optimizer = _optimizer(weights)
    for seed in range(4):
        set_grads(seed, weights)
        optimizer.step()
    assert optimizer.param_groups[0]["refresh_step"] == 4
    assert optimizer.diagnostics()["refreshes"] > 0


def test_groups_without_gradients_count_no_steps():
    weights = parameters()
    optimizer = _optimizer(weights[:2])
    for rest in (weights[2:], []):
        optimizer.add_param_group({"params": rest})
    set_grads(0, weights[:2])
    optimizer.step()
    assert [group["refresh_step"] for group in optimizer.param_groups] == [1, 0, 0]


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("overlap", True),
        ("factor_dtype", torch.bfloat16),
        ("averaging", "ema"),
        ("decay_mode", "independent"),
    ],
)
def test_what_the_host_decides_in_a_step_is_refused(name, value):
    with pytest.raises(ValueError, match=f"capturable=True needs {name}="):
        _optimizer(parameters(), **{name: value})


def test_a_number_for_a_learning_rate_is_refused():
    with pytest.raises(ValueError, match="needs an lr that is a tensor on cpu"):
        Shampoo(parameters(), lr=0.01, capturable=True)
    weights = parameters()
    optimizer = _optimizer(weights)
    optimizer.param_groups[0]["lr"] = 0.01
    set_grads(0, weights)
    with pytest.raises(ValueError, match=r"got 0\.01"):
        optimizer.step()


def test_groups_that_do_not_agree_are_refused():
    weights = parameters()
    options = {"lr": torch.tensor(0.01)}
    rows = [{"params": weights[:2], "capturable": True}, {"params": weights[2:]}]
    optimizer = Shampoo(rows, **options)
    set_grads(0, weights)
    with pytest.raises(ValueError, match="the same in all parameter groups"):
        optimizer.step()


def test_refresh_without_capturable_is_refused():
    with pytest.raises(RuntimeError, match="refresh"):
        Shampoo(parameters()).refresh()
