"""What an optimizer does, in words for people and in numbers for monitoring."""

from collections.abc import Mapping, Sequence
from typing import Any

from ..plan.blocking import plan_parameter
from .config import FIXED, OPTIONS, StateConfig, parameter_names
from .factor import CONDITION, FAILURES, REFRESHES, RESIDUAL
from .group_stacks import GroupStacks

_METHODS = {"shampoo": "Shampoo", "soap": "SOAP", "kl_shampoo": "KL-Shampoo"}
_DIAGONALS = {"sgd": "SGD", "adagrad": "AdaGrad", "rmsprop": "RMSprop", "adam": "AdamW"}
_ONE_SIDE = {(True, True): "", (True, False): " left only", (False, True): " right only"}


def lines(group: Mapping[str, Any], config: StateConfig) -> list[str]:
    """For every parameter of a group its blocks, or why a diagonal method moves it."""
    rows = []
    for name, parameter in zip(parameter_names(group), group["params"], strict=True):
        plan = plan_parameter(parameter.shape, config)
        if plan.reason:
            treatment = f"{_DIAGONALS[config.diagonal]} ({plan.reason})"
        else:
            blocks = [
                f"{grid.blocks} x [{grid.height}, {grid.width}]{_ONE_SIDE[grid.sides]}"
                for grid in plan.grids
            ]
            treatment = f"{_METHODS[config.method]}, {' + '.join(blocks)}"
        rows.append(f"{name} {list(parameter.shape)}: {treatment}")
    return rows


def health(
    groups: Sequence[Mapping[str, Any]], all_stacks: Sequence[GroupStacks | None]
) -> dict[str, dict[str, float]]:
    """By parameter and side, over its blocks: see `Shampoo.diagnostics`. Waits for the device."""
    factors: dict[str, dict[str, float]] = {}
    for number, (group, group_stacks) in enumerate(zip(groups, all_stacks, strict=True)):
        labels = parameter_names(group)
        several = len(groups) > 1 and not group.get("param_names")
        for stacks in group_stacks.stack_groups if group_stacks else ():
            for stack, which, table in stacks.refresher.health():
                rows = table.tolist()
                for part in stack.spec.parts:
                    label = labels[part.index]
                    label = f"group {number} {label}" if several else label
                    entry = factors.setdefault(
                        f"{label} {('left', 'right')[which]}",
                        {"residual": 0.0, "condition": 0.0, "refreshes": 0, "failed_roots": 0},
                    )
                    for row in rows[part.offset : part.offset + part.grid.blocks]:
                        entry["residual"] = max(entry["residual"], row[RESIDUAL])
                        entry["condition"] = max(entry["condition"], row[CONDITION])
                        entry["refreshes"] += int(row[REFRESHES])
                        entry["failed_roots"] += int(row[FAILURES])
    return factors


def burden(all_stacks: Sequence[GroupStacks | None]) -> dict[str, int]:
    """Bytes that this rank keeps of blocks, and that it sends in a step."""
    groups = [stacks for item in all_stacks if item for stacks in item.stack_groups]
    tensors = [t for stacks in groups for s in stacks.stacks for t in s.state_tensors().values()]
    return {
        "state_bytes": sum(tensor.numel() * tensor.itemsize for tensor in tensors),
        "bytes_sent_per_step": sum(stacks.distributor.bytes_per_step for stacks in groups),
    }


def diagnostics(
    groups: Sequence[Mapping[str, Any]], all_stacks: Sequence[GroupStacks | None]
) -> dict[str, Any]:
    """Health of the preconditioners and size of the state; waits for the device.

    Returns:
      `refreshes`, `failed_roots`: inverse roots or eigenbases that were installed, and that could
      not be trusted and left their predecessor, over all blocks.
      `residual`, `condition`: the largest of the last refreshes, see `roots.InverseRoots` and
      `eigenbasis.Bases`.
      `state_bytes`, `bytes_sent_per_step`: of this rank's blocks, and to other ranks.
      `factors`: the same numbers as above, by parameter and side, of this rank's blocks.
    And `Shampoo.diagnostics` adds `skipped_steps`: those with a non-finite gradient.
    """
    factors = health(groups, all_stacks)
    rows = factors.values()
    return {
        "refreshes": sum(row["refreshes"] for row in rows),
        "failed_roots": sum(row["failed_roots"] for row in rows),
        "residual": max((row["residual"] for row in rows), default=0.0),
        "condition": max((row["condition"] for row in rows), default=0.0),
        **burden(all_stacks),
        "factors": factors,
    }


def text(groups: Sequence[Mapping[str, Any]]) -> list[str]:
    """The lines of `Shampoo.__repr__`: options of each group, and treatment of each parameter."""
    rows = []
    for number, group in enumerate(groups):
        options = ", ".join(f"{name}={group[name]}" for name in OPTIONS)
        rows.append(f"  group {number}: {options}")
        config = StateConfig(**{name: group[name] for name in FIXED})
        rows.extend(f"    {line}" for line in lines(group, config))
    return rows
