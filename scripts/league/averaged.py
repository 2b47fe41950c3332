"""An average of the iterates for optimizers that keep none, so that all are read out alike."""

from collections.abc import Mapping

import torch
from torch import Tensor
from torch.optim import Optimizer

from submission.plan.options import ShampooOptions
from submission.shampoo.averaging import averager


class WeightAverage:
    """The exponential average of `Shampoo(averaging="ema")`, beside any optimizer of torch's kind.

    It follows the optimizer's steps by hooks and gives it the methods `eval` and `train`.

    Args:
      optimizer: marked as one that averages in its groups, which the training step asks for.
      share: as `averaging_share` of `Shampoo`; ValueError as there.
    """

    def __init__(self, optimizer: Optimizer, share: float) -> None:
        self._options = vars(ShampooOptions(averaging="ema", averaging_share=share))
        average = averager("ema")
        assert average is not None
        self._average = average
        self._weights: list[Tensor] = [p for g in optimizer.param_groups for p in g["params"]]
        self._moved: list[Tensor] = []
        for group in optimizer.param_groups:
            group["averaging"] = "ema"
        optimizer.register_step_pre_hook(lambda *_: self._begin())
        optimizer.register_step_post_hook(lambda *_: self._finish())
        optimizer.eval, optimizer.train = self.eval, self.train  # type: ignore[attr-defined]

    def eval(self) -> None:
        """Puts the averages into the weights."""
        self._average.eval(self._weights, self._options)

    def train(self) -> None:
        """Puts back the weights that training moves."""
        self._average.train(self._weights)

    def state_dict(self) -> dict[int, dict[str, Tensor]]:
        """State by the number of the weight."""
        return {
            number: self._average.state_tensors(weight)
            for number, weight in enumerate(self._weights)
        }

    def load_state_dict(self, state_dict: Mapping[int, Mapping[str, Tensor]]) -> None:
        """Takes what `state_dict` returned; ValueError if it does not fit."""
        for number, weight in enumerate(self._weights):
            self._average.load(weight, state_dict[number])

    @torch.no_grad()
    def _begin(self) -> None:
        # Noted before the step, since some optimizers free the gradients that they have used.
        self._moved = [weight for weight in self._weights if weight.grad is not None]
        self._average.begin(self._moved)

    @torch.no_grad()
    def _finish(self) -> None:
        if self._moved:
            self._average.finish(self._moved, self._moved, torch.tensor(True), self._options)
