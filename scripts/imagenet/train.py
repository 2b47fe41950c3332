"""One run: trained, evaluated after every epoch, checkpointed, resumable.

Several ranks under `torch.distributed` train together; rank 0 writes all files. Each normalises
over its own share of a batch, and evaluation takes the running statistics of rank 0, as is usual
under DistributedDataParallel.
"""

import dataclasses
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor, nn

from common import files
from scripts.imagenet.config import Config
from scripts.imagenet.data import Source, loaders
from scripts.imagenet.resnet import ResNet
from scripts.local import checkpoint, ranks
from scripts.local.clock import SubmissionClock
from scripts.local.metrics_log import write_csv
from scripts.local.runner import Hooks, Stopped
from scripts.local.trial import CHECKPOINT, STATUS, require_same
from submission.algoperf_api.pytorch import consolidate
from workloads.standin import replicas

LOG = "log.csv"
MODEL = "model.pt"
COLUMNS = ("epoch", "step", "seconds", "train_loss", "validation_loss", "validation_accuracy", "lr")
_DTYPES = {"float32": None, "bfloat16": torch.bfloat16, "float16": torch.float16}


@dataclasses.dataclass(frozen=True)
class Experiment:
    """All that determines a run on a given machine and version.

    Attributes:
      name: the configuration's.
      seed: of the initial weights, the images' order and their augmentation.
    """

    name: str
    config: Config
    source: Source
    seed: int = 0

    def directory(self, output: Path) -> Path:
        """The folder of the run's files."""
        return output / self.name / f"seed_{self.seed}"

    def settings(self) -> dict[str, Any]:
        """Values that are recorded with the run; a run with other values is another run."""
        run = {"name": self.name, "seed": self.seed, "data": self.source.name}
        return run | self.config.plain()

    def identity(self) -> dict[str, dict[str, Any]]:
        """Values that must be equal in a snapshot, for a bitwise equal continuation."""
        process = {
            "threads": torch.get_num_threads(),
            "torch": str(torch.__version__),
            "nproc": replicas.count(),
        }
        return {"settings": self.settings(), "process": process}


def run(
    experiment: Experiment, directory: Path, checkpoint_period_seconds: float, hooks: Hooks
) -> dict[str, Any]:
    """Runs or resumes an experiment to its end, writes its files, and returns its status.

    All ranks call this with the same arguments.

    Raises:
      UserError: images are missing, or the checkpoint is damaged or was written with other
        settings, threads, ranks or torch; nothing has been written then.
      Stopped: `hooks.stop_requested` asked for it; the checkpoint is saved.
    """
    saved = directory / CHECKPOINT
    snapshot = checkpoint.load(saved) if saved.exists() else None
    if snapshot is not None:
        for part, values in experiment.identity().items():
            where = f"cannot resume from checkpoint {saved}: it"
            require_same(where, snapshot.get(part), values, remedy="choose another --output")
    trainer = Trainer(experiment, directory, checkpoint_period_seconds, hooks)
    if snapshot is not None:
        try:
            trainer.restore(snapshot)
        except Exception as error:  # whatever a library raises for state that does not fit
            raise checkpoint.unusable(saved, error) from error
    if replicas.rank() == 0:
        hooks.started(trainer.preemptions, trainer.step)
    trainer.train()
    status = {
        "status": "complete",
        "epochs": experiment.config.epochs,
        "step": trainer.step,
        "seconds": trainer.clock.wall,
        "validation_accuracy": trainer.rows[-1]["validation_accuracy"],
    }
    if replicas.rank() == 0:
        checkpoint.save(directory / MODEL, trainer.model.state_dict())
        files.write_json(directory / STATUS, status)
        saved.unlink(missing_ok=True)
    return status


class Trainer:
    """One rank's share of a run.

    Attributes:
      model: without DistributedDataParallel around it.
      step: optimizer steps so far; it says all of the position in data and schedule.
      rows: the log, one row per epoch.
      clock: runs while training, loading of data included, and not while evaluating or saving.
      preemptions: how often the run was resumed.
    """

    def __init__(
        self,
        experiment: Experiment,
        directory: Path,
        checkpoint_period_seconds: float,
        hooks: Hooks,
    ) -> None:
        self.experiment, self.directory, self.hooks = experiment, directory, hooks
        self.checkpoint_period_seconds = checkpoint_period_seconds
        self.config = config = experiment.config
        self.batches, self.order, self.validation = loaders(
            experiment.source, config, experiment.seed
        )
        self.device = torch.device("cpu")
        if torch.cuda.is_available():
            self.device = torch.device("cuda", torch.cuda.current_device())
            torch.backends.cudnn.benchmark = True
        torch.manual_seed(experiment.seed)
        self.model = build_model(config).to(self.device)
        self.model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        example = torch.zeros(2, 3, config.image_size, config.image_size, device=self.device)
        self.replica = replicas.replicate(self.model, lambda: example, normalises_shares=True)
        self.optimizer = config.build_optimizer(self.model)
        self.scaler = torch.amp.GradScaler(self.device.type, enabled=config.precision == "float16")
        self.loss_sum = torch.zeros((), dtype=torch.float64, device=self.device)
        self.clock = SubmissionClock()
        self.rows: list[dict[str, float]] = []
        self.step = self.preemptions = 0
        self.saved_at = time.monotonic()

    def train(self) -> None:
        """Takes all steps that are left; Stopped if a rank was asked to stop."""
        steps = self.order.steps
        last_step = self.config.epochs * steps
        while self.step < last_step:
            self.order.epoch, self.order.first_step = divmod(self.step, steps)
            batches = iter(self.batches)
            ended = False
            while not ended:
                stop = self.advance(batches)
                ended = self.step % steps == 0
                if ended:
                    self.evaluate()
                if self.step < last_step:
                    self.save()
                    if stop:
                        raise Stopped

    def advance(self, batches: Iterable[tuple[Tensor, Tensor]]) -> bool:
        """Steps to the epoch's end, or until a checkpoint is due; whether any rank is to stop."""
        stop = 0.0
        self.model.train()
        with self.clock.running():
            for images, labels in batches:
                self.update(*self.to_device(images, labels))
                stop, since_last = ranks.maximum(
                    self.hooks.stop_requested(), time.monotonic() - self.saved_at
                )
                if stop or since_last >= self.checkpoint_period_seconds:
                    break
        self.clock.add_slowest()
        return stop > 0

    def update(self, images: Tensor, labels: Tensor) -> None:
        """One optimizer step on this rank's share of a batch; the host does not wait for it."""
        for group in self.optimizer.param_groups:
            group["lr"] = self.config.lr * self.config.lr_factor(self.step, self.order.steps)
        with self.autocast():
            logits = self.replica(images)
            loss = F.cross_entropy(logits, labels, label_smoothing=self.config.label_smoothing)
        self.scaler.scale(loss).backward()
        self.scaler.step(self.optimizer)
        self.scaler.update()
        self.optimizer.zero_grad(set_to_none=True)
        self.loss_sum += loss.detach()
        self.step += 1

    def to_device(self, images: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """A batch on the device, in the model's memory format."""
        return (
            images.to(self.device, non_blocking=True, memory_format=torch.channels_last),
            labels.to(self.device, non_blocking=True),
        )

    def autocast(self) -> torch.autocast:
        """The configured precision."""
        dtype = _DTYPES[self.config.precision]
        return torch.autocast(self.device.type, dtype, enabled=dtype is not None)

    def evaluate(self) -> None:
        """Evaluates at the end of an epoch, and logs it; a collective."""
        steps = self.order.steps
        train_loss = float(torch.stack(_gathered(self.loss_sum)).mean()) / steps
        self.loss_sum.zero_()
        loss, accuracy = self.validate()
        row = {
            "epoch": self.step // steps,
            "step": self.step,
            "seconds": self.clock.wall,
            "train_loss": train_loss,
            "validation_loss": loss,
            "validation_accuracy": accuracy,
            "lr": self.config.lr * self.config.lr_factor(self.step - 1, steps),
        }
        self.rows.append(row)
        if replicas.rank() == 0:
            write_csv(self.directory / LOG, self.rows, COLUMNS)
            self.hooks.evaluated(self.step, row)

    @torch.no_grad()
    def validate(self) -> tuple[float, float]:
        """Mean cross entropy and top-1 accuracy over the validation set; a collective.

        Each image counts once. The loss is without label smoothing. Leaves the model in evaluation
        mode, with the buffers of rank 0.
        """
        if replicas.count() > 1:
            for buffer in self.model.buffers():
                dist.broadcast(buffer, 0)
        self.model.eval()
        sums = torch.zeros(3, dtype=torch.float64, device=self.device)
        for batch in self.validation:
            images, labels = self.to_device(*batch)
            with self.autocast():
                logits = self.model(images)
                losses = F.cross_entropy(logits, labels, reduction="none")
            right = (logits.argmax(dim=1) == labels).sum()
            sums += torch.stack([losses.double().sum(), right, right.new_tensor(len(labels))])
        loss, right, count = torch.stack(_gathered(sums)).sum(0).tolist()
        return loss / count, right / count

    def save(self) -> None:
        """Writes the checkpoint; a collective."""
        consolidate({"optimizer": self.optimizer})
        loss_sums = _gathered(self.loss_sum)
        if replicas.rank() == 0:
            snapshot = {
                **self.experiment.identity(),
                "model": self.model.state_dict(),
                "optimizer": self.optimizer.state_dict(),
                "scaler": self.scaler.state_dict(),
                "loss_sums": [float(loss_sum) for loss_sum in loss_sums],
                "clock": {"wall": self.clock.wall, "cpu": self.clock.cpu},
                "rows": self.rows,
                "step": self.step,
                "preemptions": self.preemptions,
            }
            checkpoint.save(self.directory / CHECKPOINT, snapshot)
        self.saved_at = time.monotonic()

    def restore(self, snapshot: dict[str, Any]) -> None:
        """Loads a snapshot; raises whatever a part that does not fit raises."""
        for name in ("model", "optimizer", "scaler"):
            getattr(self, name).load_state_dict(snapshot[name])
        self.loss_sum.fill_(snapshot["loss_sums"][replicas.rank()])
        self.clock.wall, self.clock.cpu = snapshot["clock"]["wall"], snapshot["clock"]["cpu"]
        self.rows = list(snapshot["rows"])
        self.step = snapshot["step"]
        self.preemptions = snapshot["preemptions"] + 1


def build_model(config: Config) -> nn.Module:
    """The configured network, drawn from torch's random state."""
    return ResNet(config.depths, config.width, config.classes)


def _gathered(value: Tensor) -> list[Tensor]:
    """`value` of every rank, on the CPU; a collective."""
    local = value.cpu()
    if replicas.count() == 1:
        return [local]
    values = [torch.empty_like(local) for _ in range(replicas.count())]
    dist.all_gather(values, local)
    return values
