"""Batch normalisation where evaluation reads averages of the iterates."""

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from ..shampoo.batch_norm import normalising_layers, running_statistics, update_statistics


class LatestBatch:
    """The latest batch of training, from which averages get statistics of their own.

    The running statistics are those of the weights that training moves; other weights have
    activations of another mean and variance. An evaluation gets no batch, hence the one kept. A
    benchmark's batch is large enough for one to do.

    Attributes:
      batch: None before the first step and after a restart.
    """

    def __init__(self) -> None:
        self.batch: Any = None

    def update_statistics(
        self,
        model: nn.Module,
        forward: Callable[[Any], Any],
        mean_over_ranks: Callable[[Tensor], Tensor],
    ) -> None:
        """Takes the statistics of batch normalisation anew, for the weights that the model has.

        The pass has gradients, which are not used: without them a compiled model would be compiled
        once more, on the clock. Random numbers go on as if there had been none.

        Args:
          model: left as it is if it has no batch normalisation; on all ranks.
          forward: of a batch in train mode.
          mean_over_ranks: of a tensor, a collective.
        """
        layers = normalising_layers(model)
        if self.batch is None or not layers:
            return
        devices = {parameter.device for parameter in model.parameters()}
        with torch.random.fork_rng([device for device in devices if device.type != "cpu"]):
            update_statistics(layers, [self.batch], forward)
        for statistic in running_statistics(layers):
            statistic.copy_(mean_over_ranks(statistic))

    def state_dict(self) -> dict[str, Any]:
        """Nothing: a batch is not worth its place in a checkpoint."""
        return {}

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Takes what `state_dict` returned."""
