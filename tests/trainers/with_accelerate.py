"""accelerate: an uninterrupted run, and one resumed by `save_state` and `load_state`."""

import warnings
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState, GradientState
from torch import Tensor

from submission.shampoo import DistributedConfig
from tests.trainers import problem
from tests.trainers.problem import Ends

EPOCHS, SAVED_AFTER = 4, 2


def ends(method: str, folder: Path, clip: float | None = None, **settings: Any) -> Ends:
    """Weights at the end of the uninterrupted run and of the resumed one.

    Args:
      clip: the largest norm of a gradient.
      settings: of `accelerate.Accelerator`.
    """

    def fit(epochs: range, resume: bool = False, save: bool = False) -> list[Tensor]:
        AcceleratorState._reset_state(reset_partial_state=True)  # of the process, for each run anew
        GradientState._reset_state()
        accelerator = Accelerator(cpu=True, **settings)
        model = problem.network()
        # `save_state` asks all ranks for the state.
        collective = DistributedConfig(collective_state_dict=True)
        optimizer = problem.optimizer(model.parameters(), method, distributed=collective)
        schedule = torch.optim.lr_scheduler.ExponentialLR(optimizer, gamma=0.99)
        model, optimizer, loader, schedule = accelerator.prepare(
            model, optimizer, problem.loader(), schedule
        )
        if resume:
            accelerator.load_state(str(folder / "saved"))
        for _ in epochs:
            for inputs, targets in loader:
                with accelerator.accumulate(model):
                    accelerator.backward(problem.loss(model(inputs), targets))
                    if clip is not None and accelerator.sync_gradients:
                        accelerator.clip_grad_norm_(model.parameters(), clip)
                    optimizer.step()
                    schedule.step()
                    optimizer.zero_grad()
        if save:
            accelerator.save_state(str(folder / "saved"))
        return problem.weights(model)

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # accelerate's own
        whole = fit(range(EPOCHS))
        fit(range(SAVED_AFTER), save=True)
        return whole, fit(range(SAVED_AFTER, EPOCHS), resume=True)
