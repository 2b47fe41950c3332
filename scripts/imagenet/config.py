"""What is trained, how long and with what: one JSON file, refused wherever it says nothing."""

import dataclasses
import itertools
import json
import numbers
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from common import files
from common.cli import UserError
from scripts.imagenet.methods import check_method

CONFIGS = Path(__file__).parent / "configs"
DECAYS = ("cosine", "step")
PRECISIONS = ("float32", "bfloat16", "float16")


@dataclasses.dataclass(frozen=True)
class Config:
    """One run's recipe; docs/imagenet.md gives the sources of the shipped ones.

    Attributes:
      optimizer: `name`, "shampoo" or "sgd", and the options that it is constructed with.
      epochs: passes over the training images.
      batch_size: images per step, over all GPUs.
      lr: the learning rate's peak.
      warmup_epochs: it rises linearly for so long, from the first step on.
      decay: then falls as half a "cosine" to 0, or by a "step" to a tenth at each milestone.
      milestones: epochs of those steps.
      label_smoothing: weight of the uniform distribution in the training targets.
      decay_vectors: whether biases and the normalisation's parameters decay as well.
      precision: of activations and of the products in the network, under autocast where it is not
        float32. Weights, gradients and the optimizer's state are float32.
      depths: residual blocks of the four stages.
      width: channels of the stem.
      classes: labels.
      image_size: edge of a training and of a validation image, in pixels.

    Raises:
      ValueError: if a value is out of range; the message names the key.
    """

    optimizer: Mapping[str, Any]
    epochs: int
    batch_size: int
    lr: float
    warmup_epochs: float
    decay: str
    label_smoothing: float
    decay_vectors: bool
    precision: str
    milestones: tuple[float, ...] = ()
    depths: tuple[int, ...] = (3, 4, 6, 3)
    width: int = 64
    classes: int = 1000
    image_size: int = 224

    def __post_init__(self) -> None:
        for name in ("epochs", "batch_size", "width"):
            self._check(name, _whole(getattr(self, name), 1), "an integer >= 1")
        self._check("classes", _whole(self.classes, 2), "an integer >= 2")
        self._check("image_size", _whole(self.image_size, 32), "an integer >= 32")
        self._check("lr", _number(self.lr) and 0 < self.lr < float("inf"), "a finite number > 0")
        known = _number(self.warmup_epochs) and 0 <= self.warmup_epochs < self.epochs
        self._check("warmup_epochs", known, f"a number in [0, {self.epochs}), the epochs")
        known = _number(self.label_smoothing) and 0 <= self.label_smoothing < 1
        self._check("label_smoothing", known, "a number in [0, 1)")
        self._check("decay_vectors", isinstance(self.decay_vectors, bool), "true or false")
        for name, allowed in (("decay", DECAYS), ("precision", PRECISIONS)):
            self._check(name, getattr(self, name) in allowed, f"one of {', '.join(allowed)}")
        for name, kind in (("milestones", _number), ("depths", _whole)):
            value = getattr(self, name)
            known = isinstance(value, list | tuple) and all(map(kind, value))
            self._check(name, known, "a list of numbers")
            object.__setattr__(self, name, tuple(value))
        known = len(self.depths) == 4 and min(self.depths) >= 1
        self._check("depths", known, "four integers >= 1")
        self._check_milestones()
        self._check("optimizer", isinstance(self.optimizer, Mapping), "an object")
        check_method(self.optimizer, self.lr)

    def _check_milestones(self) -> None:
        times = self.milestones
        if self.decay == "cosine":
            self._check("milestones", not times, "left out where decay is cosine")
            return
        rising = all(a < b for a, b in itertools.pairwise(times))
        within = bool(times) and self.warmup_epochs <= times[0] and times[-1] < self.epochs
        self._check("milestones", rising and within, "increasing epochs between warm-up and end")

    def _check(self, name: str, condition: bool, allowed: str) -> None:
        if not condition:
            raise ValueError(f"{name} must be {allowed}, got {getattr(self, name)!r}")

    def plain(self) -> dict[str, Any]:
        """The values as JSON holds them."""
        plain: dict[str, Any] = json.loads(json.dumps(dataclasses.asdict(self)))
        return plain

    def shrunk(self) -> "Config":
        """The same recipe on a network and a batch that a CPU trains in seconds.

        The learning rate goes with the batch size, as in Goyal et al. 2017 (arXiv:1706.02677).

        >>> read(CONFIGS / "sgd.json").shrunk().lr
        0.0125
        """
        epochs, batch_size = 6, 32
        stretch = epochs / self.epochs
        return dataclasses.replace(
            self,
            epochs=epochs,
            batch_size=batch_size,
            lr=self.lr * batch_size / self.batch_size,
            warmup_epochs=self.warmup_epochs * stretch,
            milestones=tuple(epoch * stretch for epoch in self.milestones),
            precision="float32",
            depths=(1, 1, 1, 1),
            width=8,
            classes=4,
            image_size=32,
        )


def _number(value: Any) -> bool:
    return isinstance(value, numbers.Real) and not isinstance(value, bool)


def _whole(value: Any, least: int = 0) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= least


def find(name: str) -> Path:
    """The file of a configuration, which is named by its path or, if it is a shipped one, its stem.

    Raises:
      UserError: for no such file.
    """
    shipped = sorted(path.stem for path in CONFIGS.glob("*.json"))
    if name in shipped:
        return CONFIGS / f"{name}.json"
    if not name.endswith(".json"):
        raise UserError(f"--config={name}: give a .json file or one of {', '.join(shipped)}")
    return Path(name)


def read(path: Path) -> Config:
    """The configuration in a file.

    Raises:
      UserError: naming the file and the key: unknown, missing or out of range.
    """
    values = files.read_json(path)
    if not isinstance(values, dict):
        raise UserError(f"{path} must hold a JSON object")
    fields = dataclasses.fields(Config)
    for name in values.keys() - {field.name for field in fields}:
        raise UserError(f"{path}: unknown key {name!r}")
    for field in fields:
        if field.default is dataclasses.MISSING and field.name not in values:
            raise UserError(f"{path}: key {field.name!r} is missing")
    try:
        return Config(**values)
    except ValueError as error:
        raise UserError(f"{path}: {error}") from error
