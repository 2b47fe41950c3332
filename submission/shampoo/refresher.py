"""Refreshes of a stack group: the factors that are due, or whose refresh failed."""

import sys
import warnings
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.utils import _pytree

from ..plan.refresh import RefreshSchedule
from .devices import is_host, is_queued, stream_module
from .preconditioners import Preconditioner
from .stack import Stack
from .step import StepInfo, StepOptions
from .symmetric_stack import Blocks


class Refresher:
    """Refreshes the preconditioners of some stacks.

    With the option "overlap" a result is installed at the next step. On a device with streams its
    kernels run on a side stream meanwhile; work that makes the host wait for the device (an eigh
    does) gains little. Elsewhere it is computed at once. The results are the same, bit for bit.

    Args:
      stacks: all stacks of a group on one device.
      device: of the stacks.
      schedule: of all factors of the parameter group; None for these stacks alone.
    """

    def __init__(
        self,
        stacks: Sequence[Stack],
        device: torch.device,
        schedule: RefreshSchedule | None = None,
    ) -> None:
        self._preconditioners = {
            number: stack.preconditioner
            for number, stack in enumerate(stacks)
            if stack.preconditioner is not None
        }
        self._stacks = stacks
        specs = [stack.spec for stack in stacks]
        self._schedule = (schedule or RefreshSchedule(specs)).restricted_to(specs)
        self._device = device
        self._streams = stream_module(device)
        self._stream: Any = None
        self._pending: list[tuple[int, int, Blocks, Tensor, _Deferred]] = []

    def begin(self) -> None:
        """Begins a step: reads what earlier ones have scheduled, then installs deferred results.

        The other way round where the host need not wait, as if it had asked for them before.
        """
        if is_host(self._device):
            self.collect()
        for preconditioner in self._preconditioners.values():
            preconditioner.read_flags()
        self.collect()

    def collect(self) -> None:
        """Installs deferred results.

        A refresh that raised an exception counts as failed, with a RuntimeWarning.
        """
        pending, self._pending = self._pending, []
        for number, side, blocks, live, deferred in pending:
            try:
                result = deferred.result()
            except Exception as error:
                warnings.warn(
                    "A refresh failed, and what it would replace is kept. "
                    f"{type(error).__name__}: {error}",
                    RuntimeWarning,
                    stacklevel=2,
                )
                self._preconditioners[number].factors[side].record_failure(blocks, live)
            else:
                self._install(number, side, blocks, result, live)

    def refresh(self, infos: Sequence[StepInfo], options: StepOptions) -> None:
        """Refreshes the factors that are due at this step.

        Args:
          infos: the step of each stack.
          options: of the step.
        """
        for number, preconditioner in self._preconditioners.items():
            self._refresh_pending(number, preconditioner, infos[number], options)
        when = options.refresh_step, options.refresh_interval, options.refresh
        for due in self._schedule.due(*when):
            info, blocks = infos[due.stack], slice(due.start, due.stop)
            if any(new.start <= due.start and due.stop <= new.stop for new in info.fresh_blocks):
                continue
            self._start(due.stack, due.side, blocks, info, options)

    def _refresh_pending(
        self, number: int, preconditioner: Preconditioner, info: StepInfo, options: StepOptions
    ) -> None:
        """First gradients, and roots that an iteration failed at."""
        for side, factor in preconditioner.factors.items():
            if preconditioner.refreshes_at_first:
                for blocks in info.fresh_blocks:
                    self._start(number, side, blocks, info, options, at_once=True)
            if not factor.has_pending:
                continue
            failed = factor.pending_retries(self._live(preconditioner, info))
            if failed is not None:
                self._start(number, side, failed, info, options, retry=True)

    def _start(
        self,
        number: int,
        side: int,
        blocks: Blocks,
        info: StepInfo,
        options: StepOptions,
        retry: bool = False,
        at_once: bool = False,
    ) -> None:
        preconditioner = self._preconditioners[number]
        live = self._live(preconditioner, info)[blocks]
        work = partial(preconditioner.compute, side, blocks, options, retry)
        if at_once or not options.overlap:
            self._install(number, side, blocks, work(), live)
            return
        if self._stream is None and self._streams is not None:
            self._stream = self._streams.Stream(self._device)
        self._pending.append((number, side, blocks, live, _Deferred(work, self._stream)))

    def _install(self, number: int, side: int, blocks: Blocks, result: Any, live: Tensor) -> None:
        first = self._stacks[number].first
        self._preconditioners[number].install(side, blocks, result, live, first)

    @staticmethod
    def _live(preconditioner: Preconditioner, info: StepInfo) -> Tensor:
        """Whether each block may be refreshed at this step, [N]."""
        live = info.live
        if not preconditioner.refreshes_at_first:
            live = live & (info.steps > 1)
        return live.expand(len(preconditioner.weight), 1, 1).reshape(-1)


class _Deferred:
    """A computation whose result, or exception, is taken later.

    On a side stream two rules keep the caching allocator from handing out memory that is in use.
    The inputs belong to the caller's stream, so they are kept alive (by keeping the work) until
    that stream waits for the side stream, at the latest when this object is dropped. The result
    belongs to the side stream: `record_stream` delays its reuse until the reader's stream has
    passed the point at which it was freed.

    Args:
      work: reads tensors that nobody writes before `result`, and returns new ones in any nesting
        of tuples, lists, dicts and named tuples.
      stream: the side stream; None on a device without streams.
    """

    def __init__(self, work: Callable[[], Any], stream: Any) -> None:
        self._work, self._stream = work, stream
        self._error: Exception | None = None
        self._ready: Any = None
        if stream is None:
            self._run()
            return
        self._streams = stream_module(stream.device)
        stream.wait_stream(self._streams.current_stream(stream.device))
        with self._streams.stream(stream):
            self._run()
        self._ready = stream.record_event()

    def _run(self) -> None:
        try:
            self._value = self._work()
        except Exception as error:
            self._error = error

    def result(self) -> Any:
        """The result; the current stream waits for a side stream, the host does not."""
        reader = self._wait()
        if self._error is not None:
            raise self._error
        for leaf in _pytree.tree_leaves(self._value) if reader is not None else ():
            if isinstance(leaf, Tensor) and is_queued(leaf.device):
                leaf.record_stream(reader)
        return self._value

    def _wait(self) -> Any:
        """The current stream, once it waits for the side stream; None where it need not (again)."""
        ready, self._ready = self._ready, None
        if ready is None:
            return None
        reader = self._streams.current_stream(self._stream.device)
        reader.wait_event(ready)
        return reader

    def __del__(self) -> None:
        if not sys.is_finalizing():
            self._wait()
