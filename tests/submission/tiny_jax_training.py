"""The tiny classifier of `tiny_training`, in JAX, under the calls of the official runner."""

import types

import jax
import jax.numpy as jnp
import optax

from submission.algoperf_api import spec
from tests.submission.tiny_training import TinyWorkload as TorchWorkload


class TinyWorkload(TorchWorkload):
    """The same in JAX; the model has one hidden layer, and kernels as PyTorch has them.

    Attributes:
      traces: how often the forward pass was traced.
    """

    traces = 0

    def _model_fn(self, params, batch, model_state, mode, rng, **options):
        assert mode == spec.ForwardPassMode.TRAIN
        assert options.pop("update_batch_norm")
        self.traces += 1
        self.dropout_rate = {"dropout_rate": 0.25, **options}.pop("dropout_rate")
        hidden = batch["inputs"]
        for layer in sorted({name.partition(".")[0] for name in params}):
            if layer != "0":
                hidden = jnp.tanh(hidden)
            hidden = hidden @ params[f"{layer}.weight"].T + params[f"{layer}.bias"]
        if model_state is not None:
            mean = 0.5 * (model_state["mean"] + hidden.mean())
            model_state = {**model_state, "mean": mean}
        return hidden, model_state

    def _loss_fn(self, label_batch, logits_batch, mask_batch=None, label_smoothing=0.0):
        targets = optax.smooth_labels(jax.nn.one_hot(label_batch, 3), label_smoothing)
        losses = optax.softmax_cross_entropy(logits_batch, targets) * mask_batch
        return {"summed": losses.sum(), "n_valid_examples": mask_batch.sum()}


def arrays(tensors):
    """A dict of tensors as one of NumPy arrays, which are copies."""
    return {name: tensor.detach().numpy().copy() for name, tensor in tensors.items()}


class Run:
    """Weights in training with the functions of an entry."""

    def __init__(self, entry, params, point, workload=None, model_state=None):
        """Args: the entry's module, a dict of arrays, a tuning point or None, and the workload."""
        self.entry, self.point, self.model_state = entry, point, model_state
        self.params = {name: jnp.asarray(value) for name, value in params.items()}
        self.workload = workload or TinyWorkload()
        self.state = entry.init_optimizer_state(
            self.workload, self.params, model_state, point, None
        )

    def step(self, batch, number=1, seconds=None, rng=None):
        """One step; `seconds` of training so far, if the runner tells them."""
        train_state = {} if seconds is None else {"accumulated_submission_time": seconds}
        self.state, self.params, self.model_state = self.entry.update_params(
            workload=self.workload,
            current_param_container=self.params,
            current_params_types=None,
            model_state=self.model_state,
            hyperparameters=self.point,
            batch=batch,
            loss_type=None,
            optimizer_state=self.state,
            eval_results=[],
            global_step=number,
            rng=jax.random.PRNGKey(number),
            train_state=types.MappingProxyType(train_state),
        )

    def prepare(self):
        """What evaluation gets, of which the runner takes over all."""
        arguments = (self.workload, self.params, None, self.model_state, self.point, None)
        self.state, self.params, self.model_state = self.entry.prepare_for_eval(
            *arguments, self.state, [], 0, None
        )
        return self.params
