"""The pretended device keeps the rules of a real one: what they forbid is an error or recorded."""

import copy
import io
from functools import partial

import pytest
import torch
from torch import nn

from submission.shampoo.async_flags import AsyncFlags
from submission.shampoo.devices import autocast_kinds, is_queued, stream_module, to_device
from submission.shampoo.refresher import _Deferred
from tests.simulated.device import simulated
from tests.simulated.record import DeviceError, OrderError
from tests.simulated.tensors import SimTensor, on_device, values_of

DEVICE = "sim:0"


@pytest.fixture
def record():
    with simulated() as record:
        yield record


@pytest.mark.parametrize(
    "make",
    [
        lambda: torch.zeros(2, 3, device=DEVICE),
        lambda: torch.full((), 2.0, dtype=torch.float64, device=DEVICE),
        lambda: torch.eye(3, device=DEVICE),
        lambda: torch.arange(4, device=DEVICE),
        lambda: torch.empty_like(on_device(torch.ones(2))).fill_(3),
        lambda: on_device(torch.ones(2)).new_zeros(3),
        lambda: torch.randn(5, device=DEVICE, generator=torch.Generator(DEVICE).manual_seed(1)),
    ],
)
def test_factories_make_tensors_of_the_device_without_a_wait(record, make):
    made = make()
    assert type(made) is SimTensor
    assert made.device == torch.device(DEVICE)
    assert record.waits == []


def test_numbers_of_a_generator_are_those_of_the_cpu(record):
    numbers = torch.randn(5, device=DEVICE, generator=torch.Generator(DEVICE).manual_seed(1))
    assert torch.equal(
        values_of(numbers), torch.randn(5, generator=torch.Generator().manual_seed(1))
    )


def test_a_generator_of_another_device_is_refused(record):
    with pytest.raises(DeviceError, match="generator"):
        torch.randn(5, device=DEVICE, generator=torch.Generator().manual_seed(1))


def test_views_share_memory_and_queue_nothing(record):
    whole = torch.zeros(2, 3, device=DEVICE)
    record.clear()
    column, row = whole[:, 1], whole.view(3, 2)[0]
    assert record.operators == 0
    column.fill_(1)
    assert values_of(whole).tolist() == [[0, 1, 0], [0, 1, 0]]
    assert values_of(row).tolist() == [0, 1]
    assert column.data_ptr() == whole.data_ptr() + 4


def test_operators_in_place_and_into_out_return_what_they_wrote(record):
    ones, twos = (torch.full((2,), value, device=DEVICE) for value in (1.0, 2.0))
    assert ones.add_(twos) is ones
    assert torch.mul(ones, twos, out=twos) is twos
    torch._foreach_add_([ones, twos], 1)
    assert values_of(ones).tolist() == [4, 4]
    assert values_of(twos).tolist() == [7, 7]


@pytest.mark.parametrize(
    "operator",
    [
        lambda on_sim, on_cpu: on_sim + on_cpu,
        lambda on_sim, on_cpu: on_sim * on_cpu.sum(),
        lambda on_sim, on_cpu: on_cpu.add_(on_sim),
        lambda on_sim, on_cpu: torch.where(on_sim > 0, on_sim, on_cpu),
        lambda on_sim, on_cpu: torch._foreach_add([on_sim], [on_cpu]),
        lambda on_sim, on_cpu: on_sim[on_cpu.long()],
    ],
)
def test_two_devices_cannot_be_mixed_not_even_by_a_scalar(record, operator):
    with pytest.raises(DeviceError):
        operator(on_device(torch.ones(2)), torch.ones(2))


@pytest.mark.parametrize(
    ("wait", "cause"),
    [
        (lambda x: x.sum().item(), "_local_scalar_dense"),
        (lambda x: float(x[0]), "_local_scalar_dense"),
        (lambda x: bool(x[0] > 0), "_local_scalar_dense"),
        (lambda x: x.tolist(), "tolist"),
        (lambda x: x.cpu(), "copy to the host"),
        (lambda x: torch.zeros(2).copy_(x, non_blocking=True), "copy to the host"),
        (lambda x: x.copy_(torch.zeros(2), non_blocking=True), "copy to the device"),
        (lambda x: torch.zeros(2).to(DEVICE, non_blocking=True), "copy to the device"),
        (lambda x: torch.tensor([1.0], device=DEVICE), "copy to the device"),
        (lambda x: torch.empty(2, pin_memory=True).copy_(x), "copy to the host"),
        (lambda x: x.nonzero(), "nonzero"),
        (lambda x: x[x > 0], "index"),
        (lambda x: x.masked_select(x > 0), "masked_select"),
        (lambda x: torch.equal(x, x), "equal"),
        (lambda x: torch.linalg.eigh(x[:, None] * x), "_linalg_eigh"),
        (lambda x: torch.linalg.qr(x[:, None] * x), "linalg_qr"),
        (lambda x: stream_module(x.device).synchronize(), "synchronize"),
        (lambda x: stream_module(x.device).current_stream().synchronize(), "synchronize"),
        (lambda x: stream_module(x.device).current_stream().record_event().synchronize(), "Event"),
    ],
)
def test_whatever_makes_the_host_wait_is_recorded_with_its_place(record, wait, cause):
    tensor = on_device(torch.ones(2)) * 2
    record.clear()
    wait(tensor)
    assert len(record.waits) >= 1
    assert cause in record.waits[0].cause
    assert record.waits[0].place.startswith("test_device.py:")


def test_copies_from_and_to_pinned_memory_make_nobody_wait(record):
    tensor = to_device([1.0, 2.0], torch.device(DEVICE))
    back = tensor.to("cpu", non_blocking=True)
    event = stream_module(tensor.device).current_stream().record_event()
    tensor.add_(1)
    assert record.waits == []
    event.synchronize()
    assert [look.behind for look in record.looks] == [1]
    assert back.tolist() == [1, 2]
    assert back.is_pinned()


@pytest.mark.parametrize(
    "read", [lambda x: x.tolist(), lambda x: x + 1, lambda x: bool(x[0]), lambda x: x.fill_(2)]
)
def test_what_is_copied_cannot_be_touched_before_its_event(record, read):
    host = torch.empty(2, pin_memory=True)
    host.copy_(on_device(torch.ones(2)), non_blocking=True)
    with pytest.raises(OrderError, match="before the event"):
        read(host)
    stream_module(torch.device(DEVICE)).current_stream().record_event().synchronize()
    read(host)


def test_pinned_memory_cannot_be_reused_while_it_is_copied(record):
    host = torch.zeros(2, pin_memory=True)
    host.to(DEVICE, non_blocking=True)
    with pytest.raises(OrderError, match="is being copied"):
        host.fill_(1)


def test_a_stream_must_wait_for_what_it_reads(record):
    module, source = stream_module(torch.device(DEVICE)), torch.ones(2, device=DEVICE)
    side = module.Stream()
    with module.stream(side), pytest.raises(OrderError, match="reads"):
        source + 1
    side.wait_stream(module.current_stream())
    with module.stream(side):
        result = source + 1
    with pytest.raises(OrderError, match="reads"):
        result + 1
    with pytest.raises(OrderError, match="still reads"):
        source.add_(1)
    module.current_stream().wait_event(side.record_event())
    source.add_(1)
    result.record_stream(module.current_stream())
    assert values_of(result + 1).tolist() == [3, 3]
    assert record.waits == []


def test_the_host_tells_streams_what_it_has_waited_for(record):
    module = stream_module(torch.device(DEVICE))
    source = torch.ones(2, device=DEVICE)
    module.synchronize()
    side = module.Stream()
    with module.stream(side):
        source + 1
    source.record_stream(side)


def test_memory_freed_while_another_stream_reads_it_is_a_fault():
    with pytest.raises(AssertionError, match="was freed"), simulated():
        module, source = stream_module(torch.device(DEVICE)), torch.ones(2, device=DEVICE)
        side = module.Stream()
        side.wait_stream(module.current_stream())
        with module.stream(side):
            source + 1
        del source


def test_a_deferred_result_may_outlive_its_stream_and_its_inputs(record):
    module, source = stream_module(torch.device(DEVICE)), torch.ones(2, device=DEVICE)
    deferred = _Deferred(partial(torch.add, source, 1), module.Stream())
    del source
    result = deferred.result() * 2
    del deferred
    assert values_of(result).tolist() == [4, 4]
    assert record.waits == []


@pytest.mark.parametrize("broken", ["wait_stream", "wait_event", "record_stream"])
def test_a_deferred_computation_that_forgets_to_wait_is_seen(broken, monkeypatch):
    with pytest.raises((OrderError, AssertionError)), simulated():
        module, source = stream_module(torch.device(DEVICE)), torch.ones(2, device=DEVICE)
        owner = SimTensor if broken == "record_stream" else module.Stream
        monkeypatch.setattr(owner, broken, lambda *_: None)
        deferred = _Deferred(lambda: source + 1, module.Stream())
        result = deferred.result()
        result * 2
        del deferred, result


def test_flags_that_are_read_without_their_event_are_seen(record):
    flags = AsyncFlags()
    flags.post(on_device(torch.tensor([True, False])))
    flags._copied = None
    with pytest.raises(OrderError, match="before the event"):
        flags.read()


@pytest.mark.usefixtures("autograd_engine")
def test_autograd_runs_on_the_device(record):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2))
    moved = copy.deepcopy(model).to(DEVICE)
    inputs = torch.ones(5, 3)
    model(inputs).square().mean().backward()
    record.clear()
    moved(on_device(inputs)).square().mean().backward()
    assert record.waits == []
    for expected, parameter in zip(model.parameters(), moved.parameters(), strict=True):
        assert type(parameter) is SimTensor
        torch.testing.assert_close(values_of(parameter.grad), expected.grad)


def test_tensors_can_be_copied_and_saved(record):
    weight = nn.Parameter(on_device(torch.ones(2)))
    twin = copy.deepcopy({"a": weight, "b": weight})
    assert twin["a"] is twin["b"]
    assert isinstance(twin["a"], nn.Parameter)
    assert twin["a"].data_ptr() != weight.data_ptr()
    buffer = io.BytesIO()
    torch.save(weight.detach(), buffer)
    buffer.seek(0)
    assert values_of(torch.load(buffer, weights_only=False)).tolist() == [1, 1]


def test_product_code_finds_the_device(record):
    assert is_queued(torch.device(DEVICE))
    assert autocast_kinds() == ("cpu", "sim")
