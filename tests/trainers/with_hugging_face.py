"""Hugging Face's Trainer: an uninterrupted run, and one resumed from the Trainer's checkpoint."""

import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from torch import Tensor, nn

from submission.shampoo import Shampoo
from tests.trainers import problem
from tests.trainers.problem import Ends

EPOCHS, SAVED_AFTER = 4, 2


class Model(nn.Module):
    """The network, called as the Trainer calls models."""

    def __init__(self) -> None:
        super().__init__()
        self.network = problem.network()

    def forward(self, inputs: Tensor, labels: Tensor) -> dict[str, Tensor]:
        outputs = self.network(inputs)
        return {"loss": problem.loss(outputs, labels), "logits": outputs}


class Consolidate(transformers.TrainerCallback):
    """Brings state to rank 0, which saves it alone, where ranks have parts of it."""

    def on_step_end(self, args: Any, state: Any, control: Any, **given: Any) -> None:
        if control.should_save:
            given["optimizer"].optimizer.consolidate_state_dict(to=0)

    on_epoch_end = on_step_end


class Evaluations(transformers.TrainerCallback):
    """Compares the loss of each evaluation with that of the averages then.

    Attributes:
      losses: (the Trainer's, that of the averages).
    """

    def __init__(self, model: Model, optimizer: Shampoo) -> None:
        self.model, self.optimizer = model, optimizer
        self.losses: list[tuple[float, float]] = []

    def on_evaluate(self, args: Any, state: Any, control: Any, **given: Any) -> None:
        weights = list(self.model.parameters())
        averages = [self.optimizer.state[weight]["average"] for weight in weights]
        found = dict(zip(dict(self.model.named_parameters()), averages, strict=True))
        inputs, labels = problem.dataset().tensors
        with torch.no_grad():
            loss = torch.func.functional_call(self.model, found, (inputs, labels))["loss"]
        self.losses.append((given["metrics"]["eval_loss"], float(loss)))


def ends(method: str, folder: Path, options: dict[str, Any] | None = None, **settings: Any) -> Ends:
    """Weights at the end of the uninterrupted run and of the resumed one.

    Args:
      options: further ones of the optimizer. With averages, each epoch ends with an evaluation,
        which must be theirs, and the run with the weights that had the least loss.
      settings: of `transformers.TrainingArguments`.
    """
    if options:
        settings |= {"eval_strategy": "epoch", "load_best_model_at_end": True}

    def fit(output: str, epochs: int, resume: bool = False) -> list[Tensor]:
        model = Model()
        optimizer = problem.optimizer(model.parameters(), method, **(options or {}))
        arguments = transformers.TrainingArguments(
            output_dir=str(folder / output),
            num_train_epochs=epochs,
            per_device_train_batch_size=64 // problem.BATCHES,
            lr_scheduler_type="constant_with_warmup",
            warmup_steps=3,
            save_strategy="epoch",
            report_to="none",
            disable_tqdm=True,
            use_cpu=True,
            dataloader_pin_memory=False,
            logging_strategy="no",
            **settings,
        )
        data = [{"inputs": x, "labels": y} for x, y in problem.dataset()]
        trainer = transformers.Trainer(
            model,
            arguments,
            train_dataset=data,
            eval_dataset=data,
            optimizers=(optimizer, None),
            callbacks=[Consolidate()],
        )
        evaluations = Evaluations(model, optimizer)
        if options:
            trainer.add_callback(evaluations)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the Trainer's own, of schedulers
            trainer.train(resume_from_checkpoint=resume)
            if options:
                loss = trainer.evaluate()["eval_loss"]
                assert loss == pytest.approx(trainer.state.best_metric)
        for loss, expected in evaluations.losses[:-1]:
            assert loss == pytest.approx(expected, rel=1e-5)
        return problem.weights(model)

    whole = fit("whole", EPOCHS)
    fit("parts", SAVED_AFTER)
    return whole, fit("parts", EPOCHS, resume=True)
