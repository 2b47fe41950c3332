"""From stacks to per-parameter state and back: what is saved does not know of stacks."""

from collections.abc import Container, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor

from ..plan.blocking import Part
from .averaging import Averager
from .counters import Counters
from .saved import checked
from .stack_group import StackGroup
from .stacks import Stack, matrix_view, stack_view

# Held once per element of the parameter; everything else but `step` is held once per block.
_ELEMENTWISE = ("exp_avg", "exp_avg_sq", "basis_sq", "momentum_buffer")


def save(stack_groups: Sequence[StackGroup], parameters: Sequence[Tensor], state: Any) -> None:
    """Writes copies of the stacks' rows into `state[parameter]`.

    Each parameter that has had a gradient has `step`, a float scalar, and in its own shape
    whichever there are of `exp_avg`, `exp_avg_sq` (of grafting, or of the diagonal method),
    `basis_sq` (SOAP's) and `momentum_buffer`. For the i-th of its grids it has `left.i`, `right.i`
    and what belongs to them, `left_root.i`, `left_basis.i` and so on, one row per block; symmetric
    matrices are rows of `symmetric.pieces`. Moments of SOAP and KL-Shampoo are in the basis.
    """
    for group in stack_groups:
        group.refresher.collect()
    for counters, stack, member in _members(stack_groups):
        if not counters.has_seen(member):
            continue
        parameter = parameters[member.index]
        for key, rows in _entries(stack, member):
            _save_rows(key, rows, member, parameter, state[parameter])


def load(
    stack_groups: Sequence[StackGroup],
    parameters: Sequence[Tensor],
    state: Any,
    new_blocks: bool = False,
) -> None:
    """Fills stacks from `state[parameter]`; parameters without a `step` there start anew.

    Args:
      new_blocks: blocks are others than those that the state is of, whose moments are in the
        parameters' coordinates; factors then begin with the next gradient, as if it was the first.

    Raises:
      ValueError: if a tensor is missing or its shape does not fit.
    """
    for counters, stack, member in _members(stack_groups):
        parameter = parameters[member.index]
        entry = state.get(parameter, ())
        if "step" not in entry:
            continue
        if not new_blocks:
            counters.mark_seen(member)
            _load_member(stack, member, parameter, entry)
        elif _load_moments(stack, member, parameter, entry) and stack.preconditioner is None:
            counters.mark_seen(member)
    for group in stack_groups:
        for stack in group.stacks:
            stack.restore()


def _load_member(stack: Stack, member: Part, parameter: Tensor, entry: Any) -> None:
    make_room(stack, entry)
    for key, rows in _entries(stack, member):
        if key in ("exp_avg", "momentum_buffer") and key not in entry:
            continue  # made for another parameter of the stack
        _load_rows(key, rows, member, parameter, entry.get(key))


def _load_moments(stack: Stack, member: Part, parameter: Tensor, entry: Any) -> bool:
    """Loads what does not belong to blocks; False where there are no second moments to go on with.

    Those of SOAP are what Adam would have, where the identity is the basis.
    """
    second = entry.get("exp_avg_sq", entry.get("basis_sq"))
    wanted = [key for key, _ in _entries(stack, member)]
    if second is None and ("exp_avg_sq" in wanted or "basis_sq" in wanted):
        return False
    found = {"exp_avg_sq": second, "basis_sq": second, **entry}
    make_room(stack, entry)
    for key, rows in _entries(stack, member):
        if "." not in key and key in found:
            _load_rows(key, rows, member, parameter, found[key])
    return True


def make_room(stack: Stack, names: Container[str]) -> None:
    """Makes those of the named moments that stacks have only once they are needed."""
    if "exp_avg" in names:
        stack.ensure_first()
    if "momentum_buffer" in names:
        stack.ensure_velocity()


def is_ours(name: str) -> bool:
    """Whether state of that name is what `save` writes."""
    return name == "step" or name in _ELEMENTWISE or "." in name


def _entries(stack: Stack, member: Part) -> Iterator[tuple[str, Tensor]]:
    """Names and rows of all that is saved of a member."""
    for name, tensor in stack.state_tensors().items():
        whole = name == "step" or name in _ELEMENTWISE
        rows = tensor.narrow(0, member.offset, member.grid.blocks)
        yield name if whole else f"{name}.{member.number}", rows


def _save_rows(key: str, rows: Tensor, member: Part, parameter: Tensor, entry: Any) -> None:
    if key == "step":
        entry[key] = rows[0].reshape(()).clone()
    elif key in _ELEMENTWISE:
        # Zero where another rank owns the blocks.
        if key not in entry:
            entry[key] = torch.zeros(parameter.shape, dtype=rows.dtype, device=rows.device)
        matrix = entry[key].view(member.matrix_shape)
        matrix_view(member.grid, matrix).copy_(stack_view(member.grid, rows))
    elif member.grid.blocks == member.total:
        entry[key] = rows.clone()
    else:
        if key not in entry:
            entry[key] = rows.new_zeros(member.total, *rows.shape[1:])
        entry[key].narrow(0, member.start, member.grid.blocks).copy_(rows)


def _load_rows(key: str, rows: Tensor, member: Part, parameter: Tensor, value: Any) -> None:
    shape: tuple[int, ...] = ()
    if key in _ELEMENTWISE:
        shape = tuple(parameter.shape)
    elif key != "step":
        shape = (member.total, *rows.shape[1:])
    value = checked(value, key, shape, parameter)
    if key in _ELEMENTWISE:
        matrix = value.reshape(member.matrix_shape)
        stack_view(member.grid, rows).copy_(matrix_view(member.grid, matrix))
    elif key == "step":
        rows.copy_(value)
    else:
        rows.copy_(value.narrow(0, member.start, member.grid.blocks))


def others(entry: Any) -> dict[str, Any]:
    """What `Optimizer.state` holds of a parameter beside what the stacks hold."""
    return entry.others if isinstance(entry, ParameterState) else entry


class ParameterState:
    """What `Optimizer.state` shows of one parameter, by the names of `save`.

    Reading gives a copy of what the stacks hold now, assigning writes into them. What somebody else
    keeps here, under other names, is saved with it. Not a `Mapping`: trainers that move state to a
    device replace those by dicts of what they read, and would hold copies of no use.
    """

    def __init__(self, parameter: Tensor, averager: Averager | None) -> None:
        self._parameter, self._averager = parameter, averager
        self._parts: list[tuple[Stack, Part]] = []
        self.others: dict[str, Any] = {}

    @classmethod
    def of(
        cls,
        stack_groups: Sequence[StackGroup],
        parameters: Sequence[Tensor],
        averager: Averager | None,
    ) -> "dict[Tensor, ParameterState]":
        """One for each parameter that is in a stack."""
        found: dict[Tensor, ParameterState] = {}
        for _, stack, member in _members(stack_groups):
            parameter = parameters[member.index]
            found.setdefault(parameter, cls(parameter, averager))._parts.append((stack, member))
        return found

    def keys(self) -> list[str]:
        """All names."""
        keys = {key: None for part in self._parts for key, _ in _entries(*part)}
        return list({**keys, **self._averages(), **self.others})

    def items(self) -> list[tuple[str, Any]]:
        """Names and values."""
        return [(key, self[key]) for key in self]

    def values(self) -> list[Any]:
        """Copies of the tensors."""
        return [self[key] for key in self]

    def get(self, key: str, default: Any = None) -> Any:
        """The value of that name, if there is one."""
        try:
            return self[key]
        except KeyError:
            return default

    def __iter__(self) -> Iterator[str]:
        return iter(self.keys())

    def __len__(self) -> int:
        return len(self.keys())

    def __contains__(self, key: object) -> bool:
        return key in self.keys()

    def __getitem__(self, key: str) -> Any:
        if key in self._averages():
            return self._averages()[key].clone()
        found: dict[str, Any] = {}
        for stack, member in self._parts:
            for name, rows in _entries(stack, member):
                if name == key:
                    _save_rows(key, rows, member, self._parameter, found)
        return found[key] if key in found else self.others[key]

    def __setitem__(self, key: str, value: Any) -> None:
        if key in self._averages():
            assert self._averager is not None
            self._averager.load(self._parameter, {**self._averages(), key: value})
            return
        ours = [(rows, m) for s, m in self._parts for name, rows in _entries(s, m) if name == key]
        for rows, member in ours:
            _load_rows(key, rows, member, self._parameter, value)
        if not ours:
            self.others[key] = value

    def __reduce__(self) -> Any:
        return dict, (self.items(),)

    def _averages(self) -> dict[str, Tensor]:
        return self._averager.state_tensors(self._parameter) if self._averager else {}


def _members(stack_groups: Sequence[StackGroup]) -> Iterator[tuple[Counters, Stack, Part]]:
    for group in stack_groups:
        for stack in group.stacks:
            for member in stack.layout.parts:
                yield group.counters, stack, member
