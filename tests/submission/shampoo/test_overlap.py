"""Work beside training, and flags that are read later."""

import os
import subprocess
import sys
import threading
import time
import weakref

import pytest
import torch

from submission.shampoo.flags import AsyncFlags
from submission.shampoo.overlap import Background

CPU = torch.device("cpu")
needs_cuda = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
DEVICES = ["cpu", pytest.param("cuda", marks=needs_cuda)]


def matrices(count, device="cpu", size=24):
    generator = torch.Generator().manual_seed(0)
    draw = torch.randn(count, 3, size, size, generator=generator)
    return list((draw @ draw.mT).to(device))


def script(body, timeout=60):
    """Runs `body` in a process of its own, which must end well and silently."""
    start = "import torch\nfrom submission.shampoo.overlap import Background\n"
    start += "background = Background(torch.device('cpu'))\n"
    done = subprocess.run(
        [sys.executable, "-c", start + body], capture_output=True, text=True, timeout=timeout
    )
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


@pytest.mark.parametrize("device", DEVICES)
def test_results_are_those_of_the_work_done_at_once_and_in_order(device):
    stacks = matrices(6, device)
    background = Background(torch.device(device))
    for stack in stacks:
        background.submit(lambda stack=stack: torch.linalg.eigh(stack))
    results = background.collect()
    for stack, (values, vectors) in zip(stacks, results, strict=True):
        expected = torch.linalg.eigh(stack)
        assert torch.equal(values, expected[0])
        assert torch.equal(vectors, expected[1])
    assert background.collect() == []


def test_the_caller_goes_on_meanwhile():
    gate = threading.Event()
    background = Background(CPU)
    background.submit(lambda: gate.wait(30))
    gate.set()  # comes to this line only if submit has not waited for the work
    assert background.collect() == [True]


def test_all_share_one_thread_without_gradients_and_with_the_callers_intra_op_threads():
    backgrounds = [Background(CPU), Background(CPU)]
    threads = torch.get_num_threads()
    try:
        for count in (threads, threads + 1):
            torch.set_num_threads(count)
            for background in backgrounds:
                background.submit(
                    lambda: (
                        threading.get_ident(),
                        torch.is_grad_enabled(),
                        torch.get_num_threads(),
                    )
                )
            (first,), (second,) = (background.collect() for background in backgrounds)
            assert first == second
            assert first[0] != threading.get_ident()
            assert first[1:] == (False, count)
            assert torch.get_num_threads() == count
    finally:
        torch.set_num_threads(threads)


@pytest.mark.parametrize("device", DEVICES)
def test_an_error_stands_in_its_results_place_and_spoils_no_other(device):
    background = Background(torch.device(device))
    background.submit(lambda: 1 / 0)
    background.submit(lambda: 5)
    background.submit(lambda: {}["missing"])
    first, second, third = background.collect()
    assert (type(first), second, type(third)) == (ZeroDivisionError, 5, KeyError)
    background.submit(lambda: 6)
    assert background.collect() == [6]


def test_what_work_holds_is_let_go_once_collected():
    background = Background(CPU)
    tensor = torch.ones(3)
    there = weakref.ref(tensor)
    background.submit(lambda tensor=tensor: tensor + 1)
    del tensor
    assert there() is not None
    background.collect()
    patience = time.monotonic() + 10  # the thread may be a few instructions behind
    while there() is not None and time.monotonic() < patience:
        time.sleep(0.001)
    assert there() is None


def test_exit_waits_for_the_kernel_that_runs_and_not_for_the_queue():
    out = script(
        "import atexit\n"
        "matrix = torch.ones(300, 300)\n"
        "@atexit.register\n"
        "def late():\n"
        "    print(type(background.collect()[-1]).__name__)\n"
        "    background.submit(lambda: 7)\n"
        "    print(background.collect())\n"
        "for _ in range(100000):\n"
        "    background.submit(lambda: torch.linalg.eigh(matrix))\n"
    )
    assert out == "CancelledError\n[7]\n"


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_forked_child_does_the_work_itself():
    out = script(
        "import os, threading, time, warnings\n"
        "warnings.simplefilter('ignore')\n"
        "background.submit(lambda: time.sleep(0.2))\n"
        "for i in range(3):\n"
        "    background.submit(lambda i=i: torch.full((2,), i))\n"
        "child = os.fork()\n"
        "results = [r.tolist() for r in background.collect()[1:]]\n"
        "background.submit(lambda: threading.current_thread().name)\n"
        "names = background.collect()\n"
        "if child:\n"  # the child prints first: both write to one pipe
        "    assert os.waitpid(child, 0)[1] == 0\n"
        "print('parent' if child else 'child', results, names, flush=True)\n"
    )
    line = "[[0, 0], [1, 1], [2, 2]] ['shampoo-refresh']"
    assert out.splitlines() == [f"child {line}", f"parent {line}"]


@needs_cuda
def test_the_allocator_never_hands_out_memory_in_use():
    background = Background(torch.device("cuda"))
    for value in range(200):
        source = torch.full((1 << 20,), float(value), device="cuda")
        background.submit(lambda source=source: source.sqrt().square() + 1)
        del source
        torch.full((1 << 20,), -1.0, device="cuda")  # would take the source's place
        (result,) = background.collect()
        total = result.sum()
        del result
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
    flags, background = AsyncFlags(), Background(torch.device("cuda"))
    source = torch.randn(64, 64, device="cuda")
    torch.cuda.set_sync_debug_mode("error")
    try:
        background.submit(lambda: source @ source)
        flags.post(background.collect()[0].sum(0) > 0)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert flags.read() == (source @ source).sum(0).gt(0).nonzero().flatten().tolist()
