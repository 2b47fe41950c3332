"""What a pretended device has seen: where the host waited for it, and what was done in no order."""

import dataclasses
import traceback
from pathlib import Path
from typing import Any

_ROOT = Path(__file__).parents[2]
_OWN = Path(__file__).parent


@dataclasses.dataclass(frozen=True)
class Wait:
    """One wait of the host for the device.

    Attributes:
      cause: the operator or method that waited.
      place: the innermost lines of the repository that called it, "file:line < file:line".
      behind: operators queued since what was waited for; 0 where the queue ran empty.
      before: operators queued since the record was last cleared.
    """

    cause: str
    place: str
    behind: int = 0
    before: int = 0

    @property
    def is_of_earlier(self) -> bool:
        """Whether what was waited for had been queued when the record was last cleared."""
        return self.behind > 0 and self.behind >= self.before


class OrderError(RuntimeError):
    """Memory was read or written by a stream, or by the host, that had not waited for another."""


class DeviceError(RuntimeError):
    """An operator was given tensors of two devices."""


@dataclasses.dataclass(frozen=True)
class Taped:
    """One operator as a graph would keep it.

    Attributes:
      name: with its overload.
      tensors: for each one its storage (kept, so that no other takes its place) and what it is of
        that: offset, shape, strides and dtype.
      arguments: all others, as text.
    """

    name: str
    tensors: tuple[tuple[Any, tuple[Any, ...]], ...]
    arguments: str


@dataclasses.dataclass
class Record:
    """What has happened since it was last cleared.

    Attributes:
      waits: those in which the queue of a stream ran empty.
      looks: waits for an event, behind which the queue goes on.
      faults: what cannot be raised where it happens: memory freed while a stream used it.
      operators: how many were queued.
      names: of them, without overloads.
      total: the same since the beginning.
      tape: the operators in order; None, unless it is set to a list.
    """

    waits: list[Wait] = dataclasses.field(default_factory=list)
    looks: list[Wait] = dataclasses.field(default_factory=list)
    faults: list[str] = dataclasses.field(default_factory=list)
    operators: int = 0
    names: set[str] = dataclasses.field(default_factory=set)
    total: int = 0
    tape: list[Taped] | None = None

    def queue(self, name: str) -> None:
        """Counts an operator."""
        self.names.add(name)
        self.operators += 1
        self.total += 1

    def clear(self) -> None:
        """Forgets all but faults and the total."""
        self.waits.clear()
        self.looks.clear()
        self.names.clear()
        self.operators = 0

    def wait(self, cause: str) -> None:
        """Notes that the host waits until a queue is empty."""
        self.waits.append(Wait(cause, place()))

    def look(self, cause: str, behind: int) -> None:
        """Notes that the host waits for an event with so many operators queued behind it."""
        self.looks.append(Wait(cause, place(), behind, self.operators))


RECORD = Record()


def place() -> str:
    """The two innermost lines of the repository, this package's aside."""
    lines = []
    for frame in reversed(traceback.extract_stack()):
        path = Path(frame.filename)
        is_own = path.parent == _OWN and not path.name.startswith("test_")
        if path.is_relative_to(_ROOT) and not is_own and ".venv" not in path.parts:
            lines.append(f"{path.name}:{frame.lineno}")
    return " < ".join(lines[:2])
