"""The state of the optimizer: stacks built when they are needed, checkpoints that know of none."""

from collections import defaultdict
from collections.abc import Collection, Iterable
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from . import averaging, consolidation, state
from .averaging import Averager
from .config import DistributedConfig, ShampooConfig
from .kept import OPTIONS, Kept
from .layout import Layout
from .placement import Placements, local, part_of


class StackedOptimizer(torch.optim.Optimizer):
    """What `Shampoo` does beside stepping: building stacks, saving, loading, copying.

    `Optimizer.state` shows what the stacks hold, see `state.ParameterState`.
    """

    _placements: Placements
    _kept: dict[Tensor, Kept]
    _skipped: Tensor | None
    _consolidated: defaultdict[Tensor, dict[str, Any]] | None

    def _joining(self, group: dict[str, Any], indices: Collection[int]) -> Collection[int]:
        """The parameters that must be in the group's stacks, which all ranks must agree on.

        On one device those at `indices`, which have a gradient. Elsewhere a rank cannot know
        whether another has one, and all that are not frozen join from the first step on.
        """
        layout = self._kept_of(group).layout
        parameters = group["params"]
        if layout is not None and not layout.is_divided:
            return indices
        if layout is None and all(self._placements.of(p).owners == 1 for p in parameters):
            return indices
        trained = {i for i, p in enumerate(parameters) if p.requires_grad and p.numel()}
        return trained.union(indices)

    def _kept_of(self, group: dict[str, Any]) -> Kept:
        """What is kept of a group, made anew if its state has been cleared.

        Found by its first parameter, so that groups may change places, and dicts be replaced.
        """
        if not group["params"]:
            return Kept()
        first = group["params"][0]
        kept = self._kept.get(first)
        if kept is not None and kept.is_lost(self.state):
            group["refresh_step"] = 0
            kept = None
        if kept is None:
            kept = self._kept[first] = Kept()
        return kept

    def _layout(self, group: dict[str, Any], indices: Collection[int]) -> Layout:
        """The group's stacks with at least the parameters at `indices`.

        Parameters enter when they have their first gradient, so that frozen ones cost nothing;
        stacks are then built anew around the state of those that were there before.

        Raises:
          ValueError: if an option is out of range, or one of `StateConfig` has changed since there
            are stacks that is not one of `BlockingConfig`.
        """
        kept = self._kept_of(group)
        config, layout = kept.config(group), kept.layout
        same = layout is None or layout.config is config or layout.config == config
        if layout is not None:
            if same and layout.indices.issuperset(indices):
                return layout
            indices = layout.indices.union(indices)
            if not same:
                layout.unblock(config)
        averager = self._averager(group)
        divided = layout is not None and layout.is_divided
        saved = self._gathered([group], wanted=True) if divided else self._exported([group])
        # From here on `state` has it all, and the old stacks make room for the new.
        self.state.update(saved)
        kept.layout = layout = None
        known = {i for i, p in enumerate(group["params"]) if "step" in saved.get(p, ())}
        joined = frozenset(known.union(indices))
        layout = Layout.of(
            group["params"], config, joined, self._placements, group["refresh_interval"]
        )
        state.load(layout.stacks, group["params"], saved, new_blocks=not same)
        entries = state.ParameterState.of(layout.stacks, group["params"], averager)
        kept.layout, kept.parameters = layout, list(entries)
        for parameter, entry in entries.items():
            held = saved.get(parameter, {})
            others = held.keys() - set(entry.keys())
            if not same:
                others = {name for name in others if not state.is_ours(name)}
            entry.others.update({name: held[name] for name in others})
            self.state[parameter] = entry
        for parameter in saved.keys() - entries.keys() if layout.is_divided else ():
            del self.state[parameter]  # whose owner has it
        return layout

    def _averager(self, group: dict[str, Any]) -> Averager | None:
        """What keeps the averages of the group's weights, if anything."""
        kept = self._kept_of(group)
        if kept.averager is None:
            averager = averaging.averager(group["averaging"])
            if averager is None:
                return None
            for parameter in group["params"]:
                held, weight = self.state.get(parameter, {}), local(parameter)
                averager.load(weight, {name: _held(x, parameter) for name, x in held.items()})
                for name in averager.state_tensors(weight):
                    del held[name]  # what it holds now is the truth
            kept.averager = averager
        return kept.averager

    def finish(self) -> None:
        """Ends refreshes that run beside training; the next step would do so anyway."""
        for kept in self._kept.values():
            for stacks in kept.layout.stacks if kept.layout else ():
                stacks.refresher.collect()

    def _exported(self, groups: Iterable[dict[str, Any]]) -> defaultdict[Tensor, dict[str, Any]]:
        """Complete state by parameter, from the groups' stacks or, before those, as loaded."""
        found: defaultdict[Tensor, dict[str, Any]] = defaultdict(dict)
        for group in groups:
            kept = self._kept_of(group)
            found.update(consolidation.exported(kept, group["params"], self.state))
        return found

    def _is_divided(self) -> bool:
        """Whether other ranks own some of the state."""
        return any(kept.layout and kept.layout.is_divided for kept in self._kept.values())

    def _gathered(
        self, groups: Iterable[dict[str, Any]], wanted: bool
    ) -> defaultdict[Tensor, dict[str, Any]]:
        """The same of all ranks, in the memory of the CPU; a collective."""
        found: defaultdict[Tensor, dict[str, Any]] = defaultdict(dict)
        for group in groups:
            kept = self._kept_of(group)
            found.update(consolidation.gathered(kept, group["params"], self.state, wanted))
        return found

    @torch.no_grad()
    def consolidate_state_dict(self, to: int | None = 0) -> None:
        """Brings the state of all ranks together; a collective that every rank must call.

        Afterwards, and until the next step, `state_dict` works on rank `to`, without any
        communication. As in `torch.distributed.optim.ZeroRedundancyOptimizer`; on one device there
        is nothing to do.

        Args:
          to: a rank of the default process group; None for all of them, which is what
            `torch.distributed.checkpoint` needs.
        """
        self._consolidated = None
        if not self._is_divided():
            return
        self.finish()
        wanted = to is None or to == dist.get_rank()
        found = self._gathered(self.param_groups, wanted)
        if wanted:
            self._consolidated = found

    def _count_skipped(self) -> int:
        """Steps skipped so far, moved from the device to where checkpoints keep them."""
        if self._skipped is not None and self.param_groups:
            self.param_groups[0]["skipped_steps"] += int(self._skipped)
            self._skipped.zero_()
        return sum(group["skipped_steps"] for group in self.param_groups)

    def state_dict(self) -> dict[str, Any]:
        """State by parameter, independent of how blocks were stacked and of how many ranks own
        them; plain tensors and numbers.

        Raises:
          RuntimeError: if other ranks own some of the state and have not been asked for it, see
            `consolidate_state_dict`.
        """
        self._count_skipped()
        live, self.state = self.state, self._complete_state()
        try:
            return super().state_dict()
        finally:
            self.state = live

    def _complete_state(self) -> defaultdict[Tensor, dict[str, Any]]:
        if not self._is_divided():
            return self._exported(self.param_groups)
        if self._consolidated is None:
            raise RuntimeError(
                "each rank holds a part of the optimizer's state: call "
                "optimizer.consolidate_state_dict(to=...) on all ranks, after the last step and "
                "before state_dict() on the rank it names."
            )
        return self._consolidated

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Loads what `state_dict` returned; options come from it too, as in `torch.optim`.

        Every rank loads the complete state and keeps what it owns, whatever number of ranks it was
        saved by.

        Raises:
          ValueError: if the state does not fit the parameters; nothing has changed then.
        """
        before = dict(self.__dict__)
        found: dict[str, Any] = {}

        def note(_: torch.optim.Optimizer, final: dict[str, Any]) -> None:
            found.update(final)

        hooks = [
            self.register_load_state_dict_pre_hook(note),
            self.register_load_state_dict_post_hook(lambda _: self._take(found), prepend=True),
        ]
        try:
            super().load_state_dict(state_dict)
        except BaseException:
            self.__dict__.update(before)
            raise
        finally:
            for hook in hooks:
                hook.remove()

    def _take(self, state_dict: dict[str, Any]) -> None:
        """Loads the state of `state_dict`, as hooks have left it, once torch has read the rest."""
        # torch casts state to the parameter's dtype; bf16 weights must keep float32 state.
        saved = [index for group in state_dict["param_groups"] for index in group["params"]]
        here = [parameter for group in self.param_groups for parameter in group["params"]]
        self.state = defaultdict(dict)
        self._consolidated = None
        for index, parameter in zip(saved, here, strict=True):
            if index in state_dict["state"]:
                self.state[parameter] = dict(state_dict["state"][index])
        for group in self.param_groups:
            if any("step" in self.state.get(parameter, ()) for parameter in group["params"]):
                self._layout(group, self._joining(group, ()))

    def __getstate__(self) -> dict[str, Any]:
        self._count_skipped()
        placements = Placements(self._placements.config)
        return {
            **super().__getstate__(),
            "state": self._complete_state(),
            "_placements": placements,
        }

    def __setstate__(self, saved: dict[str, Any]) -> None:
        super().__setstate__(saved)
        self._kept, self._skipped, self._consolidated = {}, None, None
        self.__dict__.setdefault("_placements", Placements(DistributedConfig()))
        for group in self.param_groups:  # of an earlier version, which may have had fewer options
            complete(group, self.defaults)


def _held(value: Any, parameter: Tensor) -> Any:
    """What this rank holds of state that has the parameter's shape."""
    if isinstance(value, Tensor) and value.shape == parameter.shape:
        return part_of(value, parameter)
    return value


def complete(group: dict[str, Any], defaults: dict[str, Any]) -> None:
    """Adds to a parameter group what it lacks: options, and its own counters."""
    for name in OPTIONS:
        group.setdefault(name, defaults.get(name, getattr(ShampooConfig, name)))
    group.setdefault("refresh_step", 0)
    group.setdefault("skipped_steps", 0)
    group.setdefault("peak_lr", float(group["lr"]))
