"""torch's Muon for hidden matrices, AdamW for the rest (Jordan et al. 2024)."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from submission.algoperf_api import pytorch as api
from submission.algoperf_api import spec


class MuonWithAdamW(torch.optim.Optimizer):
    """Muon and AdamW as one optimizer.

    Muon's rate is scaled to the root mean square of AdamW's updates, so that both share it.

    Args:
      matrices: parameters of two or more dimensions for Muon, which sees the first dimension by the
        product of the others.
      others: parameters for AdamW.
      lr, weight_decay: of both.
      betas: AdamW's.
    """

    def __init__(
        self,
        matrices: list[Tensor],
        others: list[Tensor],
        lr: float,
        betas: tuple[float, float],
        weight_decay: float,
    ) -> None:
        self._matrices = matrices
        # Views of the same memory: torch's Muon takes two dimensions only.
        self._views = [nn.Parameter(p.detach().view(len(p), -1)) for p in matrices]
        self._muon = torch.optim.Muon(
            self._views, lr=lr, weight_decay=weight_decay, adjust_lr_fn="match_rms_adamw"
        )
        self._adamw = torch.optim.AdamW(
            others, lr=lr, betas=betas, weight_decay=weight_decay, fused=True
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


def init_optimizer_state(
    workload: Any, model_params: Any, model_state: Any, hyperparameters: Any, rng: Any
) -> dict[str, Any]:
    """Muon for matrices that are neither embeddings nor the output layer's, AdamW for the rest."""
    types = workload.model_params_types
    matrices: list[Tensor] = []
    others: list[Tensor] = []
    for name, parameter in model_params.named_parameters():
        name = name.removeprefix("module.")  # of DistributedDataParallel
        hidden = types[name] != spec.ParameterType.EMBEDDING and not workload.is_output_params(name)
        (matrices if parameter.ndim >= 2 and hidden else others).append(parameter)
    optimizer = MuonWithAdamW(
        matrices,
        others,
        **api.adam_arguments(hyperparameters),
    )
    return api.optimizer_state(workload, optimizer, hyperparameters)


get_batch_size = api.get_batch_size
data_selection = api.data_selection
update_params = api.update_params
prepare_for_eval = api.prepare_for_eval
