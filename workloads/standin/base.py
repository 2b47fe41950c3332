"""The base of the stand-in workloads: AlgoPerf's interface over tables that fit on one device.

Under several ranks of `torch.distributed` each has all the tables, a replica of the model, and its
rows of the batch that one process would take, with their augmentation and dropout masks. Evaluation
is the work of one rank.
"""

import abc
import contextlib
import functools
import itertools
import math
from collections.abc import Iterable, Iterator
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from submission.algoperf_api import spec
from workloads import prng
from workloads.facts import WorkloadFacts
from workloads.standin import replicas
from workloads.standin.batches import Augmentation, Batch, Table, TrainQueue, eval_batches
from workloads.standin.facts import STANDINS
from workloads.standin.parameters import parameter_shapes, parameter_type

# Seed of every split into training, validation and test rows; the same in all runs.
SPLIT_SEED = 20130101


class StandinWorkload(spec.Workload, abc.ABC):
    """A small workload on real data, each replica of which trains on one device.

    A subclass names itself, loads its tables, builds its model and says what it measures. Rows of
    each table must be in random order, because an evaluation takes the first ones.
    """

    name: ClassVar[str]
    # Parameters of the output layer.
    output_layer: ClassVar[str] = "head"
    # Rows that an evaluation looks at, at most; None for all.
    max_eval_rows: ClassVar[int | None] = None

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")

    @abc.abstractmethod
    def load_tables(self) -> dict[str, Table]:
        """The tables `train`, `validation` and `test`, on the CPU."""

    @abc.abstractmethod
    def build_model(self) -> nn.Module:
        """A new model, its `forward(inputs, dropout_rate)`, initialised from torch's RNG."""

    @abc.abstractmethod
    def summed_metrics(self, logits: torch.Tensor, batch: Batch) -> dict[str, torch.Tensor]:
        """Scalars summed over the valid examples of an evaluation batch."""

    def augmentation(self) -> Augmentation | None:
        """The augmentation of training batches, if there is one."""
        return None

    def finish_metrics(self, means: dict[str, float]) -> dict[str, float]:
        """The reported metrics from the means over valid examples."""
        return means

    @property
    def facts(self) -> WorkloadFacts:
        """The registry's row of this workload."""
        return STANDINS[self.name]

    @functools.cached_property
    def tables(self) -> dict[str, Table]:
        """`train`, `eval_train`, `validation` and `test` on the workload's device."""
        tables = {
            split: {key: values.to(self.device) for key, values in table.items()}
            for split, table in self.load_tables().items()
        }
        for split in ("validation", "test"):
            tables[split] = self._eval_rows(tables[split])
        # Training metrics are for looking at only; evaluations are untimed but not free.
        rows = len(tables["validation"]["targets"]) // 4
        tables["eval_train"] = {key: v[:rows] for key, v in tables["train"].items()}
        return tables

    def _eval_rows(self, table: Table) -> Table:
        return {key: values[: self.max_eval_rows] for key, values in table.items()}

    def _rows(self, split: str) -> int:
        return len(self.tables[split]["targets"])

    @property
    def num_train_examples(self) -> int:
        return self._rows("train")

    @property
    def num_eval_train_examples(self) -> int:
        return self._rows("eval_train")

    @property
    def num_validation_examples(self) -> int:
        return self._rows("validation")

    @property
    def num_test_examples(self) -> int:
        return self._rows("test")

    @property
    def train_mean(self) -> Any:
        return 0.0

    @property
    def train_stddev(self) -> Any:
        return 1.0

    @property
    def step_hint(self) -> int:
        return self.facts.step_hint

    @property
    def max_allowed_runtime_sec(self) -> int:
        return self.facts.max_runtime_seconds

    @property
    def eval_period_time_sec(self) -> int:
        return max(1, self.facts.max_runtime_seconds // 40)

    @property
    def target_metric_name(self) -> str:
        return self.facts.metric

    @property
    def validation_target_value(self) -> float:
        """The validation metric to reach; NaN, which nothing reaches, while none is set."""
        target = self.facts.validation_target
        return math.nan if target is None else target

    @property
    def test_target_value(self) -> float:
        """The test metric to reach; NaN, which nothing reaches, while none is set."""
        target = self.facts.test_target
        return math.nan if target is None else target

    def has_reached_validation_target(self, eval_result: dict[str, float]) -> bool:
        value = eval_result[f"validation/{self.target_metric_name}"]
        return self.facts.meets(value, self.facts.validation_target)

    def has_reached_test_target(self, eval_result: dict[str, float]) -> bool:
        value = eval_result[f"test/{self.target_metric_name}"]
        return self.facts.meets(value, self.facts.test_target)

    def is_output_params(self, param_key: str) -> bool:
        return param_key in (f"{self.output_layer}.weight", f"{self.output_layer}.bias")

    def _build_input_queue(
        self,
        data_rng: prng.Key,
        split: str,
        data_dir: str,
        global_batch_size: int,
        cache: bool | None = None,
        repeat_final_dataset: bool | None = None,
        num_batches: int | None = None,
    ) -> Iterator[Batch]:
        """Endless batches of one split; `train` is a TrainQueue, the others repeat in order.

        Of training batches each rank gets its rows; UserError if they do not divide evenly.
        """
        del data_dir, cache, repeat_final_dataset, num_batches
        table = self.tables[split]
        if split == "train":
            share = replicas.rows(global_batch_size)
            return TrainQueue(table, data_rng, global_batch_size, self.augmentation(), share)
        return itertools.cycle(eval_batches(table, global_batch_size))

    def init_model_fn(self, rng: prng.Key) -> tuple[nn.Module, None]:
        """A new model, replicated over the ranks; equal keys give equal weights on every device."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(prng.seed(rng))
            model = self.build_model()
        self._param_shapes = parameter_shapes(model)
        self._param_types = {name: parameter_type(name) for name in self._param_shapes}
        model = model.to(self.device)
        return replicas.replicate(model, self._forward_of_one_row), None

    def _forward_of_one_row(self, model: nn.Module) -> torch.Tensor:
        row = next(eval_batches({k: v[:1] for k, v in self.tables["train"].items()}, 1))
        return self.forward(model, row, 0.0)

    def model_fn(
        self,
        params: nn.Module,
        augmented_and_preprocessed_input_batch: Batch,
        model_state: Any,
        mode: spec.ForwardPassMode,
        rng: prng.Key | None,
        update_batch_norm: bool,
        dropout_rate: float = 0.0,
    ) -> tuple[torch.Tensor, None]:
        """Logits in mode TRAIN or EVAL.

        Dropout masks depend on `rng` alone: torch's global generator is seeded with it first.
        Running statistics of batch normalisation change only if `update_batch_norm` is true.
        """
        del model_state
        training = mode == spec.ForwardPassMode.TRAIN
        params.train(training)
        if training and dropout_rate > 0 and rng is not None:
            torch.manual_seed(prng.seed(rng))
        with (
            contextlib.nullcontext() if training else torch.no_grad(),
            # Evaluation changes none anyway.
            contextlib.nullcontext()
            if update_batch_norm or not training
            else frozen_statistics(params),
        ):
            return self.forward(params, augmented_and_preprocessed_input_batch, dropout_rate), None

    def forward(self, model: nn.Module, batch: Batch, dropout_rate: float) -> torch.Tensor:
        """The logits of a batch; a workload whose model reads more than `inputs` overrides it."""
        logits: torch.Tensor = model(batch["inputs"], dropout_rate=dropout_rate)
        return logits

    def loss_fn(
        self,
        label_batch: torch.Tensor,
        logits_batch: torch.Tensor,
        mask_batch: torch.Tensor | None = None,
        label_smoothing: float = 0.0,
    ) -> dict[str, torch.Tensor]:
        """The losses of a batch, of which the mask says which count.

        Returns `per_example`, what `losses` gives, zero where the mask is; their sum `summed`; and
        `n_valid_examples`, the sum of the mask. Differentiable.
        """
        losses = self.losses(label_batch, logits_batch, label_smoothing)
        if mask_batch is None:
            valid = torch.tensor(float(losses.numel()), device=losses.device)
        else:
            losses = losses * mask_batch
            valid = mask_batch.sum()
        return {"summed": losses.sum(), "n_valid_examples": valid, "per_example": losses}

    def losses(
        self, label_batch: torch.Tensor, logits_batch: torch.Tensor, label_smoothing: float
    ) -> torch.Tensor:
        """Cross-entropy of integer classes [...] against [..., classes], or of 0/1 against logits.

        In the labels' shape; a workload with another loss overrides it.
        """
        if self.loss_type == spec.LossType.SIGMOID_CROSS_ENTROPY:
            soft = label_batch * (1 - label_smoothing) + label_smoothing / 2
            return F.binary_cross_entropy_with_logits(logits_batch, soft, reduction="none")
        return F.cross_entropy(
            logits_batch.flatten(0, -2),
            label_batch.flatten().long(),
            reduction="none",
            label_smoothing=label_smoothing,
        ).view(label_batch.shape)

    def _eval_model_on_split(
        self,
        split: str,
        num_examples: int,
        global_batch_size: int,
        params: nn.Module,
        model_state: Any,
        rng: prng.Key,
        data_dir: str,
        global_step: int = 0,
    ) -> dict[str, float]:
        """Metrics over the first `num_examples` rows of a split, as Python floats."""
        del data_dir, global_step
        table = {key: values[:num_examples] for key, values in self.tables[split].items()}
        return self.metrics(
            (
                self.model_fn(params, batch, model_state, spec.ForwardPassMode.EVAL, rng, False)[0],
                batch,
            )
            for batch in eval_batches(table, global_batch_size)
        )

    def metrics(self, outputs: Iterable[tuple[torch.Tensor, Batch]]) -> dict[str, float]:
        """The reported metrics from the logits of every evaluation batch, as Python floats.

        A workload whose metric is no mean over examples overrides it.
        """
        sums: dict[str, torch.Tensor] = {}
        for logits, batch in outputs:
            metrics = self.summed_metrics(logits, batch) | {"valid": batch["weights"].sum()}
            sums = {key: sums.get(key, 0.0) + value.double() for key, value in metrics.items()}
        valid = sums.pop("valid").item()
        return self.finish_metrics({key: value.item() / valid for key, value in sums.items()})


@contextlib.contextmanager
def frozen_statistics(model: nn.Module) -> Iterator[None]:
    """Keeps the running statistics of batch normalisation as they are."""
    layers = [module for module in model.modules() if isinstance(module, _BatchNorm)]
    momenta = [layer.momentum for layer in layers]
    for layer in layers:
        layer.momentum = 0.0
    try:
        yield
    finally:
        for layer, momentum in zip(layers, momenta, strict=True):
            layer.momentum = momentum
