"""AdamW with Nesterov's look-ahead."""

from collections.abc import Callable
from typing import Any

import torch
from torch.optim.optimizer import ParamsT


class NAdamW(torch.optim.Optimizer):
    """NAdam (Dozat 2016) without a momentum schedule, with decoupled weight decay.

    w <- (1 - lr wd) w - lr (beta1 m + (1-beta1) g) / (1-beta1^t) / (sqrt(v / (1-beta2^t)) + eps),
    the form of Choi et al. 2019 (arXiv:1910.05446, table 1) that AlgoPerf's baseline uses;
    `torch.optim.NAdam` schedules its momentum instead.

    Args:
      params: parameters or groups, as for any torch optimizer.
      lr, betas, eps, weight_decay: as in `torch.optim.AdamW`.

    Raises:
      ValueError: if an option is out of range.

    >>> weight = torch.nn.Parameter(torch.ones(2))
    >>> optimizer = NAdamW([weight], lr=0.1, weight_decay=0.0)
    >>> weight.sum().backward()
    >>> optimizer.step()
    >>> [round(value, 4) for value in weight.tolist()]
    [0.81, 0.81]
    """

    def __init__(
        self,
        params: ParamsT,
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 1e-2,
    ) -> None:
        for name, value in (("lr", lr), ("eps", eps), ("weight_decay", weight_decay)):
            if not value >= 0:
                raise ValueError(f"{name} must be at least 0, got {value}.")
        if not all(0 <= beta < 1 for beta in betas):
            raise ValueError(f"betas must be in [0, 1), got {betas}.")
        super().__init__(params, dict(lr=lr, betas=betas, eps=eps, weight_decay=weight_decay))

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Brings step counts, which each step reads, to the CPU; called on loading.

        A runner may have moved an entire checkpoint to the GPU.
        """
        super().__setstate__(state)
        for moments in self.state.values():
            if isinstance(moments.get("step"), torch.Tensor):
                moments["step"] = moments["step"].cpu()

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Takes one step; returns the closure's loss, or None without a closure."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            self._step_group(group)
        return loss

    def _step_group(self, group: dict[str, Any]) -> None:
        weights = [weight for weight in group["params"] if weight.grad is not None]
        if not weights:
            return
        grads = [weight.grad for weight in weights]
        states = [self._state_of(weight) for weight in weights]
        first = [state["exp_avg"] for state in states]
        second = [state["exp_avg_sq"] for state in states]
        for state in states:
            state["step"] += 1
        steps = [int(state["step"]) for state in states]
        beta1, beta2 = group["betas"]

        torch._foreach_lerp_(first, grads, 1 - beta1)
        torch._foreach_mul_(second, beta2)
        torch._foreach_addcmul_(second, grads, grads, 1 - beta2)
        ahead = torch._foreach_lerp(grads, first, beta1)
        root = torch._foreach_sqrt(second)
        torch._foreach_div_(root, [(1 - beta2**step) ** 0.5 for step in steps])
        torch._foreach_add_(root, group["eps"])
        torch._foreach_mul_(weights, 1 - group["lr"] * group["weight_decay"])
        sizes = [-group["lr"] / (1 - beta1**step) for step in steps]
        torch._foreach_addcdiv_(weights, ahead, root, sizes)

    def _state_of(self, weight: torch.Tensor) -> dict[str, Any]:
        state = self.state[weight]
        if not state:
            state["step"] = torch.tensor(0.0)
            state["exp_avg"] = torch.zeros_like(weight)
            state["exp_avg_sq"] = torch.zeros_like(weight)
        return state
