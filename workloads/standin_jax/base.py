"""What makes a stand-in one in JAX: its model and its loss; data and metrics are its twin's."""

import abc
import functools
from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import torch
from jax import Array

from submission.algoperf_api import spec
from workloads import prng
from workloads.standin.base import StandinWorkload
from workloads.standin.batches import TrainQueue, eval_batches
from workloads.standin_jax.layers import Network, binary_cross_entropy, cross_entropy

Arrays = dict[str, Any]


class ArrayQueue(Iterator[Arrays]):
    """The batches of a queue as NumPy arrays, which share its memory."""

    def __init__(self, queue: Iterator[dict[str, torch.Tensor]]) -> None:
        self._queue = queue

    def __next__(self) -> Arrays:
        return as_arrays(next(self._queue))

    def state_dict(self) -> dict[str, int]:
        """That of the queue, of training batches."""
        assert isinstance(self._queue, TrainQueue)
        return self._queue.state_dict()

    def load_state_dict(self, state: dict[str, int]) -> None:
        """As the queue, of training batches; ValueError for another stream's state."""
        assert isinstance(self._queue, TrainQueue)
        self._queue.load_state_dict(state)


class JaxWorkload(StandinWorkload, abc.ABC):
    """A stand-in, to be derived from with its twin in PyTorch behind it.

    Weights are those that the twin starts from, by its names and in its shapes; running statistics
    of batch normalisation are the model state. One process trains, on one device or on all.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.device = torch.device("cpu")

    @abc.abstractmethod
    def logits(self, network: Network, inputs: Array) -> Array:
        """What the twin's model makes of a batch of inputs."""

    def _build_input_queue(self, *args: Any, **kwargs: Any) -> Iterator[Arrays]:
        """The twin's batches, as NumPy arrays."""
        return ArrayQueue(super()._build_input_queue(*args, **kwargs))

    def init_model_fn(self, rng: prng.Key) -> tuple[Any, Any]:
        """Weights by name, and running statistics by name or None if there are none."""
        model, _ = super().init_model_fn(rng)
        params = {name: jnp.array(value.detach()) for name, value in model.named_parameters()}
        statistics = {
            name: jnp.array(value) for name, value in model.named_buffers() if "running" in name
        }
        return params, statistics or None

    def model_fn(
        self,
        params: Any,
        augmented_and_preprocessed_input_batch: Arrays,
        model_state: Any,
        mode: spec.ForwardPassMode,
        rng: Any,
        update_batch_norm: bool,
        dropout_rate: float = 0.0,
    ) -> tuple[Any, Any]:
        """Logits and running statistics, which change in training if `update_batch_norm` is true.

        Pure, to be compiled. Dropout masks depend on `rng` alone; PyTorch's are others.
        """
        training = mode == spec.ForwardPassMode.TRAIN
        key = None
        if training and dropout_rate > 0 and rng is not None:
            key = jax.random.wrap_key_data(jnp.asarray(rng).astype(jnp.uint32))
        network = Network(params, dict(model_state or {}), training, dropout_rate, key)
        logits = self.logits(network, augmented_and_preprocessed_input_batch["inputs"])
        changes = training and update_batch_norm and model_state is not None
        return logits, network.statistics if changes else model_state

    def loss_fn(
        self,
        label_batch: Any,
        logits_batch: Any,
        mask_batch: Any = None,
        label_smoothing: float = 0.0,
    ) -> dict[str, Any]:
        """As the twin's, and the twin's own of tensors, from which metrics are made."""
        if isinstance(logits_batch, torch.Tensor):
            return super().loss_fn(label_batch, logits_batch, mask_batch, label_smoothing)
        losses = cross_entropy
        if self.loss_type == spec.LossType.SIGMOID_CROSS_ENTROPY:
            losses = binary_cross_entropy
        per_example = losses(label_batch, logits_batch, label_smoothing)
        valid: Any = per_example.size
        if mask_batch is not None:
            per_example, valid = per_example * mask_batch, mask_batch.sum()
        return {
            "summed": per_example.sum(),
            "n_valid_examples": valid,
            "per_example": per_example,
        }

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
        """The twin's metrics of this model's logits over the first `num_examples` rows."""
        del rng, data_dir, global_step
        table = {key: values[:num_examples] for key, values in self.tables[split].items()}
        return self.metrics(
            (torch.from_numpy(np.array(self._evaluated(params, model_state, inputs))), batch)
            for batch in eval_batches(table, global_batch_size)
            for inputs in [batch["inputs"].numpy()]
        )

    @functools.cached_property
    def _evaluated(self) -> Any:
        """From weights, statistics and inputs to logits, compiled."""
        return jax.jit(
            lambda params, statistics, inputs: self.logits(
                Network(params, dict(statistics or {})), inputs
            )
        )


def as_arrays(batch: dict[str, torch.Tensor]) -> Arrays:
    """Tensors on the CPU as NumPy arrays, which share their memory."""
    return {name: values.numpy() for name, values in batch.items()}
