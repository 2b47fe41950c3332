"""Stacks, averages and validated options of one parameter group, and the group's step."""

from collections import defaultdict
from collections.abc import Collection, Container, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from ..plan.blocking import plan_parameter
from .averager import Averager
from .config import (
    FIXED,
    OPTIONS,
    ShampooConfig,
    StateConfig,
    check_lr,
    parameter_names,
    state_dtype,
)
from .devices import has_addresses, is_host
from .foreach import are_same
from .group_stacks import GroupStacks, layout_of
from .parameter_state import ParameterState
from .placement import Placements, local, part_of, placed, whole
from .step import StepOptions

if TYPE_CHECKING:
    from torch.distributed import ProcessGroup

_COMPARED = tuple(name for name in OPTIONS if name != "lr")
_PLAIN = (Tensor, torch.nn.Parameter)


class GroupState:
    """Stacks, averages and validated options of one parameter group.

    A step calls `begin`, `take_gradients` and `apply`.

    Args:
      members: the parameters of the group.

    Attributes:
      members: as given.
      stacks: None before the first step.
      entries: what `Optimizer.state` has for each parameter in the stacks.
      is_verified: whether the ranks that share the state are known to agree, see `agreement`.
      loaded: fingerprints of loaded state that other ranks have not been asked for yet.
      averager: the averages of the weights, if the option "averaging" has been set.
    """

    def __init__(self, members: Sequence[Tensor] = ()) -> None:
        self.members = list(members)
        self.stacks: GroupStacks | None = None
        self.entries: dict[Tensor, ParameterState] = {}
        self.is_verified = False
        self.loaded: list[tuple[str, Any]] = []
        self.averager: Averager | None = None
        self._lr: Any = None
        self._validated: list[Any] = []
        self._config: StateConfig | None = None
        self._exponent: float | None = None
        self._group: dict[str, Any] = {}
        self._shards: list[Tensor] = []
        self._moved: Sequence[Tensor] = []
        self._grads: dict[int, Tensor] = {}
        self._gathered: dict[int, Tensor] = {}

    @property
    def is_divided(self) -> bool:
        """Whether other ranks own some of the state."""
        return self.stacks is not None and self.stacks.is_divided

    @property
    def process_groups(self) -> "Sequence[ProcessGroup]":
        """The process groups whose ranks must take or skip a step together."""
        return self.stacks.process_groups if self.stacks is not None else ()

    @property
    def evaluates(self) -> bool:
        """Whether the weights are averages, between `eval` and `train`."""
        return self.averager is not None and not self.averager.training

    def check_training(self) -> None:
        """Raises RuntimeError if the weights are those of evaluation."""
        if self.averager is not None:
            self.averager.check_training()

    def config(self, group: Mapping[str, Any]) -> StateConfig:
        """The fixed options, after all are validated: again only when one has changed.

        Raises:
          ValueError: if an option is out of range or does not fit the parameters.
        """
        if group["lr"] is not self._lr:
            check_lr(group["lr"], waits=False)
            self._lr = group["lr"]
        # Compared by identity: until they are validated, they may be anything, tensors for one.
        values = [group[name] for name in _COMPARED]
        values.extend(group["betas"] if isinstance(group["betas"], (list, tuple)) else ())
        if self._config is None or not are_same(values, self._validated):
            # The lr is checked above, where the host does not read it from a device.
            config = ShampooConfig(**{name: group[name] for name in _COMPARED})
            fixed = StateConfig(**{name: group[name] for name in FIXED})
            for parameter in self.members if fixed != self._config else ():
                plan_parameter(parameter.shape, fixed)
            self._exponent, self._config = config.inverse_power, fixed
            self._validated = values
        return self._config

    def finish(self) -> None:
        """Installs the results of refreshes that run beside training."""
        for stacks in self.stacks.placed_stacks if self.stacks else ():
            stacks.refresher.collect()

    def stacked_indices(
        self, parameters: Sequence[Tensor], indices: Collection[int], placements: Placements
    ) -> Collection[int]:
        """The parameters that must be in the stacks, the same on all ranks.

        On one device those at `indices`, which have a gradient. Elsewhere a rank cannot know
        whether another has one, and all that are not frozen enter at the first step.
        """
        if self.stacks is not None and not self.stacks.is_divided:
            return indices
        if self.stacks is None and all(placements.of(p).owners == 1 for p in parameters):
            return indices
        trained = {i for i, p in enumerate(parameters) if p.requires_grad and p.numel()}
        return trained.union(indices)

    def has_same_layout(self, group: Mapping[str, Any], placements: Placements) -> bool:
        """Whether the stacks still fit the parameters; forgets views of memory that was replaced.

        Raises:
          RuntimeError: if the shape of a parameter has changed or its memory has been freed.
        """
        stacks = self.stacks
        assert stacks is not None
        for index, layout in stacks.layouts.items():
            parameter = group["params"][index]
            shard = _shard(parameter)
            if stacks.weights.is_current(index, shard):
                continue
            stacks.weights.drop(index)
            name = parameter_names(group)[index]
            _check_shape(parameter, layout[0], name)
            _check_memory(parameter, name)
            if layout_of(parameter, placements) != layout:
                return False
        return True

    def check_shapes(self, parameters: Container[Tensor]) -> None:
        """Raises RuntimeError if the shape of one of the parameters has changed."""
        for index, layout in self.stacks.layouts.items() if self.stacks else ():
            if self.members[index] in parameters:
                _check_shape(self.members[index], layout[0], f"param {index}")

    def begin(
        self, group: dict[str, Any], indices: Sequence[int], grad_scale: Tensor | None = None
    ) -> None:
        """Starts a step; changes no state but the averager's. The stacks must exist.

        Args:
          group: the parameter group.
          indices: parameters with a gradient.
          grad_scale: what gradients are divided by; None for 1.

        Raises:
          RuntimeError: if a gradient is sparse, or if the weights are those of evaluation.
        """
        self._group = group
        self._grads = self._gradients(indices, grad_scale)
        parameters = group["params"]
        if self.averager is None:
            self._shards = self._moved = [_shard(parameters[index]) for index in indices]
        else:
            self._shards = [self.averager.shard(parameters[index]) for index in indices]
            self._moved = self.averager.begin(self._shards)
        self._view_weights(indices)

    def _gradients(self, indices: Sequence[int], grad_scale: Tensor | None) -> dict[int, Tensor]:
        """This rank's shards of the gradients, in full for parameters that are put together."""
        assert self.stacks is not None
        parameters, gathered = self._group["params"], self.stacks.gathered
        grads = [_dense_grad(parameters[index]) for index in indices]
        if grad_scale is not None:
            grads = unscaled(grads, grad_scale)
        grads = [placed(grad, parameters[i]) for i, grad in zip(indices, grads, strict=True)]
        return {
            index: self._gather_grad(index, grad) if index in gathered else _shard(grad)
            for index, grad in zip(indices, grads, strict=True)
        }

    def _gather_grad(self, index: int, grad: Tensor) -> Tensor:
        """The full gradient of a parameter whose placement the distributors do not know."""
        if self._group["decay_mode"] == "l2":
            sign = -1 if self._group["maximize"] else 1  # gradients are negated later
            grad = grad.add(self._group["params"][index], alpha=sign * self._group["weight_decay"])
        return whole(grad)

    def _view_weights(self, indices: Sequence[int]) -> None:
        """Gives distributors what they are to move: weights, copies, or zeros to be put apart."""
        assert self.stacks is not None
        stacks, weights, parameters = self.stacks, self.stacks.weights, self._group["params"]
        moved = dict(zip(indices, self._moved, strict=True))
        pairs = zip(indices, self._shards, self._moved, strict=True)
        copies = {index for index, shard, copy in pairs if copy is not shard}
        # Another rank may have a gradient of parameters that have none here.
        absent = stacks.indices.difference(indices) if stacks.is_divided else ()
        moved.update((index, _shard(parameters[index])) for index in absent)
        weights.drop_temporary()
        for index, shard in moved.items():
            if index in stacks.gathered:
                shape, dtype = stacks.plans[index].matrix_shape, state_dtype(shard.dtype)
                update = torch.zeros(shape, dtype=dtype, device=shard.device)
                weights.set(index, update, is_temporary=True)
            elif index not in weights.shards or index in copies:
                weights.set(index, shard, is_temporary=index in copies)
        self._gathered = {index: moved[index] for index in stacks.gathered if index in moved}

    def take_gradients(self) -> list[Tensor]:
        """Brings gradients into the stacks; for each stack group, whether they are finite."""
        assert self.stacks is not None
        self._options = StepOptions.of(self._group, self._exponent)
        if not self._options.capturable:
            self._group["refresh_step"] += 1
        elif self.process_groups:
            raise ValueError(
                "capturable must be False where ranks share the work, got True: graphs that hold "
                "messages have not been shown to be right."
            )
        groups = self.stacks.placed_stacks
        return [stacks.take_gradients(self._grads, self._options) for stacks in groups]

    @property
    def is_on_host(self) -> bool:
        """Whether the host reads values of all stacks without waiting for a device."""
        return self.stacks is None or all(
            is_host(group.device) for group in self.stacks.placed_stacks
        )

    def refresh(self, group: dict[str, Any]) -> None:
        """Counts a step with `capturable`, unless none has been taken; refreshes what is due."""
        if self.stacks is None:
            return
        options = StepOptions.of(group, self._exponent)
        group["refresh_step"] += 1
        for stacks in self.stacks.placed_stacks:
            stacks.refresh(options)

    def skip(self) -> None:
        """Ends a step that the host knows is not taken."""
        for stacks in self.stacks.placed_stacks if self.stacks else ():
            stacks.skip()
        self._end()

    def _end(self) -> None:
        assert self.stacks is not None
        self.stacks.weights.drop_temporary()
        self._shards, self._moved, self._grads, self._gathered = [], [], {}, {}

    def apply(self, finite: Tensor, is_known: bool = False) -> None:
        """Moves the weights.

        Args:
          finite: a boolean scalar; where False nothing changes.
          is_known: whether the host knows that it is True, and may read what it needs.
        """
        assert self.stacks is not None
        for stacks in self.stacks.placed_stacks:
            stacks.step(finite.to(stacks.device), self._options, is_known)
        for original, moved_copy in self.stacks.weights.copied.values():
            original.copy_(moved_copy.view(original.shape))
        for index, shard in self._gathered.items():
            self._apply_gathered(index, shard, finite)
        if self.averager is not None:
            self.averager.finish(self._shards, self._moved, finite, self._group)
        self._end()

    def _apply_gathered(self, index: int, shard: Tensor, finite: Tensor) -> None:
        """Moves this rank's shard of a parameter by its part of the full update."""
        assert self.stacks is not None
        parameter, update = self._group["params"][index], self.stacks.weights.matrices[index]
        exact = shard.to(update.dtype)
        moved = exact + part_of(update.view(parameter.shape), parameter)
        decay = self._options.decay_fraction(finite.to(update.dtype))
        if index in self._grads and decay is not None:
            moved -= exact * decay
        shard.copy_(moved)


def _check_shape(parameter: Tensor, shape: torch.Size, name: str) -> None:
    """Raises RuntimeError if the shape of a parameter is not the one its state was made for."""
    if parameter.shape != shape:
        raise RuntimeError(
            f"{name} had shape {tuple(shape)} when its state was made and now has "
            f"{tuple(parameter.shape)}: parameters must keep their shape. To go on with new state "
            "for it, remove its entry from optimizer.state."
        )


def _check_memory(parameter: Tensor, name: str) -> None:
    """Raises RuntimeError for freed memory, or for a gradient of another shape."""
    shard, shape = _shard(parameter), tuple(parameter.shape)
    if shard.numel() and has_addresses(shard.device):
        if hasattr(shard, "fake_mode"):
            raise RuntimeError(f"{name} of shape {shape} is a fake tensor, outside of its mode.")
        if shard.data_ptr() == 0 and not hasattr(shard, "__tensor_flatten__"):
            raise RuntimeError(f"{name} of shape {shape} has no memory: its storage was freed.")
    if parameter.grad is not None and parameter.grad.shape != parameter.shape:
        raise RuntimeError(
            f"{name} has shape {shape}, but its gradient has {tuple(parameter.grad.shape)}."
        )


def _shard(tensor: Tensor) -> Tensor:
    """This rank's shard of a tensor; `placement.local` without its call for plain tensors."""
    return tensor if type(tensor) in _PLAIN else local(tensor)


def _dense_grad(parameter: Tensor) -> Tensor:
    grad = parameter.grad
    assert grad is not None
    if grad.layout != torch.strided:
        raise RuntimeError(
            "Shampoo needs dense gradients, got a sparse one for a parameter of shape "
            f"{tuple(grad.shape)}; set sparse=False in its embedding."
        )
    return grad


def unscaled(grads: Sequence[Tensor], scale: Tensor) -> list[Tensor]:
    """Gradients divided by a `torch.amp.GradScaler`'s scale, in place.

    Returns:
      the quotients in the dtype of the state: float16 itself has only those above 6e-8.
    """
    exact = [grad.to(state_dtype(grad.dtype)) for grad in grads]
    kinds = defaultdict(list)
    for quotient in exact:
        kinds[quotient.device].append(local(quotient))
    for device, quotients in kinds.items():
        # Its reciprocal in float64, as the scaler itself does, so that powers of two stay exact.
        inverse = scale.double().reciprocal().float().to(device, non_blocking=True)
        torch._foreach_mul_(quotients, inverse)
    for grad, quotient in zip(grads, exact, strict=True):
        if quotient is not grad:
            local(grad).copy_(local(quotient))
    return exact
