"""Work beside training: a side stream on CUDA, a background thread elsewhere."""

import atexit
import os
import threading
from collections.abc import Callable
from concurrent.futures import Future
from queue import SimpleQueue
from typing import Any, Generic, TypeVar

import torch
from torch import Tensor
from torch.utils import _pytree

T = TypeVar("T")


class Background(Generic[T]):
    """Runs work beside the caller and hands its results over later, in order.

    The results are those the work would have given at once, bit for bit, if from `submit` to
    `collect` nobody writes to the tensors it reads; nor may it write to tensors that others read:
    it returns new ones. It must not submit or collect other work.

    On CUDA the host calls the work at once and its kernels go to a side stream, so work that makes
    the host wait for the device (an eigh does) gains little. Elsewhere one thread, shared by the
    process, calls it, with as many intra-op threads as the caller has: fewer would round products
    differently.

    A child made by `os.fork` has no thread and does its parent's unfinished work again, itself.

    Args:
      device: where the work's tensors are.

    >>> background = Background(torch.device("cpu"))
    >>> background.submit(lambda: torch.ones(3).sum())
    >>> background.collect(), background.collect()
    ([tensor(3.)], [])
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._jobs: list[_OnStream[T] | _OnThread[T]] = []
        self._stream: torch.cuda.Stream | None = None

    def submit(self, work: Callable[[], T]) -> None:
        """Starts `work`, without gradients, after what the current stream was given so far.

        Args:
          work: returns tensors in any nesting of tuples, lists, dicts and named tuples.
        """
        if self._device.type == "cuda":
            if self._stream is None:
                self._stream = torch.cuda.Stream(self._device)
            self._jobs.append(_OnStream(work, self._stream))
        else:
            self._jobs.append(_OnThread(work))

    def collect(self) -> list[T | Exception]:
        """Results of all work submitted since the last time, in order of submission.

        In place of a result stands the exception that the work has raised. On CUDA the current
        stream waits for results, the host does not.
        """
        jobs, self._jobs = self._jobs, []
        results: list[T | Exception] = []
        for job in jobs:
            try:
                results.append(job.result())
            except Exception as raised:
                results.append(raised)
        return results


class _OnStream(Generic[T]):
    """Work whose kernels are on a side stream.

    Two rules keep the caching allocator from handing out memory that is in use. What the work
    reads belongs to the caller's stream, so it is kept alive (by keeping the work) until that
    stream waits for the side stream. What it returns belongs to the side stream: `record_stream`
    delays its reuse until the reader's stream has passed the point at which it was freed.
    """

    def __init__(self, work: Callable[[], T], stream: torch.cuda.Stream) -> None:
        self._work, self._device = work, stream.device
        self._error: Exception | None = None
        stream.wait_stream(torch.cuda.current_stream(self._device))
        with torch.cuda.stream(stream), torch.no_grad():
            try:
                self._value = work()
            except Exception as raised:
                self._error = raised
        self._ready = stream.record_event()

    def result(self) -> T:
        reader = torch.cuda.current_stream(self._device)
        reader.wait_event(self._ready)
        if self._error is not None:
            raise self._error
        for leaf in _pytree.tree_leaves(self._value):
            if isinstance(leaf, Tensor) and leaf.is_cuda:
                leaf.record_stream(reader)
        return self._value


class _OnThread(Generic[T]):
    """Work in the queue of the process's worker."""

    def __init__(self, work: Callable[[], T]) -> None:
        self._work = work
        self._process = os.getpid()
        self._future = _shared_worker().submit(work)

    def result(self) -> T:
        if self._process != os.getpid():
            # The worker stayed behind, and may have held the future's lock while we forked.
            with torch.no_grad():
                return self._work()
        return self._future.result()


class _Worker:
    """A daemon thread that does one job after another.

    A thread killed inside torch aborts the process, so exit waits for the job that runs, and drops
    those in the queue. A fork waits for it too: a lock that it holds inside a library would stay
    locked in the child for ever.
    """

    def __init__(self) -> None:
        self._queue: SimpleQueue[tuple[Future[Any], Callable[[], Any], int] | None] = SimpleQueue()
        self._stopped = False
        self.running = threading.RLock()
        self._thread = threading.Thread(target=self._serve, name="shampoo-refresh", daemon=True)
        self._thread.start()
        atexit.register(self._stop)

    def submit(self, work: Callable[[], T]) -> "Future[T]":
        future: Future[T] = Future()
        job = (future, work, torch.get_num_threads())
        if self._stopped:
            _do(*job)
        else:
            self._queue.put(job)
        return future

    def _serve(self) -> None:
        while (job := self._queue.get()) is not None:
            with self.running:
                if self._stopped:
                    job[0].cancel()
                else:
                    _do(*job)
            # Or this frame would keep the tensors of the last job alive until the next.
            del job

    def _stop(self) -> None:
        self._stopped = True
        self._queue.put(None)
        self._thread.join()


def _do(future: "Future[T]", work: Callable[[], T], threads: int) -> None:
    if torch.get_num_threads() != threads:
        torch.set_num_threads(threads)
    try:
        with torch.no_grad():
            future.set_result(work())
    except BaseException as error:
        future.set_exception(error)


_worker: _Worker | None = None
_making = threading.Lock()


def _shared_worker() -> _Worker:
    global _worker
    with _making:
        if _worker is None:
            _worker = _Worker()
        return _worker


def _before_fork() -> None:
    _making.acquire()
    if _worker is not None:
        _worker.running.acquire()


def _after_fork_in_parent() -> None:
    if _worker is not None:
        _worker.running.release()
    _making.release()


def _after_fork_in_child() -> None:
    global _worker
    if _worker is not None:
        atexit.unregister(_worker._stop)
    _worker = None
    _making.release()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(
        before=_before_fork,
        after_in_parent=_after_fork_in_parent,
        after_in_child=_after_fork_in_child,
    )
