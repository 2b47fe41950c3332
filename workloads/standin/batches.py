"""Batches from tables that lie whole on the device: shuffled for training, in order for evaluation.

A table is a dict of tensors with equal first dimension: `inputs`, `targets` and, where examples
carry masks of their own, `weights`. Every batch has all three keys.
"""

from collections.abc import Callable, Iterator

import numpy as np
import torch

from workloads import prng

Table = dict[str, torch.Tensor]
Batch = dict[str, torch.Tensor]
Augmentation = Callable[[Batch, np.random.Generator], Batch]


def _generator(rng: prng.Key, stream: str, index: int) -> np.random.Generator:
    return np.random.default_rng([*prng.words(rng), *stream.encode(), index])


class TrainQueue(Iterator[Batch]):
    """An endless iterator over shuffled batches; batch k is a pure function of (rng, k).

    Each epoch visits the rows in a new order and drops the remainder that fills no batch.

    Args:
      table: the training rows, on the device that batches shall be on.
      rng: key of the order and of the augmentation.
      batch_size: rows per batch, at most the rows of the table.
      augment: turns an assembled batch into an augmented one, drawing from the given generator.
      share: the rows of each batch to give out, so that ranks with other shares of the same
        stream see the same batches together; all by default.
    """

    def __init__(
        self,
        table: Table,
        rng: prng.Key,
        batch_size: int,
        augment: Augmentation | None = None,
        share: slice = slice(None),
    ) -> None:
        rows = len(table["targets"])
        if not 1 <= batch_size <= rows:
            raise ValueError(f"batch size {batch_size} is not between 1 and the {rows} rows")
        self._table = table
        self._rng = rng
        self._batch_size = batch_size
        self._augment = augment
        self._share = share
        self._batches_per_epoch = rows // batch_size
        self._position = 0
        self._epoch = -1
        self._order = torch.empty(0, dtype=torch.long)
        self._ones = torch.ones(batch_size, device=table["targets"].device)

    def __next__(self) -> Batch:
        epoch, index = divmod(self._position, self._batches_per_epoch)
        if epoch != self._epoch:
            self._order = self._shuffled(epoch)
            self._epoch = epoch
        rows = self._order[index * self._batch_size : (index + 1) * self._batch_size]
        batch = {name: values[rows] for name, values in self._table.items()}
        batch.setdefault("weights", self._ones)
        if self._augment is not None:
            batch = self._augment(batch, _generator(self._rng, "augment", self._position))
        self._position += 1
        return {name: values[self._share] for name, values in batch.items()}

    def _shuffled(self, epoch: int) -> torch.Tensor:
        rows = len(self._table["targets"])
        order = _generator(self._rng, "order", epoch).permutation(rows)
        return torch.from_numpy(order).to(self._table["targets"].device)

    def _identity(self) -> dict[str, int]:
        first, second = prng.words(self._rng)
        return {"rng_0": first, "rng_1": second, "batch_size": self._batch_size}

    def state_dict(self) -> dict[str, int]:
        """Batches given out so far, and what identifies the stream; plain integers."""
        return {"position": self._position, **self._identity()}

    def load_state_dict(self, state: dict[str, int]) -> None:
        """Continues after `state['position']` batches; ValueError for another stream's state."""
        for name, value in self._identity().items():
            if state[name] != value:
                raise ValueError(f"the state has {name}={state[name]}, this queue {name}={value}")
        self._position = state["position"]


def eval_batches(table: Table, batch_size: int) -> Iterator[Batch]:
    """The table's rows in order, once; the last batch is filled up with rows of weight zero."""
    for start in range(0, len(table["targets"]), batch_size):
        batch = {name: values[start : start + batch_size] for name, values in table.items()}
        rows = len(batch["targets"])
        batch.setdefault("weights", torch.ones(rows, device=batch["targets"].device))
        if rows < batch_size:
            batch = {name: _padded(values, batch_size) for name, values in batch.items()}
        yield batch


def _padded(values: torch.Tensor, rows: int) -> torch.Tensor:
    return torch.cat([values, values.new_zeros(rows - len(values), *values.shape[1:])])
