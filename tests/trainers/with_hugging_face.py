"""Hugging Face's Trainer: an uninterrupted run, and one resumed from the Trainer's checkpoint."""

import warnings
from pathlib import Path
from typing import Any

import transformers
from torch import Tensor, nn

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


def ends(method: str, folder: Path, **settings: Any) -> Ends:
    """Weights at the end of the uninterrupted run and of the resumed one.

    Args:
      settings: of `transformers.TrainingArguments`.
    """

    def fit(output: str, epochs: int, resume: bool = False) -> list[Tensor]:
        model = Model()
        optimizer = problem.optimizer(model.parameters(), method)
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
            optimizers=(optimizer, None),
            callbacks=[Consolidate()],
        )
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the Trainer's own, of schedulers
            trainer.train(resume_from_checkpoint=resume)
        return problem.weights(model)

    whole = fit("whole", EPOCHS)
    fit("parts", SAVED_AFTER)
    return whole, fit("parts", EPOCHS, resume=True)
