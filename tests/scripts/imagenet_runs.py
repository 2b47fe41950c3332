"""Runs of `scripts.imagenet` on generated images, in processes of their own; what they leave.

Each is forked from a process that has imported torch, and so starts at once; it imports this
module, which takes little more.
"""

import contextlib
import csv
import dataclasses
import io
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest import mock

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from scripts.imagenet import config as configs
from scripts.imagenet import train
from scripts.imagenet.data import Source
from scripts.imagenet.experiment import Experiment
from scripts.imagenet.resnet import ResNet
from scripts.local.runner import Hooks, Stopped
from tests import training_ranks

RECIPES = ("shampoo", "sgd")


def experiment(name: str, **changes: Any) -> Experiment:
    """A recipe as `--smoke` trains it, with other values for some keys."""
    config = configs.read(configs.find(name)).shrunk()
    return Experiment(name, dataclasses.replace(config, **changes), Source(None))


def short(name: str, **changes: Any) -> Experiment:
    """The same over two epochs of five steps."""
    run = experiment(name, epochs=2, **changes)
    return dataclasses.replace(run, source=Source(None, generated=160))


@dataclasses.dataclass(frozen=True)
class How:
    """How a run is carried out.

    Attributes:
      checkpoint_period_seconds: a checkpoint after every step if 0.
      stop: rank and step at which that rank is asked to stop.
      prepare: called first, in each rank's process.
    """

    checkpoint_period_seconds: float = 1e9
    stop: tuple[int, int] | None = None
    prepare: Callable[[], None] | None = None


def on(world: int, run: Experiment, folder: Path, how: How = How()) -> dict[str, Any] | None:
    """The status that all of `world` ranks return, or None if they stopped."""
    folder.mkdir(exist_ok=True)
    found = training_ranks.run(world, _take_part, run, folder, how)
    assert all(each == found[0] for each in found)
    status: dict[str, Any] | None = found[0]
    return status


def _take_part(rank: int, run: Experiment, folder: Path, how: How) -> dict[str, Any] | None:
    steps = iter(range(1, 1000))
    hooks = Hooks(stop_requested=lambda: (rank, next(steps)) == how.stop)
    if how.prepare is not None:
        how.prepare()
    try:
        return train.run(run, folder, how.checkpoint_period_seconds, hooks)
    except Stopped:
        return None


class TwoShares(nn.BatchNorm2d):
    """Normalises as two ranks do that take every other image; the first one's statistics count."""

    def forward(self, x: Tensor) -> Tensor:
        if not self.training:
            return super().forward(x)
        out = torch.empty_like(x)
        out[0::2] = super().forward(x[0::2])
        out[1::2] = F.batch_norm(
            x[1::2], None, None, self.weight, self.bias, training=True, eps=self.eps
        )
        return out


def in_float64() -> None:
    """Has this process, which ends with the run, train in float64."""
    torch.set_default_dtype(torch.float64)


def in_float64_as_two_ranks() -> None:
    """The same, normalising as two ranks do."""
    in_float64()
    mock.patch.object(
        train,
        "build_model",
        lambda config: ResNet(config.depths, config.width, config.classes, TwoShares),
    ).start()


@dataclasses.dataclass(frozen=True)
class Ended:
    """What a command that has ended leaves to its shell."""

    code: Any
    out: str
    errors: str


def finish(*flags: str) -> Ended:
    """`python -m scripts.imagenet` with these flags, as one process, to its end."""
    ended: Ended = training_ranks.run(1, _main, flags)[0]
    return ended


def _main(rank: int, arguments: tuple[str, ...]) -> Ended:
    del rank
    from common import cli
    from scripts.imagenet import __main__ as command

    sys.argv = ["scripts.imagenet", *arguments]
    out, errors = io.StringIO(), io.StringIO()
    code: Any = None
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(errors):
        command.define_flags()
        try:
            cli.run(command.main)
        except SystemExit as end:
            code = end.code
    return Ended(code, out.getvalue(), errors.getvalue())


def rows(folder: Path) -> list[dict[str, float]]:
    """The log without its times, which no two runs share."""
    with (folder / train.LOG).open(newline="") as stream:
        found = [
            {key: float(value) for key, value in row.items()} for row in csv.DictReader(stream)
        ]
    assert list(found[0]) == list(train.COLUMNS)
    for row in found:
        del row["seconds"]
    return found


def weights(folder: Path) -> dict[str, Tensor]:
    """The trained model's state."""
    loaded: dict[str, Tensor] = torch.load(folder / train.MODEL, weights_only=True)
    return loaded


def assert_same(first: Path, second: Path) -> None:
    """Two runs took the same steps and have bitwise the same weights."""
    assert rows(first) == rows(second)
    ours, theirs = weights(first), weights(second)
    assert ours.keys() == theirs.keys()
    for name, value in ours.items():
        assert torch.equal(value, theirs[name]), name
