"""The JAX training step behind AlgoPerf's submission functions.

An entry makes an optax transformation and takes the functions of the API from here. Their
signatures are the benchmark's (v0.6 and v1.0). The step is compiled once for a run: weights are on
every device, batches are divided among the devices, and the optimizer's state is where the entry
puts it.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import Array
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from . import spec
from .batch_sizes import get_batch_size as get_batch_size
from .batch_sizes import get_shampoo_batch_size as get_shampoo_batch_size
from .functions import data_selection as data_selection
from .functions import is_logged
from .functions import with_hyperparameters as with_hyperparameters
from .schedules import lengths

# The axis that the benchmark divides batches along.
_AXIS = "batch"
# In the divisor of a gradient's norm, as `torch.nn.utils.clip_grad_norm_` has it.
_NORM_EPS = 1e-6

MakeOptimizer = Callable[[Any, Any, Mesh | None], optax.GradientTransformation]
Shardings = Callable[[Any, Mesh], Any]
ReadOut = Callable[[Any, Any], Any]
Reader = Callable[[Any], ReadOut | None]


class TrainingState(NamedTuple):
    """What a checkpoint holds of a run besides weights and batch statistics.

    Attributes:
      optimizer: the transformation's state.
      trained: the weights that training goes on from once evaluation has read others; None for an
        entry whose evaluation reads the weights themselves.
      is_swapped: whether evaluation's weights are in the place of the trained ones; bool.
    """

    optimizer: Any
    trained: Any
    is_swapped: Array


def initializer(
    make_optimizer: MakeOptimizer,
    shardings: Shardings | None = None,
    reader: Reader | None = None,
) -> Callable[..., tuple[TrainingState, "Training"]]:
    """The `init_optimizer_state` of an entry.

    Args:
      make_optimizer: called with a learning rate, which may be traced, with the hyperparameters,
        and with the devices as a mesh of one axis, or None if there is one device.
      shardings: called with the optimizer's state, as `jax.eval_shape` describes it, and a mesh;
        says where each array lies. All are on every device without it.
      reader: called with the hyperparameters; returns what makes the weights to evaluate of the
        optimizer's state and the weights, or None where they are the weights. So without it.
    """

    def init_optimizer_state(
        workload: Any, model_params: Any, model_state: Any, hyperparameters: Any, rng: Any
    ) -> tuple[TrainingState, Training]:
        """The state, of which the runner saves checkpoints, and what moves it."""
        read_out = reader(hyperparameters) if reader is not None else None
        training = Training(workload, make_optimizer, hyperparameters, shardings, read_out)
        return training.start(model_params), training

    return init_optimizer_state


def adam_arguments(hyperparameters: Any) -> dict[str, Any]:
    """`b1`, `b2` and `weight_decay`, as optax calls them, of a tuning point."""
    return {
        "b1": 1 - hyperparameters.one_minus_beta1,
        "b2": 1 - hyperparameters.one_minus_beta2,
        "weight_decay": hyperparameters.weight_decay,
    }


class Training:
    """The compiled step of one run, and its schedule.

    Args:
      workload: the benchmark's or a stand-in.
      make_optimizer, shardings: see `initializer`.
      read_out: what its `reader` returns.
      hyperparameters: a tuning point; read are `learning_rate`, what `schedules.lengths` reads and,
        where present and not None, `dropout_rate` (else the workload's own default),
        `label_smoothing` (else 0) and `grad_clip` (a bound of the global gradient norm; else none).
    """

    def __init__(
        self,
        workload: Any,
        make_optimizer: MakeOptimizer,
        hyperparameters: Any,
        shardings: Shardings | None,
        read_out: ReadOut | None,
    ) -> None:
        self._workload = workload
        self._make_optimizer = make_optimizer
        self._hyperparameters = hyperparameters
        self._place = shardings
        self._read_out = read_out
        self._mesh = Mesh(np.array(jax.devices()), (_AXIS,))
        self._lengths = lengths(workload, hyperparameters)
        self._schedule = self._lengths.schedule()
        self._step: Callable[..., Any] | None = None
        self._swap: Callable[..., Any] | None = None
        self._measure = jax.jit(self._statistics)
        self._has_stepped = False
        # The latest batch of training, for statistics of evaluation's weights.
        self._batch: Any = None

    def start(self, params: Any) -> TrainingState:
        """The state before the first step; compiles what moves it on the first use."""
        rate = self._hyperparameters.learning_rate
        everywhere = NamedSharding(self._mesh, P())

        def initial(params: Any) -> TrainingState:
            trained = None
            if self._read_out is not None:
                # Copies, since the weights are donated to a step together with the state.
                trained = jax.tree.map(lambda leaf: jnp.array(leaf, copy=True), params)
            state = self._optimizer(rate).init(params)
            return TrainingState(state, trained, jnp.zeros((), bool))

        shapes = jax.eval_shape(initial, params)
        where = jax.tree.map(lambda _: everywhere, shapes)
        if self._place is not None:
            where = where._replace(optimizer=self._place(shapes.optimizer, self._mesh))
        self._step = jax.jit(
            self._advanced,
            in_shardings=(
                *(where, everywhere, everywhere, NamedSharding(self._mesh, P(_AXIS))),
                *(everywhere, everywhere),
            ),
            out_shardings=(where, everywhere, everywhere, everywhere),
            donate_argnums=(0, 1, 2),
        )
        self._swap = jax.jit(
            self._swapped,
            in_shardings=(where, everywhere),
            out_shardings=(where, everywhere),
            donate_argnums=(0, 1),
        )
        start = jax.jit(initial, in_shardings=everywhere, out_shardings=where)
        state: TrainingState = start(params)
        return state

    def rate(self, global_step: int, seconds: float = 0.0) -> float:
        """The learning rate of a step counted from 0, `seconds` of training before it."""
        self._schedule.spent = max(self._schedule.spent, seconds / self._lengths.seconds)
        peak: float = self._hyperparameters.learning_rate
        return peak * self._schedule(global_step)

    def step(
        self, state: TrainingState, params: Any, model_state: Any, batch: Any, rng: Any, rate: float
    ) -> tuple[TrainingState, Any, Any, dict[str, Array]]:
        """State, weights and batch statistics after a step, which takes their memory.

        Also the step's `loss` and `grad_norm`, the latter before it is clipped.
        """
        assert self._step is not None, "start comes first"
        if not self._has_stepped:
            # Where steps return them: from another place the step would be compiled once more.
            everywhere = NamedSharding(self._mesh, P())
            params, model_state = jax.device_put((params, model_state), everywhere)
            self._has_stepped = True
        if self._read_out is not None and model_state:
            self._batch = batch
        stepped: tuple[TrainingState, Any, Any, dict[str, Array]] = self._step(
            state, params, model_state, batch, rng, np.float32(rate)
        )
        return stepped

    def for_evaluation(
        self, state: TrainingState, params: Any, model_state: Any, rng: Any
    ) -> tuple[TrainingState, Any, Any]:
        """The state, which keeps the trained weights, and weights and statistics to evaluate.

        Running statistics of batch normalisation are those of the trained weights. Other weights
        get those of their own on the latest batch, unless there has been none since a restart.
        """
        if self._read_out is None:
            return state, params, model_state
        assert self._swap is not None, "start comes first"
        state, params = self._swap(state, params)
        if self._batch is not None:
            model_state = self._measure(params, model_state, self._batch, rng)
        return state, params, model_state

    def _optimizer(self, rate: Any) -> optax.GradientTransformation:
        mesh = self._mesh if self._mesh.size > 1 else None
        return self._make_optimizer(rate, self._hyperparameters, mesh)

    def _advanced(
        self, state: TrainingState, params: Any, model_state: Any, batch: Any, rng: Any, rate: Array
    ) -> tuple[TrainingState, Any, Any, dict[str, Array]]:
        point = self._hyperparameters
        params = _trained(state, params)

        def summed_loss(params: Any) -> tuple[Array, tuple[Any, Any]]:
            logits, new_model_state = self._forward(params, model_state, batch, rng)
            losses = self._workload.loss_fn(
                label_batch=batch["targets"],
                logits_batch=logits,
                mask_batch=batch.get("weights"),
                label_smoothing=getattr(point, "label_smoothing", None) or 0.0,
            )
            return losses["summed"], (losses["n_valid_examples"], new_model_state)

        differentiate = jax.value_and_grad(summed_loss, has_aux=True)
        (loss, (valid, new_model_state)), grads = differentiate(params)
        # Sums over the whole batch, however it is divided among devices.
        grads = jax.tree.map(lambda grad: grad / valid, grads)
        squares = [jnp.sum(jnp.square(grad)) for grad in jax.tree.leaves(grads)]
        norm = jnp.sqrt(jnp.sum(jnp.stack(squares)))
        if (clip := getattr(point, "grad_clip", None)) is not None:
            scale = jnp.minimum(clip / (norm + _NORM_EPS), 1.0)
            grads = jax.tree.map(lambda grad: grad * scale, grads)
        updates, optimizer = self._optimizer(rate).update(grads, state.optimizer, params)
        state = TrainingState(optimizer, state.trained, jnp.zeros((), bool))
        metrics = {"loss": loss / valid, "grad_norm": norm}
        return state, optax.apply_updates(params, updates), new_model_state, metrics

    def _forward(self, params: Any, model_state: Any, batch: Any, rng: Any) -> tuple[Any, Any]:
        """Logits in training, and the model state with statistics that it has updated."""
        dropout = {}
        if (rate := getattr(self._hyperparameters, "dropout_rate", None)) is not None:
            dropout["dropout_rate"] = rate
        # By position: workloads of the benchmark do not all call the batch by one name.
        outputs: tuple[Any, Any] = self._workload.model_fn(
            params,
            batch,
            model_state,
            spec.ForwardPassMode.TRAIN,
            rng,
            update_batch_norm=True,
            **dropout,
        )
        return outputs

    def _statistics(self, params: Any, model_state: Any, batch: Any, rng: Any) -> Any:
        """The model state whose running statistics are those of one batch alone.

        A pass makes of a statistic s the average m s + (1 - m) b with the batch's own b. Passes
        from 0 and from 1, of which the compiler makes one, tell m, which layers keep to themselves.
        """

        def averages(start: float) -> Any:
            begun = jax.tree.map(lambda old: jnp.full_like(old, start), model_state)
            return self._forward(params, begun, batch, rng)[1]

        def batch_statistic(old: Array, low: Array, high: Array) -> Array:
            share = 1 - (high - low)
            return jnp.where(share > 0, low / jnp.where(share > 0, share, 1.0), old)

        return jax.tree.map(batch_statistic, model_state, averages(0.0), averages(1.0))

    def _swapped(self, state: TrainingState, params: Any) -> tuple[TrainingState, Any]:
        assert self._read_out is not None
        trained = _trained(state, params)
        read = self._read_out(state.optimizer, trained)
        return TrainingState(state.optimizer, trained, jnp.ones((), bool)), read


def _trained(state: TrainingState, params: Any) -> Any:
    """The weights to train, which are in `params` or, after an evaluation, in the state."""
    if state.trained is None:
        return params
    return jax.tree.map(
        lambda kept, weight: jnp.where(state.is_swapped, kept, weight), state.trained, params
    )


def update_params(
    workload: spec.Workload,
    current_param_container: Any,
    current_params_types: Any,
    model_state: Any,
    hyperparameters: Any,
    batch: dict[str, Any],
    loss_type: spec.LossType,
    optimizer_state: tuple[TrainingState, Training],
    eval_results: list[tuple[int, Any]],
    global_step: int,
    rng: Any,
    train_state: Any = None,
) -> tuple[tuple[TrainingState, Training], Any, Any]:
    """One training step on one batch, with the point that the optimizer was made for.

    Returns:
      `(optimizer_state, weights, model_state)`; the arrays of the arguments are used up.

    Raises:
      TrainingCompleteError: if the learning rate has reached 0: no later step moves a weight.
    """
    state, training = optimizer_state
    seconds = train_state["accumulated_submission_time"] if train_state else 0.0
    rate = training.rate(global_step, seconds)
    if rate == 0:
        raise spec.TrainingCompleteError
    state, params, model_state, metrics = training.step(
        state, current_param_container, model_state, batch, rng, rate
    )
    if is_logged(workload, global_step) and workload.metrics_logger is not None:
        # Waits for the step.
        numbers = {name: value.item() for name, value in metrics.items()}
        workload.metrics_logger.append_scalar_metrics(numbers, global_step)
    return (state, training), params, model_state


def prepare_for_eval(
    workload: spec.Workload,
    current_param_container: Any,
    current_params_types: Any,
    model_state: Any,
    hyperparameters: Any,
    loss_type: spec.LossType,
    optimizer_state: tuple[TrainingState, Training],
    eval_results: list[tuple[int, Any]],
    global_step: int,
    rng: Any,
) -> tuple[tuple[TrainingState, Training], Any, Any]:
    """Waits for all steps and puts averages, if the entry reads any, in place of the weights.

    Steps run on after `update_params` has returned: those that evaluation would wait for must be on
    the clock. The next `update_params` goes on from the trained weights.
    """
    state, training = optimizer_state
    state, params, model_state = training.for_evaluation(
        state, current_param_container, model_state, rng
    )
    jax.block_until_ready((state, params, model_state))
    return (state, training), params, model_state
