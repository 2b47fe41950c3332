"""AlgoPerf's `spec` names for machines without `algoperf`; import them from `spec`."""

import dataclasses
import enum
from typing import Any


class LossType(enum.Enum):
    """The kind of a workload's loss; values equal `algoperf.spec.LossType`."""

    SOFTMAX_CROSS_ENTROPY = 0
    SIGMOID_CROSS_ENTROPY = 1
    MEAN_SQUARED_ERROR = 2
    CTC_LOSS = 3
    MEAN_ABSOLUTE_ERROR = 4


class ForwardPassMode(enum.Enum):
    """Whether a forward pass trains or evaluates."""

    TRAIN = 0
    EVAL = 1


class ParameterType(enum.Enum):
    """The role of a parameter in its model; values equal `algoperf.spec.ParameterType`."""

    WEIGHT = 0
    BIAS = 1
    CONV_WEIGHT = 2
    BATCH_NORM_SCALE = 3
    BATCH_NORM_BIAS = 4
    LAYER_NORM_SCALE = 5
    LAYER_NORM_BIAS = 6
    EMBEDDING = 7
    ATTENTION_Q = 8
    ATTENTION_K = 9
    ATTENTION_V = 10
    ATTENTION_OUT = 11
    ATTENTION_QKV = 12
    ATTENTION_KV = 13
    ATTENTION_BIAS = 14


@dataclasses.dataclass(frozen=True)
class ShapeTuple:
    """A shape that tree utilities treat as one leaf."""

    shape_tuple: tuple[int, ...]


class TrainingCompleteError(Exception):
    """Raised by a submission in `update_params` to end its run with one last evaluation."""


class Workload:
    """A model, its data, its loss and the target to reach (the part of v0.6's that is used here).

    What a workload must define besides is in `workloads.standin.base.StandinWorkload`.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        del args, kwargs
        self._param_shapes: dict[str, ShapeTuple] | None = None
        self._param_types: dict[str, ParameterType] | None = None
        self.metrics_logger: Any = None

    def attach_metrics_logger(self, metrics_logger: Any) -> None:
        """Gives submissions a place to log training metrics to."""
        self.metrics_logger = metrics_logger

    @property
    def param_shapes(self) -> dict[str, ShapeTuple]:
        """Parameter name to shape; raises ValueError before `init_model_fn`."""
        if self._param_shapes is None:
            raise ValueError("param_shapes is known only after init_model_fn() was called.")
        return self._param_shapes

    @property
    def model_params_types(self) -> dict[str, ParameterType]:
        """Parameter name to type; raises ValueError before `init_model_fn`."""
        if self._param_types is None:
            raise ValueError("model_params_types is known only after init_model_fn() was called.")
        return self._param_types

    def eval_model(
        self: Any,
        global_batch_size: int,
        params: Any,
        model_state: Any,
        rng: Any,
        data_dir: str,
        imagenet_v2_data_dir: str | None,
        global_step: int,
    ) -> dict[str, float]:
        """Metrics on the three splits, keyed `train/...`, `validation/...`, `test/...`."""
        del imagenet_v2_data_dir
        splits = (
            ("train", "eval_train", self.num_eval_train_examples),
            ("validation", "validation", self.num_validation_examples),
            ("test", "test", self.num_test_examples),
        )
        result: dict[str, float] = {}
        for prefix, split, num_examples in splits:
            metrics = self._eval_model_on_split(
                split=split,
                num_examples=num_examples,
                global_batch_size=global_batch_size,
                params=params,
                model_state=model_state,
                rng=rng,
                data_dir=data_dir,
                global_step=global_step,
            )
            result.update({f"{prefix}/{name}": value for name, value in metrics.items()})
            if prefix != "train":
                result[f"{prefix}/num_examples"] = num_examples
        return result
