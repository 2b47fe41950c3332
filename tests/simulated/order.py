"""Streams and events that know what happened before what, by vector clocks.

(Mattern 1989, Virtual time and global states of distributed systems.) A stream counts what it was
given to do. A clock holds, for each stream, how far that one is known to have come: the host learns
by waiting, a stream by waiting for another's event, and from the host with each operator it queues.
"""

import contextlib
import itertools
from collections.abc import Iterator
from typing import Any

import torch

from tests.simulated.record import RECORD

# By the number of a stream, how many of its operators are known to be done.
Clock = dict[int, int]

_numbers = itertools.count()


def merge(clock: Clock, other: Clock) -> None:
    """Takes over what another clock knows."""
    for number, position in other.items():
        if position > clock.get(number, 0):
            clock[number] = position


class Stream:
    """A queue of operators that a device works off in order.

    Attributes:
      number: of this stream.
      clock: what has happened before the next operator.
    """

    def __init__(self, device: Any = None, priority: int = 0) -> None:
        del device, priority
        self.number = next(_numbers)
        self.clock: Clock = {self.number: 0}

    @property
    def device(self) -> torch.device:
        """The one device there is."""
        return torch.device("sim:0")

    @property
    def position(self) -> int:
        """How many operators have been queued."""
        return self.clock[self.number]

    def enqueue(self, name: str) -> int:
        """Queues one operator, whose position is returned."""
        RECORD.queue(name)
        merge(self.clock, HOST)
        self.clock[self.number] += 1
        return self.clock[self.number]

    def wait_event(self, event: "Event") -> None:
        """Makes later operators wait for an event."""
        merge(self.clock, event.clock)

    def wait_stream(self, stream: "Stream") -> None:
        """Makes later operators wait for what another stream has been given."""
        merge(self.clock, stream.clock)

    def record_event(self, event: "Event | None" = None) -> "Event":
        """An event at the end of the queue."""
        event = event or Event()
        event.record(self)
        return event

    def synchronize(self) -> None:
        """Makes the host wait until the queue is empty."""
        RECORD.wait("Stream.synchronize")
        merge(HOST, self.clock)

    def query(self) -> bool:
        """Whether the host knows the queue to be empty; it learns nothing by asking."""
        return HOST.get(self.number, 0) >= self.position


class Event:
    """A mark in the queue of a stream; complete from the start until it is recorded."""

    def __init__(self, enable_timing: bool = False, **options: Any) -> None:
        del enable_timing, options
        self.clock: Clock = {}
        self._queued: int | None = None

    def record(self, stream: Stream | None = None) -> None:
        """Puts the mark at the end of a queue."""
        self.clock = dict((stream or current_stream()).clock)
        self._queued = RECORD.total

    def wait(self, stream: Stream | None = None) -> None:
        """Makes a stream wait for the mark."""
        (stream or current_stream()).wait_event(self)

    def query(self) -> bool:
        """Whether the host knows that the mark was reached."""
        return all(HOST.get(number, 0) >= position for number, position in self.clock.items())

    def synchronize(self) -> None:
        """Makes the host wait until the mark is reached; no wait where it knows that already."""
        if self._queued is None or self.query():
            return
        behind = RECORD.total - self._queued
        if behind:
            RECORD.look("Event.synchronize", behind)
        else:
            RECORD.wait("Event.synchronize")
        merge(HOST, self.clock)


# What the host knows to be done.
HOST: Clock = {}
_DEFAULT = Stream()
# Not by thread: autograd's threads run while the one that called it waits.
_current = [_DEFAULT]


def current_stream(device: Any = None) -> Stream:
    """The stream that takes what the host queues."""
    del device
    return _current[-1]


def default_stream(device: Any = None) -> Stream:
    """The stream outside of all `stream` contexts."""
    del device
    return _DEFAULT


@contextlib.contextmanager
def stream(chosen: Stream | None) -> Iterator[None]:
    """Makes a stream the current one; None leaves it."""
    _current.append(chosen or current_stream())
    try:
        yield
    finally:
        _current.pop()


def drain(cause: str) -> None:
    """Makes the host wait until the current stream's queue is empty."""
    RECORD.wait(cause)
    merge(HOST, current_stream().clock)


def synchronize(device: Any = None) -> None:
    """Makes the host wait for the current stream, the only one with work that it may not know."""
    del device
    drain("synchronize")
