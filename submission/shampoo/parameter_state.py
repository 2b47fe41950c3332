"""The state of one parameter: rows of stacks by the names that checkpoints use."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from ..plan.blocking import ParameterPlan, Part, parts_of, stack_specs
from .averager import Averager
from .config import StateConfig, check_saved
from .placed_stacks import PlacedStacks
from .preconditioners import SIDES
from .stack import MOMENTS, Stack, matrix_view, needed_moments, stack_view

# State with one element per element of the parameter; all other but `step` has one row per block.
_ELEMENTWISE = (*MOMENTS, "basis_sq")


def stacked_parts(
    placed_stacks: Sequence[PlacedStacks],
) -> Iterator[tuple[PlacedStacks, Stack, Part]]:
    """Every part of every stack, with the stacks it is among."""
    for group in placed_stacks:
        for stack in group.stacks:
            for part in stack.spec.parts:
                yield group, stack, part


def is_saved_name(name: str) -> bool:
    """Whether `save` writes state of that name.

    >>> [name for name in ("step", "left_root.0", "left.lora", "slow.0") if is_saved_name(name)]
    ['step', 'left_root.0']
    """
    kind, _, number = name.partition(".")
    is_of_blocks = number.isdigit() and kind.startswith((*SIDES, "factor_weight"))
    return name == "step" or name in _ELEMENTWISE or is_of_blocks


def entries_of(stack: Stack, part: Part) -> Iterator[tuple[str, Tensor]]:
    """Names and rows of all that is saved of a part."""
    for name, tensor in stack.state_tensors().items():
        is_per_parameter = name == "step" or name in _ELEMENTWISE
        rows = tensor.narrow(0, part.offset, part.grid.blocks)
        yield name if is_per_parameter else f"{name}.{part.number}", rows


def save_rows(key: str, rows: Tensor, part: Part, parameter: Tensor, entry: Any) -> None:
    """Copies the rows [N, ...] of a part's state into `entry[key]`, see `checkpoint.save`."""
    if key == "step":
        entry[key] = rows[0].reshape(()).clone()
    elif key in _ELEMENTWISE:
        # Zero where another rank owns the blocks.
        if key not in entry:
            entry[key] = torch.zeros(parameter.shape, dtype=rows.dtype, device=rows.device)
        matrix = entry[key].view(part.matrix_shape)
        matrix_view(part.grid, matrix).copy_(stack_view(part.grid, rows))
    elif part.grid.blocks == part.total:
        entry[key] = rows.clone()
    else:
        if key not in entry:
            entry[key] = rows.new_zeros(part.total, *rows.shape[1:])
        entry[key].narrow(0, part.start, part.grid.blocks).copy_(rows)


def load_rows(key: str, rows: Tensor, part: Part, parameter: Tensor, value: Any) -> None:
    """Writes what `save_rows` has saved under `key` to the rows [N, ...] of a part.

    Raises:
      ValueError: if it is missing or its shape does not fit.
    """
    shape: tuple[int, ...] = ()
    if key in _ELEMENTWISE:
        shape = tuple(parameter.shape)
    elif key != "step":
        shape = (part.total, *rows.shape[1:])
    elif isinstance(value, (int, float)):
        value = torch.tensor(float(value))
    value = check_saved(value, key, shape, parameter)
    if key in _ELEMENTWISE:
        matrix = value.reshape(part.matrix_shape)
        stack_view(part.grid, rows).copy_(matrix_view(part.grid, matrix))
    elif key == "step":
        rows.copy_(value)
    else:
        rows.copy_(value.narrow(0, part.start, part.grid.blocks))


def names_of(plan: ParameterPlan, config: StateConfig, group: Mapping[str, Any]) -> list[str]:
    """The names of all that ranks save of a parameter together, from shapes and options alone."""
    names: dict[str, None] = {}
    for spec in stack_specs(parts_of(0, plan)):
        steps = torch.empty(spec.blocks, 1, 1, device="meta")
        stack = Stack(spec, config, steps, steps.dtype, steps.device)
        stack.make_room(needed_moments(group["betas"], group["momentum"]))
        names.update(dict.fromkeys(n for part in spec.parts for n, _ in entries_of(stack, part)))
    return list(names)


class ParameterState:
    """The entry of one parameter in `Optimizer.state`, by the names of `checkpoint.save`.

    Reading copies rows of the stacks, assigning writes into them. Entries under other names belong
    to other code and are saved too. Not a `Mapping`: trainers that move state to a device replace
    those by dicts of what they read, and would keep useless copies.

    Where ranks share the blocks, this has what this rank owns; only iterating gives the names of
    what any rank has, as `torch.distributed.checkpoint` needs them for flattened state dicts.

    Attributes:
      foreign: the entries of other code.
      remote_names: gives the names of what any rank has.
    """

    def __init__(self, parameter: Tensor, averager: Averager | None) -> None:
        self.remote_names: Callable[[], list[str]] = list
        self._parameter, self._averager = parameter, averager
        self._parts: list[tuple[PlacedStacks, Stack, Part]] = []
        self.foreign: dict[str, Any] = {}

    @classmethod
    def of(
        cls,
        placed_stacks: Sequence[PlacedStacks],
        parameters: Sequence[Tensor],
        averager: Averager | None,
    ) -> "dict[Tensor, ParameterState]":
        """One for each parameter that is in a stack."""
        entries: dict[Tensor, ParameterState] = {}
        for row in stacked_parts(placed_stacks):
            parameter = parameters[row[-1].index]
            entries.setdefault(parameter, cls(parameter, averager))._parts.append(row)
        return entries

    def keys(self) -> list[str]:
        """All names of what this rank has."""
        keys = {key: None for _, stack, part in self._parts for key, _ in entries_of(stack, part)}
        return list({**keys, **self._averages(), **self.foreign})

    def items(self) -> list[tuple[str, Any]]:
        """Names and values."""
        return [(key, self[key]) for key in self.keys()]

    def values(self) -> list[Any]:
        """Copies of the tensors."""
        return [self[key] for key in self.keys()]

    def get(self, key: str, default: Any = None) -> Any:
        """The value of that name, if there is one."""
        try:
            return self[key]
        except KeyError:
            return default

    def __iter__(self) -> Iterator[str]:
        return iter(dict.fromkeys([*self.keys(), *self.remote_names()]))

    def __len__(self) -> int:
        return len(self.keys())

    def __contains__(self, key: object) -> bool:
        return key in self.keys()

    def __getitem__(self, key: str) -> Any:
        if key in self._averages():
            return self._averages()[key].clone()
        entry: dict[str, Any] = {}
        for rows, part in self._rows(key):
            save_rows(key, rows, part, self._parameter, entry)
        return entry[key] if key in entry else self.foreign[key]

    def __setitem__(self, key: str, value: Any) -> None:
        if key in self._averages():
            assert self._averager is not None
            shard = self._averager.shard(self._parameter)
            self._averager.load(shard, {**self._averages(), key: value})
            return
        stored = list(self._rows(key))
        for rows, part in stored:
            load_rows(key, rows, part, self._parameter, value)
        for stacks, *_ in self._parts if key == "step" else ():
            stacks.counters.mark_written()
        if not stored:
            self.foreign[key] = value

    def __reduce__(self) -> Any:
        return dict, (self.items(),)

    def _rows(self, key: str) -> Iterator[tuple[Tensor, Part]]:
        """What this rank has of a name, after refreshes that run beside training."""
        for stacks, stack, part in self._parts:
            stacks.refresher.collect()
            for name, rows in entries_of(stack, part):
                if name == key:
                    yield rows, part

    def _averages(self) -> dict[str, Tensor]:
        if self._averager is None:
            return {}
        return self._averager.state_tensors(self._averager.shard(self._parameter))


def foreign_entries(entry: Any) -> dict[str, Any]:
    """The entries of `Optimizer.state` of a parameter that the stacks do not store."""
    return entry.foreign if isinstance(entry, ParameterState) else entry
