"""Which factors are refreshed at which step; host arithmetic only, no tensors."""

import dataclasses
from collections.abc import Iterable


def is_due(step: int, interval: int) -> bool:
    """Whether every factor is refreshed together at a step, counted from 1.

    Every `interval` steps, and at each power of two before the first: the earliest factors
    change the most, and no step goes without a preconditioner.

    >>> [step for step in range(1, 31) if is_due(step, 10)]
    [1, 2, 4, 8, 10, 20, 30]
    """
    return _is_early(step, interval) or step % interval == 0


def _is_early(step: int, interval: int) -> bool:
    return step < interval and step & (step - 1) == 0


@dataclasses.dataclass(frozen=True)
class Turn:
    """A contiguous range of one stack's blocks whose factor of one side is due.

    Attributes:
      stack: index of the stack.
      side: 0 for the left factor, 1 for the right.
      start, stop: first block and the one after the last.
    """

    stack: int
    side: int
    start: int
    stop: int


class Schedule:
    """When the factors of some stacks have their turns.

    A factor of dimension d costs d^3. In "staggered" mode all factors lie in order on a line as
    long as their total cost, which the phases of an interval cut into equal parts: a factor
    belongs to the part in which it begins, so no phase has more work than the mean and one factor.

    Args:
      units: (stack, side, blocks, dimension) of each stack's factors of one side, in order.

    >>> schedule = Schedule([(0, 0, 4, 8), (0, 1, 4, 8)])
    >>> schedule.turns(12, 4, "together")
    (Turn(stack=0, side=0, start=0, stop=4), Turn(stack=0, side=1, start=0, stop=4))
    >>> for step in range(12, 16):
    ...     print(*schedule.turns(step, 4, "staggered"))
    Turn(stack=0, side=0, start=0, stop=2)
    Turn(stack=0, side=0, start=2, stop=4)
    Turn(stack=0, side=1, start=0, stop=2)
    Turn(stack=0, side=1, start=2, stop=4)
    """

    def __init__(self, units: Iterable[tuple[int, int, int, int]]) -> None:
        self._units = [unit for unit in units if unit[2]]
        self._all = tuple(Turn(stack, side, 0, blocks) for stack, side, blocks, _ in self._units)
        self._interval = 0
        self._phases: dict[int, tuple[Turn, ...]] = {}

    def turns(self, step: int, interval: int, mode: str) -> tuple[Turn, ...]:
        """What is due at a step; costs the host no more than handing it over.

        Args:
          step: the group's step count, from 1.
          interval: steps between two refreshes of one factor; a new one costs a new table.
          mode: "together", all at the steps of `is_due`; or "staggered", all at powers of two
            below the interval, and at every step its share.

        Raises:
          ValueError: for another mode.
        """
        if mode not in ("together", "staggered"):
            raise ValueError(f'refresh must be "together" or "staggered", got {mode!r}.')
        if mode == "together":
            return self._all if is_due(step, interval) else ()
        if _is_early(step, interval):
            return self._all
        if interval != self._interval:
            self._interval, self._phases = interval, self._cut(interval)
        return self._phases.get(step % interval, ())

    def _cut(self, interval: int) -> dict[int, tuple[Turn, ...]]:
        """Turns by phase; exact integers, so that every rank cuts alike."""
        total = sum(blocks * dimension**3 for _, _, blocks, dimension in self._units)
        phases: dict[int, list[Turn]] = {}
        before = 0
        for stack, side, blocks, dimension in self._units:
            cost = dimension**3
            start = 0
            while start < blocks:
                phase = interval * (before + start * cost) // total
                left_of_next = (phase + 1) * total - interval * before
                stop = min(blocks, -(-left_of_next // (interval * cost)))
                phases.setdefault(phase, []).append(Turn(stack, side, start, stop))
                start = stop
            before += blocks * cost
        return {phase: tuple(turns) for phase, turns in phases.items()}
