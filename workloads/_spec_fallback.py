"""AlgoPerf's `spec` names for machines without `algoperf`; import them from `workloads.spec`."""

import abc
import enum
from collections.abc import Iterator
from typing import Any


class LossType(enum.Enum):
    """What a workload's loss is; values equal `algoperf.spec.LossType`."""

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
    """What a parameter does in its model; values equal `algoperf.spec.ParameterType`."""

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


class ShapeTuple:
    """A shape that tree utilities treat as one leaf."""

    def __init__(self, shape_tuple: tuple[int, ...]) -> None:
        self.shape_tuple = shape_tuple

    def __repr__(self) -> str:
        return f"ShapeTuple({self.shape_tuple})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, ShapeTuple) and self.shape_tuple == other.shape_tuple

    def __hash__(self) -> int:
        return hash(self.shape_tuple)


class TrainingCompleteError(Exception):
    """Raised by a submission in `update_params` to end its run with one last evaluation."""


class Workload(abc.ABC):
    """A model, its data, its loss and the target to reach (AlgoPerf v0.6 interface)."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        del args, kwargs
        self._param_shapes: dict[str, ShapeTuple] | None = None
        self._param_types: dict[str, ParameterType] | None = None
        self._eval_iters: dict[str, Iterator[dict[str, Any]]] = {}
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

    @property
    @abc.abstractmethod
    def target_metric_name(self) -> str:
        """The metric the targets are stated in, without its split."""

    @abc.abstractmethod
    def has_reached_validation_target(self, eval_result: dict[str, float]) -> bool:
        """Whether an evaluation meets the validation target."""

    @abc.abstractmethod
    def has_reached_test_target(self, eval_result: dict[str, float]) -> bool:
        """Whether an evaluation meets the test target."""

    @abc.abstractmethod
    def _build_input_queue(
        self,
        data_rng: Any,
        split: str,
        data_dir: str,
        global_batch_size: int,
        cache: bool | None = None,
        repeat_final_dataset: bool | None = None,
        num_batches: int | None = None,
    ) -> Iterator[dict[str, Any]]:
        """An iterator over batches; never called by a submission."""

    @property
    @abc.abstractmethod
    def validation_target_value(self) -> float:
        """The validation metric to reach."""

    @property
    @abc.abstractmethod
    def test_target_value(self) -> float:
        """The test metric to reach."""

    @property
    @abc.abstractmethod
    def loss_type(self) -> LossType:
        """The kind of loss."""

    @property
    @abc.abstractmethod
    def num_train_examples(self) -> int:
        """Examples in the training split."""

    @property
    @abc.abstractmethod
    def eval_batch_size(self) -> int:
        """Examples per evaluation batch."""

    @property
    @abc.abstractmethod
    def num_eval_train_examples(self) -> int:
        """Training examples that an evaluation looks at."""

    @property
    @abc.abstractmethod
    def num_validation_examples(self) -> int:
        """Examples in the validation split."""

    @property
    @abc.abstractmethod
    def num_test_examples(self) -> int:
        """Examples in the test split."""

    @property
    @abc.abstractmethod
    def train_mean(self) -> Any:
        """Mean of the training inputs."""

    @property
    @abc.abstractmethod
    def train_stddev(self) -> Any:
        """Standard deviation of the training inputs."""

    @property
    @abc.abstractmethod
    def max_allowed_runtime_sec(self) -> int:
        """Time budget of one trial, in seconds of submission time."""

    @property
    @abc.abstractmethod
    def eval_period_time_sec(self) -> int:
        """Seconds between evaluations under the official runner."""

    @property
    @abc.abstractmethod
    def step_hint(self) -> int:
        """Steps that the baseline can take within the budget."""

    @abc.abstractmethod
    def is_output_params(self, param_key: str) -> bool:
        """Whether a parameter belongs to the output layer."""

    @abc.abstractmethod
    def init_model_fn(self, rng: Any) -> tuple[Any, Any]:
        """Returns (model, model_state)."""

    @abc.abstractmethod
    def model_fn(
        self,
        params: Any,
        augmented_and_preprocessed_input_batch: dict[str, Any],
        model_state: Any,
        mode: ForwardPassMode,
        rng: Any,
        update_batch_norm: bool,
        dropout_rate: float = 0.0,
    ) -> tuple[Any, Any]:
        """Returns (logits, model_state)."""

    @abc.abstractmethod
    def loss_fn(
        self,
        label_batch: Any,
        logits_batch: Any,
        mask_batch: Any = None,
        label_smoothing: float = 0.0,
    ) -> dict[str, Any]:
        """Returns {'summed', 'n_valid_examples', 'per_example'}, not synced over devices."""

    @abc.abstractmethod
    def _eval_model_on_split(
        self,
        split: str,
        num_examples: int,
        global_batch_size: int,
        params: Any,
        model_state: Any,
        rng: Any,
        data_dir: str,
        global_step: int = 0,
    ) -> dict[str, float]:
        """Metrics of the model on one split."""

    def eval_model(
        self,
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
