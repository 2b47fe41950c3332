"""The states of all parameter groups: found, built anew when parameters change, saved and loaded.

State belongs to a parameter, as in `torch.optim`: whatever its place and its group, and for as long
as `Optimizer.state` has the entry that was made for it.
"""

import dataclasses
from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence
from functools import partial
from typing import Any, Literal

from torch import Tensor

from ..plan.options import BlockingConfig
from . import agreement, averaging, checkpoint, loading
from .averager import Averager
from .config import DTYPES, StateConfig, dtype_name
from .foreach import are_same
from .group_stacks import GroupStacks
from .group_state import GroupState
from .parameter_state import ParameterState, is_saved_name, names_of
from .placement import Placements, is_dtensor, is_this_rank, part_of

Groups = Sequence[dict[str, Any]]
Entries = defaultdict[Tensor, dict[str, Any]]


class GroupStates:
    """One `GroupState` for each parameter group, in their order.

    Args:
      placements: tells where parameters lie.
    """

    def __init__(self, placements: Placements) -> None:
        self._placements = placements
        self._states: list[GroupState] = []
        self._entries: list[Any] = []
        self._rotated: set[Tensor] = set()
        # The state of all ranks, where this rank was given it since the last step.
        self._consolidated: Entries | Literal["elsewhere"] | None = None

    def __iter__(self) -> Iterator[GroupState]:
        return iter(self._states)

    def of(self, groups: Groups, optimizer_state: Any) -> Sequence[GroupState]:
        """The states of the groups, after what has changed is noticed.

        Parameters may have come, gone, or changed places and groups. One whose entry of
        `optimizer_state` has been removed begins anew; one whose entry has been replaced by a dict
        goes on from that. A collective if ranks share the state and anything has changed.

        Raises:
          ValueError: if a parameter has gone to a group with other options that must stay.
        """
        if len(groups) != len(self._states) or not all(
            are_same(state.members, group["params"])
            for state, group in zip(self._states, groups, strict=True)
        ):
            self._match(groups, optimizer_state)
        entries = list(optimizer_state.values())
        if not are_same(entries, self._entries):
            for number, group in enumerate(groups):
                self._follow_entries(number, group, optimizer_state)
            self._entries = list(optimizer_state.values())
        return self._states

    def _match(self, groups: Groups, optimizer_state: Any) -> None:
        """Finds the groups' states by their parameters; releases the state of other lists."""
        others = {_key(state.members): state for state in self._states}
        states = []
        for group in groups:
            known = others.pop(_key(group["params"]), None)
            states.append(GroupState(group["params"]) if known is None else known)
        configs = {
            parameter: state.config(group)
            for state, group in zip(states, groups, strict=True)
            for parameter in (group["params"] if others else ())
        }
        for state in others.values():
            self._rotate(state, [configs[p] for p in state.entries if p in configs])
            self._release(state, optimizer_state)
        self._states = states

    def _follow_entries(self, number: int, group: dict[str, Any], optimizer_state: Any) -> None:
        """Builds a group's state anew if an entry of `optimizer_state` is not the one it made."""
        state = self._states[number]
        intact = _intact(state, optimizer_state)
        if len(intact) == len(state.entries):
            return
        if not intact and not any(optimizer_state.get(p) for p in state.entries):
            group["refresh_step"] = 0
        else:
            self._release(state, optimizer_state)
        self._states[number] = GroupState(group["params"])

    def ensure_stacks(
        self,
        group: dict[str, Any],
        state: GroupState,
        indices: Collection[int],
        optimizer_state: Any,
    ) -> None:
        """Gives a group stacks with the parameters at `indices`, besides those with state.

        Parameters enter at their first gradient, so that frozen ones cost nothing; stacks are then
        built anew around the state of those before, as when an option of `BlockingConfig`, or a
        parameter's dtype or device has changed.

        Args:
          group: the parameter group.
          state: its state.
          indices: parameters that must be in the stacks.
          optimizer_state: `Optimizer.state`; when stacks are built, entries of theirs are replaced.

        Raises:
          RuntimeError: if a parameter's shape has changed or its memory is gone.
          ValueError: if an option is out of range, or one that must stay has changed, or if state
            does not fit the parameters.
        """
        config, stacks = state.config(group), state.stacks
        if (
            stacks is not None
            and (stacks.config is config or stacks.config == config)
            and stacks.indices.issuperset(indices)
            and state.has_same_layout(group, self._placements)
        ):
            return
        if stacks is not None:
            indices = stacks.indices.union(indices)
            self._rotate(state, [config])
            self._release(state, optimizer_state)
        self._build(group, state, config, indices, optimizer_state)
        state.has_same_layout(group, self._placements)  # raises for what no step can move

    def active(
        self, groups: Groups, optimizer_state: Any
    ) -> list[tuple[dict[str, Any], GroupState, list[int]]]:
        """The groups that take part in a step, with stacks and the parameters with a gradient.

        Raises:
          RuntimeError: if the weights are those of evaluation; or as `ensure_stacks`.
          ValueError: as `ensure_stacks`.
        """
        self._consolidated = None
        active = []
        for group, state in zip(groups, self.of(groups, optimizer_state), strict=True):
            state.check_training()
            indices = [i for i, p in enumerate(group["params"]) if p.grad is not None and p.numel()]
            stacked = state.stacked_indices(group["params"], indices, self._placements)
            if stacked:
                self.ensure_stacks(group, state, stacked, optimizer_state)
                active.append((group, state, indices))
        return active

    def consolidate(self, groups: Groups, optimizer_state: Any, to: int | None) -> None:
        """See `Shampoo.consolidate_state_dict`."""
        self._consolidated = None
        if not any(state.is_divided for state in self._states):
            return
        needed = is_this_rank(to)
        self._settle(groups, optimizer_state)
        entries: Entries = defaultdict(dict)
        for state in self.of(groups, optimizer_state):
            entries.update(checkpoint.exported(state, optimizer_state, set(state.members), needed))
        self._consolidated = entries if needed else "elsewhere"

    def complete(self, groups: Groups, optimizer_state: Any) -> Entries:
        """The state of all ranks, by parameter; see `Shampoo.state_dict`."""
        if self._consolidated == "elsewhere":
            raise RuntimeError(
                "consolidate_state_dict(to=...) has named another rank, which alone can call "
                "state_dict() before the next step."
            )
        if self._consolidated is not None:
            for state in self._states:
                checkpoint.renew_mode(state, self._consolidated)
            return self._consolidated
        config = self._placements.config
        is_collective = config is not None and config.collective_state_dict
        are_dtensors = all(is_dtensor(p) for state in self._states for p in state.entries)
        is_divided = any(state.is_divided for state in self._states)
        if is_divided and not (is_collective or are_dtensors):
            raise RuntimeError(
                "each rank holds a part of the optimizer's state: call "
                "optimizer.consolidate_state_dict(to=...) on all ranks, after the last step and "
                "before state_dict() on the rank it names; where all ranks call state_dict(), pass "
                "distributed=DistributedConfig(collective_state_dict=True) instead."
            )
        self._settle(groups, optimizer_state)
        entries: Entries = defaultdict(dict)
        for state in self.of(groups, optimizer_state):
            exported = checkpoint.exported(state, optimizer_state, set(state.members))
            entries.update(checkpoint.sharded(exported))
        return entries

    def fill(self, saved: dict[str, Any], groups: Groups, entries: Entries) -> None:
        """Puts what `complete` returned into a state dict that torch has made of live state."""
        saved["state"] = {}
        for packed, group, state in zip(saved["param_groups"], groups, self._states, strict=True):
            numbers = zip(packed["params"], group["params"], strict=True)
            saved["state"].update({number: entries[p] for number, p in numbers if p in entries})
            packed.update({name: dtype_name(packed[name]) for name in DTYPES})
            packed["evaluates"] = state.evaluates
            packed["peak_lr"] = float(packed["peak_lr"])

    def load(self, groups: Groups, optimizer_state: Any) -> None:
        """Makes stacks of what `optimizer_state` has of each parameter.

        Raises:
          ValueError: if it does not fit the parameters, or has what no step leaves behind.
        """
        for group, state in zip(groups, self.of(groups, optimizer_state), strict=True):
            loading.check_group(group, optimizer_state, self._placements)
            state.config(group)
            if any("step" in optimizer_state.get(p, ()) for p in group["params"]):
                if any(self._placements.of(p).owners > 1 for p in group["params"]):
                    state.loaded = agreement.fingerprints(optimizer_state, group["params"])
                known = state.stacked_indices(group["params"], (), self._placements)
                self.ensure_stacks(group, state, known, optimizer_state)

    def _settle(self, groups: Groups, optimizer_state: Any) -> None:
        """Cuts blocks anew where an option of `BlockingConfig` has changed since the last step.

        Raises:
          ValueError: as `ensure_stacks`.
        """
        for group, state in zip(groups, self.of(groups, optimizer_state), strict=True):
            stacks, members = state.stacks, group["params"]
            if stacks is not None:
                if stacks.config != state.config(group):
                    self.ensure_stacks(group, state, stacks.indices, optimizer_state)
            elif not self._rotated.isdisjoint(members):  # of a group with other blocks until now
                indices = state.stacked_indices(members, (), self._placements)
                self.ensure_stacks(group, state, indices, optimizer_state)

    def _build(
        self,
        group: dict[str, Any],
        state: GroupState,
        config: StateConfig,
        indices: Collection[int],
        optimizer_state: Any,
    ) -> None:
        parameters = group["params"]
        ensure_averager(state, group, optimizer_state)
        saved = {p: dict(optimizer_state[p]) for p in parameters if optimizer_state.get(p)}
        known = {i for i, p in enumerate(parameters) if "step" in saved.get(p, ())}
        stacked = frozenset(known.union(indices))
        stacks = GroupStacks(
            parameters, config, stacked, self._placements, group["refresh_interval"]
        )
        checkpoint.load(stacks.placed_stacks, parameters, saved, self._rotated)
        entries = ParameterState.of(stacks.placed_stacks, parameters, state.averager)
        for index in stacked:
            parameter = parameters[index]
            entry = entries.setdefault(parameter, ParameterState(parameter, state.averager))
            previous = saved.get(parameter, {})
            foreign = previous.keys() - set(entry.keys())
            entry.foreign.update({n: previous[n] for n in foreign if not is_saved_name(n)})
            if stacks.is_divided:
                entry.remote_names = partial(names_of, stacks.plans[index], config, group)
            optimizer_state[parameter] = entry
        self._rotated.difference_update(parameters)
        state.stacks, state.entries, state.is_verified = stacks, entries, False

    def _rotate(self, state: GroupState, configs: Sequence[StateConfig]) -> None:
        """Prepares moments for other blocks than those that they are in, if a config has others.

        Raises:
          ValueError: if one differs in more than its `BlockingConfig`; nothing has changed then.
        """
        if state.stacks is None or all(config == state.stacks.config for config in configs):
            return
        for config in configs:
            _check_blocking_only(state.stacks.config, config)
        state.stacks.to_parameter_basis()
        self._rotated.update(state.entries)

    def _release(self, state: GroupState, optimizer_state: Any) -> None:
        """Replaces the entries of `optimizer_state` that read stacks by complete copies."""
        if state.stacks is not None:
            intact = _intact(state, optimizer_state)
            saved = checkpoint.exported(state, optimizer_state, intact)
            optimizer_state.update({parameter: saved[parameter] for parameter in intact})
        # Frees the stacks before others are built.
        state.stacks, state.averager, state.entries = None, None, {}


def ensure_averager(
    state: GroupState, group: dict[str, Any], optimizer_state: Any
) -> Averager | None:
    """The averager of a group's option "averaging", made from its entries in `optimizer_state`.

    The option stays as it was when the stacks were built, whatever the group says meanwhile.
    """
    if state.averager is not None or state.stacks is not None:
        return state.averager
    averager = averaging.averager(group["averaging"])
    if averager is None:
        return None
    for parameter in group["params"]:
        entry, weight = optimizer_state.get(parameter, {}), averager.shard(parameter)
        averager.load(weight, {name: _shard_of(x, parameter) for name, x in entry.items()})
        for name in averager.state_tensors(weight):
            entry.pop(name, None)  # the averager owns these tensors from here on
    state.averager = averager
    return averager


def _shard_of(value: Any, parameter: Tensor) -> Any:
    """This rank's shard of a saved tensor of the parameter's shape; other values as they are."""
    if isinstance(value, Tensor) and value.shape == parameter.shape:
        return part_of(value, parameter)
    return value


def _key(parameters: Sequence[Tensor]) -> tuple[int, ...]:
    return tuple(map(id, parameters))


def _intact(state: GroupState, optimizer_state: Mapping[Tensor, Any]) -> set[Tensor]:
    """The parameters whose entries are still those that were made with the stacks."""
    return {p for p, entry in state.entries.items() if optimizer_state.get(p) is entry}


def _check_blocking_only(previous: StateConfig, config: StateConfig) -> None:
    names = {field.name for field in dataclasses.fields(StateConfig)}
    names -= {field.name for field in dataclasses.fields(BlockingConfig)}
    changed = sorted(n for n in names if getattr(previous, n) != getattr(config, n))
    if changed:
        raise ValueError(
            f"{', '.join(changed)} must stay as at the first step, "
            f"{[getattr(previous, name) for name in changed]}, "
            f"got {[getattr(config, name) for name in changed]}."
        )
