"""torch's Muon for hidden matrices, AdamW for the rest (Jordan et al. 2024)."""

from typing import Any

from torch import Tensor

from scripts.local.muon import MuonWithAdamW
from submission.algoperf_api import pytorch as api
from submission.algoperf_api import spec


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
