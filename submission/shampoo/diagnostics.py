"""Health of the preconditioners and size of the state, in numbers, for people and for loggers."""

import math
import statistics
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from .config import parameter_names
from .description import short
from .devices import to_list
from .factor import CONDITION, FAILURES, REFRESHES, RESIDUAL
from .group_stacks import GroupStacks
from .preconditioners import SIDES


class Diagnostics(dict[str, Any]):
    """What `Shampoo.diagnostics` returns; `print` shows it in words.

    Items:
      `skipped_steps`: number of steps with a non-finite gradient, which changed nothing.
      `refreshes`, `failed_roots`: numbers of inverse roots or eigenbases since the beginning that
        were installed, and that could not be trusted and left their predecessor in place.
      `residual`: the largest error of a last refresh, relative and without a unit: how well
        eigenvectors or a root reproduce their factor, see `roots.InverseRoots` and
        `eigenbasis.Bases`.
      `condition`, `condition_median`: of the factors as last refreshed, the largest and the median
        condition number lambda_max / (lambda_min + damping * lambda_max), without a unit. It runs
        from 1, a factor that is a multiple of the identity, to 1 / damping.
      `damped`: the fraction of the factors, 0 to 1, whose smallest eigenvalue is below the damping:
        in some direction that has next to no gradient, the damping alone sets the step.
      `state_bytes`, `bytes_sent_per_step`: bytes of this rank's blocks, and bytes that it sends to
        other ranks in a step.
      `factors`: `residual`, `condition`, `refreshes` and `failed_roots` of this rank's blocks, by
        parameter and side; the largest and the sums over the parameter's blocks.
    """

    def scalars(self, factors: bool = False) -> dict[str, float]:
        """All numbers as one flat dict of floats, for `wandb.log` or `SummaryWriter.add_scalars`.

            wandb.log(optimizer.diagnostics().scalars())
            writer.add_scalars("shampoo", optimizer.diagnostics().scalars(), step)

        Args:
          factors: also those of each parameter, as "factors/<parameter> <side>/<number>".
        """
        flat = {name: float(value) for name, value in self.items() if name != "factors"}
        if factors:
            for factor, numbers in self["factors"].items():
                flat |= {f"factors/{factor}/{key}": float(x) for key, x in numbers.items()}
        return flat

    def __str__(self) -> str:
        """One line for each number, and the factors that failed."""
        median, largest = self["condition_median"], self["condition"]
        lines = [
            f"skipped steps         {self['skipped_steps']:,}",
            f"refreshes             {self['refreshes']:,}, {self['failed_roots']:,} failed",
            f"residual, largest     {self['residual']:.2g}",
            f"condition number      {median:.2g} median, {largest:.2g} largest",
            f"smallest eigenvalue   below the damping in {self['damped']:.0%} of the factors",
            f"state of the blocks   {short(self['state_bytes'])}B on this rank",
            f"sent per step         {short(self['bytes_sent_per_step'])}B by this rank",
        ]
        for factor, numbers in self["factors"].items():
            if numbers["failed_roots"]:
                lines.append(f"failed                {factor}: {numbers['failed_roots']:,}")
        return "\n".join(lines)


def diagnostics(
    skipped_steps: int,
    groups: Sequence[Mapping[str, Any]],
    all_stacks: Sequence[GroupStacks | None],
) -> Diagnostics:
    """What `Shampoo.diagnostics` returns; waits for the device.

    Args:
      skipped_steps: their number.
      groups: the parameter groups.
      all_stacks: of each group; None before its first step.
    """
    factors: dict[str, dict[str, float]] = {}
    conditions: list[float] = []
    damped = 0
    for factor, damping, row in _rows(groups, all_stacks):
        entry = factors.setdefault(
            factor, {"residual": 0.0, "condition": 0.0, "refreshes": 0, "failed_roots": 0}
        )
        entry["residual"] = max(entry["residual"], row[RESIDUAL])
        entry["condition"] = max(entry["condition"], row[CONDITION])
        entry["refreshes"] += int(row[REFRESHES])
        entry["failed_roots"] += int(row[FAILURES])
        if row[REFRESHES] > 0 and math.isfinite(row[CONDITION]):
            conditions.append(row[CONDITION])
            damped += row[CONDITION] * damping > 0.5  # lambda_min < damping * lambda_max
    entries = factors.values()
    return Diagnostics(
        skipped_steps=skipped_steps,
        refreshes=sum(entry["refreshes"] for entry in entries),
        failed_roots=sum(entry["failed_roots"] for entry in entries),
        residual=max((entry["residual"] for entry in entries), default=0.0),
        condition=max(conditions, default=0.0),
        condition_median=statistics.median(conditions or [0.0]),
        damped=damped / max(1, len(conditions)),
        **_burden(all_stacks),
        factors=factors,
    )


def _rows(
    groups: Sequence[Mapping[str, Any]], all_stacks: Sequence[GroupStacks | None]
) -> Iterator[tuple[str, float, list[float]]]:
    """(parameter and side, the group's damping, `KroneckerFactor.health`) of every block."""
    for number, (group, group_stacks) in enumerate(zip(groups, all_stacks, strict=True)):
        labels = parameter_names(group)
        several = len(groups) > 1 and not group.get("param_names")
        for stacks in group_stacks.placed_stacks if group_stacks else ():
            for stack in stacks.stacks:
                factors = stack.preconditioner.factors if stack.preconditioner else {}
                for side, factor in factors.items():
                    rows = to_list(factor.health)
                    for part in stack.spec.parts:
                        label = labels[part.index]
                        label = f"group {number} {label}" if several else label
                        for row in rows[part.offset : part.offset + part.grid.blocks]:
                            yield f"{label} {SIDES[side]}", group["damping"], row


def _burden(all_stacks: Sequence[GroupStacks | None]) -> dict[str, int]:
    """Bytes that this rank keeps of blocks, and that it sends in a step."""
    groups = [stacks for item in all_stacks if item for stacks in item.placed_stacks]
    tensors = [t for stacks in groups for s in stacks.stacks for t in s.state_tensors().values()]
    return {
        "state_bytes": sum(tensor.numel() * tensor.itemsize for tensor in tensors),
        "bytes_sent_per_step": sum(stacks.distributor.bytes_per_step for stacks in groups),
    }
