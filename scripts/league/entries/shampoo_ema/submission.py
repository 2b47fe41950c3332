"""The entry's Shampoo, at points with an `averaging_share`: evaluated at averaged weights."""

from submission.entries.shampoo.submission import (
    data_selection,
    get_batch_size,
    init_optimizer_state,
    prepare_for_eval,
    update_params,
)

__all__ = [
    "data_selection",
    "get_batch_size",
    "init_optimizer_state",
    "prepare_for_eval",
    "update_params",
]
