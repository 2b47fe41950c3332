"""Memory of a pretended device, and pinned memory of the host: who used it, in what order."""

import weakref

from torch import Tensor

from tests.simulated.order import HOST, Stream
from tests.simulated.record import RECORD, OrderError, place

# A stream's number and a position in its queue.
Use = tuple[int, int]


class Memory:
    """One storage of the device.

    Args:
      home: the stream that was current when it was allocated, which may be given it again as soon
        as it is free.
    """

    def __init__(self, home: Stream) -> None:
        self._home = home
        self._written: Use = (home.number, home.position)
        self._reads: dict[int, int] = {}
        self._used: dict[int, int] = {}
        self._recorded: set[int] = set()

    def read(self, stream: Stream, operator: str) -> None:
        """Notes a read by the last operator of a stream.

        Raises:
          OrderError: if the last write is not known to be done.
        """
        self._check(stream, self._written, f"{operator} reads what stream {{}} still writes")
        self._reads[stream.number] = self._used[stream.number] = stream.position

    def write(self, stream: Stream, operator: str) -> None:
        """Notes a write by the last operator of a stream.

        Raises:
          OrderError: if an earlier use is not known to be done.
        """
        self._check(stream, self._written, f"{operator} overwrites what stream {{}} still writes")
        for use in self._reads.items():
            self._check(stream, use, f"{operator} overwrites what stream {{}} still reads")
        self._reads.clear()
        self._written = stream.number, stream.position
        self._used[stream.number] = stream.position

    def _check(self, stream: Stream, use: Use, message: str) -> None:
        number, position = use
        if stream.clock.get(number, 0) < position:
            raise OrderError(f"{message.format(number)}, on stream {stream.number}")

    def record_stream(self, stream: Stream) -> None:
        """As `Tensor.record_stream`: the memory is not given away before that stream is done."""
        self._recorded.add(stream.number)

    def __del__(self) -> None:
        for number, position in self._used.items():
            known = self._home.clock.get(number, 0) >= position or HOST.get(number, 0) >= position
            if not known and number != self._home.number and number not in self._recorded:
                RECORD.faults.append(
                    f"memory of stream {self._home.number} was freed while stream {number} "
                    f"may use it ({place()})"
                )


class PinnedMemory:
    """One storage of the host that the device can copy to and from while the host goes on."""

    def __init__(self) -> None:
        self._incoming: Use | None = None
        self._outgoing: list[Use] = []

    def fill(self, stream: Stream) -> None:
        """Notes a copy from the device."""
        self._incoming = stream.number, stream.position

    def drain(self, stream: Stream) -> None:
        """Notes a copy to the device."""
        self._outgoing.append((stream.number, stream.position))

    def read(self, operator: str) -> None:
        """Raises OrderError if the host may not have what was copied to it."""
        if self._incoming is not None and not _is_known(self._incoming):
            raise OrderError(f"the host reads ({operator}) before the event of the copy")

    def write(self, operator: str) -> None:
        """Raises OrderError if a copy may still be under way."""
        self.read(operator)
        if not all(map(_is_known, self._outgoing)):
            raise OrderError(f"the host overwrites ({operator}) what is being copied")
        self._outgoing.clear()


def _is_known(use: Use) -> bool:
    number, position = use
    return HOST.get(number, 0) >= position


_memories: "weakref.WeakValueDictionary[int, Memory]" = weakref.WeakValueDictionary()
_pinned: "weakref.WeakValueDictionary[int, PinnedMemory]" = weakref.WeakValueDictionary()


def memory_of(raw: Tensor, stream: Stream) -> Memory:
    """The memory that a tensor's values are in, new if they are new."""
    key = raw.untyped_storage()._cdata
    memory = _memories.get(key)
    if memory is None:
        memory = _memories[key] = Memory(stream)
    return memory


def pinned_memory_of(raw: Tensor, make: bool = False) -> PinnedMemory | None:
    """The pinned memory that a tensor's values are in; None, unless `make`, if it is pageable."""
    key = raw.untyped_storage()._cdata
    memory = _pinned.get(key)
    if memory is None and make:
        memory = _pinned[key] = PinnedMemory()
    return memory
