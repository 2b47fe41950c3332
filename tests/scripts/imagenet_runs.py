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
from scripts.imagenet.resnet import ResNet
from scripts.imagenet.train import Experiment
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


def run_ranks(
    world: int,
    run: Experiment,
    folder: Path,
    checkpoint_period_seconds: float = 1e9,
    stop: tuple[int, int] | None = None,
    prepare: Callable[[], None] | None = None,
) -> dict[str, Any] | None:
    """The status that all of `world` ranks return, or None if they stopped.

    Args:
      stop: rank and step at which that rank is asked to stop.
      prepare: called first, in each rank's process.
    """
    folder.mkdir(exist_ok=True)
    arguments = (run, folder, checkpoint_period_seconds, stop, prepare)
    status, *others = training_ranks.run(world, _take_part, *arguments)
    assert all(other == status for other in others)
    return status  # type: ignore[no-any-return]


def _take_part(
    rank: int,
    run: Experiment,
    folder: Path,
    checkpoint_period_seconds: float,
    stop: tuple[int, int] | None,
    prepare: Callable[[], None] | None,
) -> dict[str, Any] | None:
    steps = iter(range(1, 1000))
    hooks = Hooks(stop_requested=lambda: (rank, next(steps)) == stop)
    if prepare is not None:
        prepare()
    try:
        return train.run(run, folder, checkpoint_period_seconds, hooks)
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


def finish(*flags: str) -> tuple[Any, str, str]:
    """`python -m scripts.imagenet` as one process, to its end: exit code, output, errors."""
    return training_ranks.run(1, _main, flags)[0]  # type: ignore[no-any-return]


def _main(rank: int, arguments: tuple[str, ...]) -> tuple[Any, str, str]:
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
    return code, out.getvalue(), errors.getvalue()


def rows(folder: Path) -> list[dict[str, float]]:
    """The log without its times, which no two runs share."""
    with (folder / train.LOG).open(newline="") as stream:
        log = [{name: float(text) for name, text in row.items()} for row in csv.DictReader(stream)]
    assert tuple(log[0]) == train.COLUMNS
    return [{name: row[name] for name in row if name != "seconds"} for row in log]


def weights(folder: Path) -> dict[str, Tensor]:
    """The trained model's state."""
    loaded: dict[str, Tensor] = torch.load(folder / train.MODEL, weights_only=True)
    return loaded


def assert_same(first: Path, second: Path) -> None:
    """Two runs took the same steps and have bitwise the same weights."""
    assert rows(first) == rows(second)
    torch.testing.assert_close(weights(first), weights(second), rtol=0, atol=0)
