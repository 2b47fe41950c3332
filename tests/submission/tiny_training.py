"""A tiny classifier that trains under the calls of the official runner."""

import types

import torch
import torch.nn.functional as F

from submission.algoperf_api import spec


class TinyWorkload:
    """The parts of a workload that the rules let a submission read, and a record of what it read.

    Attributes:
      read: names of attributes that were asked for.
      dropout_rate: that the last forward pass was given.
    """

    def __init__(self, logger=None):
        self.read = set()
        self.dropout_rate = "not asked"
        self._values = {
            "step_hint": 80,
            "max_allowed_runtime_sec": 100,
            "metrics_logger": logger,
            "model_fn": self._model_fn,
            "loss_fn": self._loss_fn,
        }

    def __getattr__(self, name):
        self.read.add(name)
        if name not in self._values:
            raise AttributeError(name)
        return self._values[name]

    def _model_fn(self, params, batch, model_state, mode, rng, **options):
        assert mode == spec.ForwardPassMode.TRAIN
        assert options.pop("update_batch_norm")
        self.dropout_rate = {"dropout_rate": 0.25, **options}.pop("dropout_rate")
        return params(batch["inputs"]), model_state

    def _loss_fn(self, label_batch, logits_batch, mask_batch=None, label_smoothing=0.0):
        losses = F.cross_entropy(
            logits_batch, label_batch, reduction="none", label_smoothing=label_smoothing
        )
        return {"summed": (losses * mask_batch).sum(), "n_valid_examples": mask_batch.sum()}


class Recorder:
    """A logger of metrics."""

    def __init__(self):
        self.rows = []

    def append_scalar_metrics(self, metrics, step):
        self.rows.append((step, metrics))


def make_batch(seed=0, rows=slice(None), dtype=torch.float32):
    """These of eight rows, the last three of which are padding."""
    generator = torch.Generator().manual_seed(seed)
    batch = {
        "inputs": torch.randn(8, 5, generator=generator).to(dtype),
        "targets": torch.randint(0, 3, (8,), generator=generator),
        "weights": (torch.arange(8) < 5).float(),
    }
    return {name: value[rows] for name, value in batch.items()}


class Run:
    """A model in training with the functions of an entry."""

    def __init__(self, entry, model, point, workload=None):
        """Args: the entry's module, the model, a tuning point or None, and the workload."""
        self.entry, self.model, self.point = entry, model, point
        self.workload = workload or TinyWorkload()
        self.state = entry.init_optimizer_state(self.workload, model, "state", point, None)
        self.optimizer, self.scheduler = self.state["optimizer"], self.state["scheduler"]

    def step(self, batch, number=1, seconds=None, kinds=None, rng=None):
        """One step; `seconds` of training so far, if the runner tells them, `kinds` of weights."""
        train_state = {} if seconds is None else {"accumulated_submission_time": seconds}
        self.state, self.model, model_state = self.entry.update_params(
            workload=self.workload,
            current_param_container=self.model,
            current_params_types=kinds,
            model_state="state",
            hyperparameters=self.point,
            batch=batch,
            loss_type=None,
            optimizer_state=self.state,
            eval_results=[],
            global_step=number,
            rng=rng,
            train_state=types.MappingProxyType(train_state),
        )
        assert model_state in ("state", None)

    def prepare(self):
        """What evaluation gets."""
        arguments = (self.workload, self.model, None, "state", self.point, None, self.state)
        return self.entry.prepare_for_eval(*arguments, [], 0, None)

    @property
    def rate(self):
        """The learning rate of the next step."""
        return self.optimizer.param_groups[0]["lr"]

    @property
    def weights(self):
        """Copies of all weights."""
        return [weight.detach().clone() for weight in self.model.parameters()]


def entry_of(api, *arguments, **options):
    """An entry of a framework's training step, with what `api.initializer` makes of the rest."""
    return types.SimpleNamespace(
        init_optimizer_state=api.initializer(*arguments, **options),
        update_params=api.update_params,
        prepare_for_eval=api.prepare_for_eval,
    )


def same(weights, others):
    """Whether two lists of tensors are equal bit for bit."""
    return all(torch.equal(a, b) for a, b in zip(weights, others, strict=True))
