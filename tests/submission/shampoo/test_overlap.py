"""Refreshes beside training, and flags that are read later."""

import pytest
import torch

from submission.shampoo import Shampoo
from submission.shampoo.async_flags import AsyncFlags
from submission.shampoo.refresher import _Deferred
from tests.submission.shampoo.streams import OPTIONS, assert_equal, parameters, run

needs_cuda = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
DEVICES = ["cpu", pytest.param("cuda", marks=needs_cuda)]


@pytest.mark.parametrize("method", ["shampoo", "soap"])
def test_a_result_is_used_from_the_next_step_on(method):
    weights = parameters([(5, 4)])
    optimizer = Shampoo(weights, **{**OPTIONS, "method": method, "overlap": True})
    refreshes = []
    for step in range(7):
        run(optimizer, weights, 1, first_seed=step)
        refreshes.append(optimizer.diagnostics()["refreshes"])
    # Due at steps 1, 3 and 6; the first at once, and never for an eigenbasis.
    first = 0 if method == "soap" else 2
    assert refreshes == [first, first, first, first + 2, first + 2, first + 2, first + 4]


@pytest.mark.parametrize("options", [{}, {"method": "soap", "basis_solver": "qr"}])
def test_finish_installs_what_the_next_step_would(options):
    weights, others = parameters(), parameters()
    options = {**OPTIONS, "overlap": True, "refresh_interval": 1, **options}
    optimizers = [Shampoo(row, **options) for row in (weights, others)]
    for step in range(8):
        run(optimizers[0], weights, 1, first_seed=step)
        run(optimizers[1], others, 1, first_seed=step)
        optimizers[1].finish()
        assert_equal(weights, others)


def test_what_is_written_to_the_state_outlives_a_refresh_on_its_way():
    weights = parameters([(5, 4)])
    optimizer = Shampoo(weights, **{**OPTIONS, "overlap": True, "refresh_interval": 1})
    run(optimizer, weights, 3)
    entry = optimizer.state[weights[0]]
    entry["left_root.0"] = torch.zeros_like(entry["left_root.0"])
    optimizer.finish()
    assert not entry["left_root.0"].any()


@needs_cuda
def test_the_allocator_never_hands_out_memory_in_use():
    stream = torch.cuda.Stream()
    for value in range(200):
        source = torch.full((1 << 20,), float(value), device="cuda")
        deferred = _Deferred(lambda source=source: source.sqrt().square() + 1, stream)
        del source
        torch.full((1 << 20,), -1.0, device="cuda")  # would take the source's place
        result = deferred.result()
        total = result.sum()
        del result, deferred
        torch.testing.assert_close(total.item() / (1 << 20), value + 1.0, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("device", DEVICES)
def test_flags_are_read_once_and_as_they_were(device):
    flags = AsyncFlags()
    assert flags.read() == []
    values = torch.tensor([True, False, True], device=device)
    flags.post(values)
    values.fill_(True)
    assert flags.read() == [0, 2]
    assert flags.read() == []


@pytest.mark.parametrize("device", DEVICES)
def test_the_last_flags_count(device):
    flags = AsyncFlags()
    flags.post(torch.ones(4, dtype=torch.bool, device=device))
    flags.post(torch.zeros(0, dtype=torch.bool, device=device))
    assert flags.read() == []
    flags.post(torch.ones(2, dtype=torch.bool, device=device))
    flags.post(torch.tensor([False, True, False], device=device))
    assert flags.read() == [1]


@needs_cuda
def test_flags_and_overlap_never_make_the_host_wait():
    flags, stream = AsyncFlags(), torch.cuda.Stream()
    source = torch.randn(64, 64, device="cuda")
    torch.cuda.set_sync_debug_mode("error")
    try:
        flags.post(_Deferred(lambda: source @ source, stream).result().sum(0) > 0)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert flags.read() == (source @ source).sum(0).gt(0).nonzero().flatten().tolist()
