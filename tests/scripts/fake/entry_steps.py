"""Takes steps with entries, in PyTorch or in JAX, in a process that finds them only where told.

    python -I entry_steps.py '{"paths": [...], "modules": {...}, "points": {...}, "in_jax": ...}' \\
        weights.pt

Writes each entry's weights, and prints as JSON the files of all modules that were loaded.
"""

import importlib
import json
import sys
import types
from typing import Any


class TinyWorkload:
    """A network of two matrices on random numbers, as far as an entry looks at a workload."""

    step_hint = 40
    max_allowed_runtime_sec = 60
    loss_type = None
    metrics_logger = None

    def model_fn(self, params: Any, batch: Any, *_: Any, **__: Any) -> Any:
        return params(batch["inputs"]), None

    def loss_fn(self, label_batch: Any, logits_batch: Any, **_: Any) -> dict[str, Any]:
        squares = (logits_batch - label_batch).square().sum(1)
        return {"summed": squares.sum(), "n_valid_examples": squares.new_tensor(len(squares))}


class TinyJaxWorkload(TinyWorkload):
    """The same in JAX."""

    def model_fn(self, params: Any, batch: Any, *_: Any, **__: Any) -> Any:
        import jax.numpy as jnp

        first, bias, second, shift = params
        hidden = jnp.tanh(batch["inputs"] @ first.T + bias)
        return hidden @ second.T + shift, None

    def loss_fn(self, label_batch: Any, logits_batch: Any, **_: Any) -> dict[str, Any]:
        squares = ((logits_batch - label_batch) ** 2).sum(1)
        return {"summed": squares.sum(), "n_valid_examples": len(squares)}


def weights_after_steps(module: Any, point: dict[str, Any] | None, in_jax: bool) -> list[Any]:
    """The parameters after five steps, an evaluation, and two steps more."""
    import torch

    torch.manual_seed(0)
    model: Any = torch.nn.Sequential(
        torch.nn.Linear(12, 16), torch.nn.Tanh(), torch.nn.Linear(16, 5)
    )
    batch: dict[str, Any] = {"inputs": torch.randn(8, 12), "targets": torch.randn(8, 5)}
    workload, rng = TinyWorkload(), None
    if in_jax:
        import jax

        workload, rng = TinyJaxWorkload(), jax.random.PRNGKey(0)
        model = [weight.detach().numpy() for weight in model.parameters()]
        batch = {name: value.numpy() for name, value in batch.items()}
    tuned = None if point is None else types.SimpleNamespace(**point)
    state = module.init_optimizer_state(workload, model, None, tuned, None)
    shared: dict[str, Any] = {
        "workload": workload,
        "current_params_types": None,
        "model_state": None,
        "hyperparameters": tuned,
        "loss_type": None,
        "eval_results": [],
        "rng": rng,
    }
    for step in range(7):
        if step == 5:
            state, model, _ = module.prepare_for_eval(
                **shared, current_param_container=model, optimizer_state=state, global_step=step
            )
        queue = iter([batch])
        chosen = module.data_selection(workload, queue, state, model, None, tuned, step, None)
        state, model, _ = module.update_params(
            **shared,
            current_param_container=model,
            batch=chosen,
            optimizer_state=state,
            global_step=step,
            train_state={"accumulated_submission_time": 0.1 * step},
        )
    if in_jax:
        return [torch.from_numpy(jax.device_get(weight).copy()) for weight in model]
    return [weight.detach() for weight in model.parameters()]


def main() -> None:
    task = json.loads(sys.argv[1])
    sys.path[:0] = task["paths"]
    import torch

    torch.set_num_threads(1)
    weights = {
        entry: weights_after_steps(
            importlib.import_module(name), task["points"][entry], task["in_jax"]
        )
        for entry, name in task["modules"].items()
    }
    torch.save(weights, sys.argv[2])
    loaded = [getattr(module, "__file__", None) for module in list(sys.modules.values())]
    print(json.dumps(sorted(path for path in loaded if path)))


if __name__ == "__main__":
    main()
