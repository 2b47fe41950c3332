"""One run: trained, evaluated and checkpointed after every epoch, resumed from the last one.

Each rank normalises over its own share of a batch; evaluation takes rank 0's running statistics.
"""

import contextlib
import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor, nn

from common import files, progress
from scripts.imagenet import data
from scripts.imagenet.config import Config
from scripts.local import checkpoint, environment, ranks
from scripts.local.clock import SubmissionClock
from scripts.local.metrics_log import write_csv
from scripts.local.runner import Stopped
from scripts.local.trial import CHECKPOINT, STATUS
from submission.algoperf_api.pytorch import consolidate
from workloads import prng
from workloads.standin import replicas

LOG, MODEL, SETTINGS = "log.csv", "model.pt", "config.json"
COLUMNS = ("epoch", "step", "seconds", "train_loss", "validation_loss", "validation_accuracy", "lr")


@dataclasses.dataclass(frozen=True)
class Experiment:
    """A configuration by its name, images (None generates them), their loaders and the seed."""

    name: str
    config: Config
    folder: Path | None
    workers: int = 0
    seed: int = 0

    def settings(self) -> dict[str, Any]:
        """Values that are recorded with the run; a run with other values is another run."""
        source = "imagenet" if self.folder else "generated"
        run = {"name": self.name, "seed": self.seed, "data": source, "nproc": replicas.count()}
        return run | vars(self.config)


def run(
    experiment: Experiment, directory: Path, stop_requested: Callable[[], bool]
) -> dict[str, Any]:
    """Runs or resumes an experiment to its end, writes its files, and returns its status.

    Raises:
      UserError: images are missing, or the checkpoint is damaged.
      Stopped: `stop_requested` asked for it on a rank; the epoch has to be trained again.
    """
    trainer = Trainer(experiment, stop_requested)
    rows, epochs, is_first = trainer.rows, experiment.config.epochs, replicas.rank() == 0
    path = directory / CHECKPOINT
    if path.exists():
        snapshot = checkpoint.load(path)
        trainer.model.load_state_dict(snapshot["model"])
        trainer.optimizer.load_state_dict(snapshot["optimizer"])
        rows[:] = snapshot["rows"]
        trainer.clock.wall = rows[-1]["seconds"]
    bar: Any = contextlib.nullcontext()
    if is_first:
        files.write_json(directory / SETTINGS, experiment.settings())
        device = torch.cuda.get_device_name() if torch.cuda.is_available() else "cpu"
        facts = environment.describe() | {"device": device, "nproc": replicas.count()}
        starts = len(list(directory.glob("meta_data_*.json")))
        files.write_json(directory / f"meta_data_{starts}.json", facts)
        bar = progress.bar(epochs, experiment.name, "epoch", len(rows))
    with bar:
        while len(rows) < epochs:
            trainer.train_epoch()
            consolidate({"optimizer": trainer.optimizer})
            if is_first:
                write_csv(directory / LOG, rows, COLUMNS)
                model, optimizer = trainer.model.state_dict(), trainer.optimizer.state_dict()
                checkpoint.save(path, {"model": model, "optimizer": optimizer, "rows": rows})
                bar.set_postfix_str(f"top-1 {rows[-1]['validation_accuracy']:.4f}", refresh=False)
                bar.update(1)
    last = {name: rows[-1][name] for name in ("step", "seconds", "validation_accuracy")}
    status = {"status": "complete", "epochs": epochs, **last}
    if is_first:
        checkpoint.save(directory / MODEL, trainer.model.state_dict())
        files.write_json(directory / STATUS, status)
        path.unlink(missing_ok=True)
    return status


class Trainer:
    """One rank's share of a run; `rows` is its log, one row per epoch."""

    def __init__(self, experiment: Experiment, stop_requested: Callable[[], bool]) -> None:
        self.experiment, self.stop_requested = experiment, stop_requested
        self.config = config = experiment.config
        self.training, self.sampler, self.validation = data.loaders(
            experiment.folder, config.batch_size, experiment.workers, experiment.seed
        )
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        torch.backends.cudnn.benchmark = True
        torch.manual_seed(experiment.seed)
        self.model = build_network(smoke=experiment.folder is None).to(self.device)
        self.model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        example = torch.zeros(2, 3, data.SMOKE_SIZE, data.SMOKE_SIZE, device=self.device)
        self.replica = replicas.replicate(
            self.model, lambda model: model(example), normalises_shares=True
        )
        self.optimizer = config.build_optimizer(self.model)
        self.clock = SubmissionClock()
        self.rows: list[dict[str, float]] = []

    def train_epoch(self) -> None:
        """Trains for an epoch, evaluates, and adds a row to the log."""
        epoch, steps = len(self.rows), len(self.training)
        # Augmentation, which draws from this state or from workers seeded by it.
        key = prng.fold_in(prng.fold_in(prng.key(self.experiment.seed), epoch), replicas.rank())
        torch.manual_seed(prng.seed(key))
        self.sampler.set_epoch(epoch)
        self.model.train()
        loss_sum = torch.zeros((), dtype=torch.float64, device=self.device)
        lr = 0.0
        with self.clock.running():
            for step, batch in enumerate(self.training, start=epoch * steps):
                lr = self.config.learning_rate(step, steps)
                for group in self.optimizer.param_groups:
                    group["lr"] = lr
                smoothing = self.config.label_smoothing
                loss = F.cross_entropy(
                    *self.forward(self.replica, batch), label_smoothing=smoothing
                )
                loss.backward()
                self.optimizer.step()
                self.optimizer.zero_grad(set_to_none=True)
                loss_sum += loss.detach()
                if ranks.maximum(self.stop_requested())[0]:
                    raise Stopped
        self.clock.add_slowest()
        train_loss = float(_sum_over_ranks(loss_sum)) / replicas.count() / steps
        values = (epoch + 1, (epoch + 1) * steps, self.clock.wall, train_loss, *self.validate(), lr)
        self.rows.append(dict(zip(COLUMNS, values, strict=True)))

    def forward(self, network: nn.Module, batch: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
        """Logits [size, classes] in float32 or wider, and labels [size], on the device."""
        images, labels = (part.to(self.device, non_blocking=True) for part in batch)
        images = images.to(memory_format=torch.channels_last)
        enabled = self.config.precision == "bfloat16"
        with torch.autocast(self.device.type, torch.bfloat16, enabled=enabled):
            logits = network(images)
        return logits.float() if enabled else logits, labels

    @torch.no_grad()
    def validate(self) -> tuple[float, float]:
        """Mean cross entropy, unsmoothed, and top-1 accuracy on all validation images."""
        if replicas.count() > 1:
            for buffer in self.model.buffers():
                dist.broadcast(buffer, 0)
        self.model.eval()
        sums = torch.zeros(3, dtype=torch.float64, device=self.device)
        for batch in self.validation:
            logits, labels = self.forward(self.model, batch)
            losses = F.cross_entropy(logits, labels, reduction="none")
            right = (logits.argmax(dim=1) == labels).sum()
            sums += torch.stack([losses.double().sum(), right, right.new_tensor(len(labels))])
        loss, right, count = _sum_over_ranks(sums).tolist()
        return loss / count, right / count


def build_network(smoke: bool) -> nn.Module:
    """ResNet-50 v1.5, or a small network; drawn from torch's random state."""
    if smoke:
        return smoke_network()
    from torchvision.models import resnet50

    # Goyal et al. 2017, section 5.1: a block begins as its shortcut, the classifier near 0.
    model: nn.Module = resnet50(zero_init_residual=True)
    nn.init.normal_(model.fc.weight, std=0.01)  # type: ignore[arg-type, union-attr]
    nn.init.zeros_(model.fc.bias)  # type: ignore[arg-type, union-attr]
    return model


def smoke_network(norm: Callable[[int], nn.Module] = nn.BatchNorm2d) -> nn.Module:
    """A network from images [batch, 3, height, width] to logits [batch, 4]."""
    layers: list[nn.Module] = []
    for inputs, outputs in ((3, 16), (16, 32), (32, 64)):
        convolution = nn.Conv2d(inputs, outputs, 3, stride=2, padding=1, bias=False)
        layers += [convolution, norm(outputs), nn.ReLU()]
    classifier = (nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(64, data.SMOKE_CLASSES))
    return nn.Sequential(*layers, *classifier)


def _sum_over_ranks(values: Tensor) -> Tensor:
    """The sum over the ranks, on the CPU; a collective."""
    total = values.cpu()
    if replicas.count() > 1:
        dist.all_reduce(total)
    return total
