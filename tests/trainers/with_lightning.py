"""Lightning: an uninterrupted run, and one that is resumed from Lightning's checkpoint."""

import logging
import warnings
from pathlib import Path
from typing import Any

import lightning
import torch
from torch import Tensor
from torch.distributed.fsdp import fully_shard

from tests.trainers import problem
from tests.trainers.problem import Ends

EPOCHS, SAVED_AFTER = 4, 2


class Module(lightning.LightningModule):
    """The network with its optimizer and a schedule."""

    def __init__(self, method: str, options: dict[str, Any]) -> None:
        super().__init__()
        self.network, self.method, self.options = problem.network(), method, options

    def training_step(self, batch: list[Tensor], index: int) -> Tensor:
        return problem.loss(self.network(batch[0]), batch[1])

    def configure_optimizers(self) -> dict[str, Any]:
        optimizer = problem.optimizer(self.parameters(), self.method, **self.options)
        steps = EPOCHS * problem.BATCHES
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=1e-2, total_steps=steps)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}


class ShardedModule(Module):
    """The same, for `ModelParallelStrategy`: under FSDP2."""

    def configure_model(self) -> None:
        mesh = self.device_mesh["data_parallel"]
        for layer in (self.network[0], self.network[3], self.network):
            fully_shard(layer, mesh=mesh)


def trainer(folder: Path, epochs: int, **settings: Any) -> lightning.Trainer:
    """A quiet trainer on the CPU."""
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    return lightning.Trainer(
        max_epochs=epochs,
        accelerator="cpu",
        default_root_dir=folder,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        **{"devices": 1, **settings},
    )


def ends(
    method: str,
    folder: Path,
    options: dict[str, Any] | None = None,
    kind: type[Module] = Module,
    **settings: Any,
) -> Ends:
    """Weights at the end of the uninterrupted run and of the resumed one.

    Args:
      options: further ones of the optimizer.
      kind: of the module.
      settings: of `lightning.Trainer`; a plugin is given as a function that makes it.
    """

    def fit(epochs: int, resume: Path | None = None) -> lightning.Trainer:
        made = {k: v() if callable(v) else v for k, v in settings.items()}
        fitted = trainer(folder, epochs, **made)
        module = kind(method, options or {})
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Lightning's own, of pickles and of few workers
            fitted.fit(module, problem.loader(), ckpt_path=resume, weights_only=True)
        return fitted

    whole, first = fit(EPOCHS), fit(SAVED_AFTER)
    saved = folder / "saved.ckpt"
    first.save_checkpoint(saved)
    resumed = fit(EPOCHS, saved)
    return problem.weights(whole.lightning_module), problem.weights(resumed.lightning_module)
