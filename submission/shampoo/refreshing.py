"""Carrying out refreshes: what is due, what has moved, what failed, here or beside training."""

import warnings
from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor

from ..plan.refresh import RefreshSchedule
from .counters import Tick
from .overlap import Background
from .preconditioners import Preconditioner
from .sides import Side
from .stacks import Stack
from .symmetric import Blocks


class Refresher:
    """Refreshes the preconditioners of some stacks.

    Args:
      stacks: all stacks of a group on one device.
      device: theirs.
      schedule: of all factors of the parameter group; None for these stacks alone.
    """

    def __init__(
        self,
        stacks: Sequence[Stack],
        device: torch.device,
        schedule: RefreshSchedule | None = None,
    ) -> None:
        self._stacks = stacks
        layouts = [stack.layout for stack in stacks]
        schedule = schedule or RefreshSchedule(layouts)
        self._schedule = schedule.restricted_to(layouts)
        self._background: Background[Any] = Background(device)
        self._pending: list[tuple[Stack, int, Blocks, Tensor]] = []

    def collect(self) -> None:
        """Takes over what was computed beside training.

        What raised an exception there counts as not to be trusted, with a RuntimeWarning.
        """
        pending, self._pending = self._pending, []
        for job, result in zip(pending, self._background.collect(), strict=True):
            stack, side, blocks, live = job
            if isinstance(result, Exception):
                failure = f"{type(result).__name__}: {result}"
                warnings.warn(
                    f"A refresh failed, and what it would replace is kept. {failure}",
                    RuntimeWarning,
                    stacklevel=2,
                )
                self._side(stack, side).fail(blocks, live)
            else:
                stack.refreshed(side, blocks, result, live)

    def refresh(self, ticks: Sequence[Tick], options: Sequence[Mapping[str, Any]]) -> None:
        """Refreshes what is due at this step.

        Args:
          ticks: what the step means for each stack.
          options: for each stack; of all, `refresh_step`, the interval and the mode are the same.
        """
        for number, stack in enumerate(self._stacks):
            if stack.preconditioner is not None:
                self._leftovers(stack, stack.preconditioner, ticks[number], options[number])
        if not options:
            return
        group = options[0]
        for due in self._schedule.due(
            group["refresh_step"], group["refresh_interval"], group["refresh"]
        ):
            tick = ticks[due.stack]
            blocks = slice(due.start, due.stop)
            if any(
                fresh.start <= due.start and due.stop <= fresh.stop for fresh in tick.fresh_blocks
            ):
                continue
            stack = self._stacks[due.stack]
            if group["refresh_tolerance"] > 0:
                side = self._side(stack, due.side)
                side.check(blocks, options[due.stack], self._live(stack, tick)[blocks])
            else:
                self._do(stack, due.side, blocks, tick, options[due.stack])

    def _leftovers(
        self,
        stack: Stack,
        preconditioner: Preconditioner,
        tick: Tick,
        options: Mapping[str, Any],
    ) -> None:
        """First gradients, blocks that moved, and roots that an iteration failed at."""
        for which, side in enumerate(preconditioner.sides):
            if side is None:
                continue
            if preconditioner.refreshes_at_first:
                for blocks in tick.fresh_blocks:
                    self._do(stack, which, blocks, tick, {**options, "overlap": False})
            live = self._live(stack, tick)
            moved = side.moved(live)
            if moved is not None:
                self._do(stack, which, moved, tick, options)
            failed = side.retries(live)
            if failed is not None:
                self._do(stack, which, failed, tick, options, retry=True)

    def _do(
        self,
        stack: Stack,
        which: int,
        blocks: Blocks,
        tick: Tick,
        options: Mapping[str, Any],
        retry: bool = False,
    ) -> None:
        live = self._live(stack, tick)[blocks]
        work = partial(self._side(stack, which).compute, blocks, options, retry)
        if options["overlap"]:
            self._background.submit(work)
            self._pending.append((stack, which, blocks, live))
        else:
            stack.refreshed(which, blocks, work(), live)

    @staticmethod
    def _side(stack: Stack, which: int) -> Side:
        """A side that has factors."""
        side = stack.preconditioner.sides[which] if stack.preconditioner else None
        assert side is not None
        return side

    def _live(self, stack: Stack, tick: Tick) -> Tensor:
        """Whether each block may be refreshed at this step, [N]."""
        assert stack.preconditioner is not None
        live = tick.live
        if not stack.preconditioner.refreshes_at_first:
            live = live & (tick.steps > 1)
        return live.expand(stack.layout.blocks, 1, 1).reshape(-1)

    def health(self) -> Iterable[tuple[Stack, int, Tensor]]:
        """The health of every side, see `Side`."""
        for stack in self._stacks:
            for which, side in enumerate(
                stack.preconditioner.sides if stack.preconditioner else ()
            ):
                if side is not None:
                    yield stack, which, side.health
