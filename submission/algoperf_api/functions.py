"""What the training steps of all frameworks share: it needs none of them."""

import functools
import inspect
from collections.abc import Callable, Iterator
from typing import Any

from . import spec

# The benchmark's logger rewrites its whole file within the timed step.
_LOGGED_STEPS_PER_RUN = 40


def data_selection(
    workload: spec.Workload,
    input_queue: Iterator[dict[str, Any]],
    optimizer_state: Any,
    current_param_container: Any,
    model_state: Any,
    hyperparameters: Any,
    global_step: int,
    rng: Any,
) -> dict[str, Any]:
    """The next batch of the queue."""
    return next(input_queue)


def is_logged(workload: spec.Workload, global_step: int) -> bool:
    """Whether the metrics of this step are written, which some 40 of a run are."""
    return global_step % max(workload.step_hint // _LOGGED_STEPS_PER_RUN, 1) == 0


def with_hyperparameters(function: Callable[..., Any], point: Any) -> Callable[..., Any]:
    """`function` of the API with `point` in place of the `hyperparameters` of each call.

    The signature stays the same: the runner inspects it.
    """
    signature = inspect.signature(function)

    @functools.wraps(function)
    def with_point(*args: Any, **kwargs: Any) -> Any:
        call = signature.bind(*args, **kwargs)
        call.arguments["hyperparameters"] = point
        return function(*call.args, **call.kwargs)

    return with_point
