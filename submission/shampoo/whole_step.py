"""One step of all parameter groups, which take it or skip it together."""

from collections.abc import Callable, Sequence
from typing import Any

from torch import Tensor

from . import agreement
from .devices import is_capturing
from .group_state import GroupState
from .parameters import warn_of_meta
from .placement import Placements
from .skipped import SkippedSteps
from .states import Groups, GroupStates


def take(
    groups: Groups,
    states: GroupStates,
    optimizer_state: Any,
    placements: Placements,
    skipped: SkippedSteps,
    grad_scale: Tensor | None,
    found_inf: Tensor | None,
) -> None:
    """Takes a step, without refreshes where the groups leave them out.

    Args:
      groups: of the optimizer.
      states: theirs.
      optimizer_state: `Optimizer.state`.
      placements: tells where parameters lie.
      skipped: counts steps with a gradient that is not finite, which change nothing.
      grad_scale, found_inf: of a `torch.amp.GradScaler` that leaves its work to the step.
    """
    known = states.of(groups, optimizer_state)
    active = []
    for group, state in zip(groups, known, strict=True):
        state.check_training()
        indices = [i for i, p in enumerate(group["params"]) if p.grad is not None and p.numel()]
        stacked = state.stacked_indices(group["params"], indices, placements)
        if stacked:
            states.ensure_stacks(group, state, stacked, optimizer_state)
            active.append((group, state, indices))
    agreement.verify(groups, known, placements.config)
    for group, state, indices in active:
        state.begin(group, indices, grad_scale)
    if not any(indices for _, _, indices in active):
        warn_of_meta(groups)
    if not active:
        return
    flags = [flag for _, state, _ in active for flag in state.gather()]
    together = [process_group for _, state, _ in active for process_group in state.process_groups]
    finite = skipped.all_finite(flags, found_inf, together)
    is_known = not leaves_refreshes(groups) and all(state.is_on_host for _, state, _ in active)
    for _, state, _ in active:
        if is_known and not finite:
            state.skip()
        else:
            state.apply(finite, is_known)


def leaves_refreshes(groups: Groups) -> bool:
    """Whether steps leave refreshes to `refresh`, the option "capturable".

    Raises:
      ValueError: if some groups do and others do not.
    """
    chosen = {group["capturable"] for group in groups}
    if len(chosen) > 1:
        raise ValueError("capturable must be the same in all parameter groups.")
    return True in chosen


def refresh_after(groups: Groups, refresh: Callable[[], None]) -> None:
    """Calls `refresh` after a step that leaves it out and runs now, as in a graph it does not."""
    if leaves_refreshes(groups):
        devices = {p.device for group in groups for p in group["params"][:1]}
        if not any(map(is_capturing, devices)):
            refresh()


def refresh(groups: Groups, states: Sequence[GroupState]) -> None:
    """Counts a step that left refreshes out, and does what is due.

    Raises:
      RuntimeError: if steps do not leave them out.
    """
    if not leaves_refreshes(groups):
        raise RuntimeError("refresh() is for capturable=True; without it step() refreshes.")
    for group, state in zip(groups, states, strict=True):
        state.refresh(group)
