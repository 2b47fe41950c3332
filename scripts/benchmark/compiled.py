"""JAX's optimizers, optax's and ours, compiled, for the benchmark of steps on a CPU.

All see the arrays and the matrices that torch's optimizers see. Nothing is copied between the
frameworks but the initial weights.
"""

import dataclasses
import importlib
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from scripts.local import rivals
from scripts.local.rivals import Rival, RivalOptions

BASELINE = "optax_adamw"


def _adamw(optax: Any, options: RivalOptions) -> Any:
    return optax.adamw(options.lr, *options.betas, options.eps, weight_decay=options.weight_decay)


def _muon(optax: Any, options: RivalOptions) -> Any:
    """Adam for what is no matrix, kernels of convolutions among it."""
    return optax.contrib.muon(options.lr, weight_decay=options.weight_decay)


def _shampoo(optax: Any, options: RivalOptions) -> Any:
    module = importlib.import_module("submission.shampoo_jax")
    return module.shampoo(
        options.lr,
        *options.betas,
        options.eps,
        options.weight_decay,
        block_size=options.block_size,
        refresh_interval=options.interval,
        nesterov=options.nesterov,
        matricize=lambda path, shape: 1,
        **options.of_shampoo,
    )


def _never(step: int, interval: int) -> bool:
    return False


@dataclasses.dataclass(frozen=True)
class _Kind:
    make: Callable[[Any, RivalOptions], Any]
    refreshes_at: Callable[[int, int], bool] = _never


def _kinds() -> Mapping[str, _Kind]:
    refreshes = rivals.available()["ours_shampoo"].refreshes_at
    return {
        BASELINE: _Kind(_adamw),
        "optax_muon": _Kind(_muon),
        "jax_shampoo": _Kind(_shampoo, refreshes),
    }


def survey(device: torch.device) -> tuple[dict[str, Rival], dict[str, str]]:
    """Those that can be built, and why the others cannot, by name."""
    kinds = _kinds()
    if device.type != "cpu":
        return {}, dict.fromkeys(kinds, "JAX's are measured on CPUs alone")
    try:
        jax, optax = (importlib.import_module(name) for name in ("jax", "optax"))
        importlib.import_module("optax.contrib")
    except ImportError as error:
        return {}, dict.fromkeys(kinds, f"{type(error).__name__}: {error}")
    version = f"jax {jax.__version__}, optax {optax.__version__}"

    def rival(name: str, kind: _Kind) -> Rival:
        def make(parameters: Sequence[Tensor], options: RivalOptions) -> torch.optim.Optimizer:
            return CompiledOptimizer(parameters, kind.make(optax, options))

        return Rival(name, version, make, kind.refreshes_at)

    return {name: rival(name, kind) for name, kind in kinds.items()}, {}


class CompiledOptimizer(torch.optim.Optimizer):
    """A transformation of optax's kind that steps on copies of some parameters.

    Args:
      parameters: whose gradients it reads; their own values stay.
      transformation: see above.

    Attributes:
      weights: its own, which steps change.
      compile_milliseconds: CPU time of this process to trace and compile a step.
    """

    def __init__(self, parameters: Sequence[Tensor], transformation: Any) -> None:
        super().__init__(list(parameters), {})
        self._jax = jax = importlib.import_module("jax")
        apply_updates = importlib.import_module("optax").apply_updates

        def step(weights: Any, state: Any, grads: Any) -> Any:
            updates, state = transformation.update(grads, state, weights)
            return apply_updates(weights, updates), state

        self.weights = [jax.numpy.array(parameter.detach().numpy()) for parameter in parameters]
        self._transformed = jax.jit(transformation.init)(self.weights)
        start = time.process_time()
        jitted = jax.jit(step, donate_argnums=(0, 1))
        self._step = jitted.lower(self.weights, self._transformed, self.weights).compile()
        self.compile_milliseconds = 1e3 * (time.process_time() - start)
        self._grads: dict[int, Any] = {}

    def step(self, closure: Any = None) -> Any:
        """Takes one step with the parameters' gradients, whose memory it shares."""
        parameters = self.param_groups[0]["params"]
        grads = [self._shared(parameter.grad) for parameter in parameters]
        self.weights, self._transformed = self._step(self.weights, self._transformed, grads)
        self._jax.block_until_ready((self.weights, self._transformed))

    def _shared(self, grad: Tensor) -> Any:
        if id(grad) not in self._grads:
            # With the tensor, whose id must not become another's.
            self._grads[id(grad)] = grad, self._jax.numpy.from_dlpack(grad)
        return self._grads[id(grad)][1]

    def state_dict(self) -> dict[str, Any]:
        """Buffers as long as the arrays of the state, to be counted."""
        leaves = self._jax.tree.leaves(self._transformed)
        return {"state": [torch.empty(leaf.nbytes, dtype=torch.uint8) for leaf in leaves]}
