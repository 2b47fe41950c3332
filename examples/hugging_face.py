"""Trains with Hugging Face's Trainer: a small Llama on the source of Python's own argparse.

    pip install "transformers[torch]"
    python examples/hugging_face.py --output=runs/llama --epochs=2
    python examples/hugging_face.py --output=runs/llama --epochs=4 --resume
    torchrun --nproc_per_node=2 examples/hugging_face.py --output=runs/llama_ddp

The Trainer takes any optimizer by `optimizers=` and saves its state, on the first process alone:
where processes share the work, a callback brings the state there.
"""

import argparse
import inspect

import torch
from stacked_shampoo import Shampoo, parameter_groups
from transformers import LlamaConfig, LlamaForCausalLM, Trainer, TrainerCallback, TrainingArguments


def examples(length: int = 64) -> list[dict[str, torch.Tensor]]:
    """Pieces of `length` bytes; the model predicts each byte from those before it."""
    text = torch.tensor(list(inspect.getsource(argparse).encode()))
    pieces = text[: len(text) // length * length].view(-1, length)
    return [{"input_ids": piece, "labels": piece} for piece in pieces]


class Consolidate(TrainerCallback):
    """Brings the optimizer's state to the first process before the Trainer saves it there."""

    def on_step_end(self, args, state, control, optimizer=None, **kwargs):
        if control.should_save:
            optimizer.optimizer.consolidate_state_dict(to=0)

    on_epoch_end = on_step_end


def main() -> None:
    parser = argparse.ArgumentParser(description="Trains a small language model on Python source.")
    parser.add_argument("--lr", type=float, default=3e-3)
    parser.add_argument("--epochs", type=int, default=2)
    parser.add_argument("--output", required=True, help="folder for checkpoints")
    parser.add_argument("--resume", action="store_true", help="go on from its last checkpoint")
    flags = parser.parse_args()

    torch.manual_seed(0)
    sizes = {"vocab_size": 256, "hidden_size": 64, "intermediate_size": 128}
    depths = {"num_hidden_layers": 2, "num_attention_heads": 4}
    model = LlamaForCausalLM(LlamaConfig(**sizes, **depths, tie_word_embeddings=False))
    # With no scheduler given, the Trainer makes the one that its arguments name.
    optimizer = Shampoo(parameter_groups(model), lr=flags.lr, weight_decay=0.01)
    arguments = TrainingArguments(
        output_dir=flags.output,
        num_train_epochs=flags.epochs,
        per_device_train_batch_size=32,
        lr_scheduler_type="constant",
        save_strategy="epoch",
        save_total_limit=1,
        report_to="none",
        use_cpu=not torch.cuda.is_available(),
        disable_tqdm=True,
    )
    pieces = examples()
    trainer = Trainer(
        model,
        arguments,
        train_dataset=pieces[:-64],
        eval_dataset=pieces[-64:],
        optimizers=(optimizer, None),
        callbacks=[Consolidate()],
    )
    trainer.train(resume_from_checkpoint=flags.resume)
    loss = trainer.evaluate()["eval_loss"]
    if trainer.is_world_process_zero():
        print(f"step {trainer.state.global_step}: test loss {loss:.6f}")


if __name__ == "__main__":
    main()
