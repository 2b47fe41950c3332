"""Schedule-Free AdamW of its authors' package (Defazio et al. 2024, arXiv:2405.15682).

Its rate stays constant after the warm-up, as the method asks, and evaluation reads its average.
"""

from typing import Any

from schedulefree import AdamWScheduleFree
from torch.optim.lr_scheduler import ConstantLR

from submission.algoperf_api import pytorch as api


def init_optimizer_state(
    workload: Any, model_params: Any, model_state: Any, hyperparameters: Any, rng: Any
) -> dict[str, Any]:
    """The optimizer, which warms up by itself, and a schedule that changes nothing.

    The warm-up takes the tuning point's part of the workload's step hint.
    """
    optimizer = AdamWScheduleFree(
        model_params.parameters(),
        **api.adam_arguments(hyperparameters),
        warmup_steps=int(hyperparameters.warmup_factor * workload.step_hint),
    )
    return {"optimizer": optimizer, "scheduler": ConstantLR(optimizer, factor=1, total_iters=0)}


get_batch_size = api.get_batch_size
data_selection = api.data_selection
update_params = api.update_params
prepare_for_eval = api.prepare_for_eval
