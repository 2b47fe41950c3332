"""torch's Muon for matrices with AdamW for the rest (Jordan et al. 2024)."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

# A dimension longer than this is a vocabulary's or a table's, for which Muon is not meant.
_LONGEST = 2**14


class MuonWithAdamW(torch.optim.Optimizer):
    """Muon and AdamW as one optimizer.

    Muon's rate is scaled to the root mean square of AdamW's updates, so that both share it.

    Args:
      matrices: parameters of two or more dimensions for Muon, which sees the first dimension by the
        product of the others.
      others: parameters for AdamW.
      lr, weight_decay: of both.
      betas, eps: AdamW's.
    """

    def __init__(
        self,
        matrices: list[Tensor],
        others: list[Tensor],
        lr: float,
        betas: tuple[float, float],
        weight_decay: float,
        eps: float = 1e-8,
    ) -> None:
        self._matrices = matrices
        # Views of the same memory: torch's Muon takes two dimensions only.
        self._views = [nn.Parameter(p.detach().view(len(p), -1)) for p in matrices]
        self._muon = torch.optim.Muon(
            self._views, lr=lr, weight_decay=weight_decay, adjust_lr_fn="match_rms_adamw"
        )
        self._adamw = torch.optim.AdamW(
            others, lr=lr, betas=betas, eps=eps, weight_decay=weight_decay, fused=True
        )
        super().__init__([*matrices, *others], {"lr": lr})
        # Shared with the two, so that a scheduler reaches both.
        self.param_groups = [*self._muon.param_groups, *self._adamw.param_groups]

    def step(self, closure: Callable[[], Any] | None = None) -> None:  # type: ignore[override]
        """Takes one step of both; ValueError for a closure."""
        if closure is not None:
            raise ValueError("closure must be None")
        for matrix, view in zip(self._matrices, self._views, strict=True):
            view.grad = None if matrix.grad is None else matrix.grad.reshape(view.shape)
        self._muon.step()
        self._adamw.step()

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Resets the gradients of all parameters."""
        for parameter in (*self._matrices, *self._adamw.param_groups[0]["params"]):
            if set_to_none:
                parameter.grad = None
            elif parameter.grad is not None:
                parameter.grad.zero_()

    def state_dict(self) -> dict[str, Any]:
        """The state of both by name."""
        return {"muon": self._muon.state_dict(), "adamw": self._adamw.state_dict()}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Loads what `state_dict` returned."""
        self._muon.load_state_dict(state_dict["muon"])
        self._adamw.load_state_dict(state_dict["adamw"])
        self.param_groups = [*self._muon.param_groups, *self._adamw.param_groups]


def muon(parameters: Sequence[Tensor], **options: Any) -> MuonWithAdamW:
    """Muon for what has two or more dimensions, none of them a vocabulary's, AdamW for the rest.

    Args:
      parameters: to optimize.
      options: of `MuonWithAdamW`.
    """
    kinds: tuple[list[Tensor], list[Tensor]] = [], []
    for parameter in parameters:
        kinds[not is_matrix(parameter.shape)].append(parameter)
    return MuonWithAdamW(*kinds, **options)


def is_matrix(shape: Sequence[int]) -> bool:
    """Whether a parameter of a shape is one for Muon.

    >>> is_matrix((64, 3, 3, 3)), is_matrix((64,)), is_matrix((50_257, 768))
    (True, False, False)
    """
    return len(shape) >= 2 and max(shape) <= _LONGEST
