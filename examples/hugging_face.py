"""Trains with Hugging Face's Trainer: a small Llama on the source of Python's own argparse.

    pip install "transformers[torch]"
    python examples/hugging_face.py --output=runs/hugging_face --epochs=2
    python examples/hugging_face.py --output=runs/hugging_face --epochs=4 --resume

The Trainer takes any optimizer by `optimizers=`, saves its state with each checkpoint, and goes on
from there.
"""

import argparse
import inspect

import torch
from stacked_shampoo import Shampoo, parameter_groups
from transformers import LlamaConfig, LlamaForCausalLM, Trainer, TrainingArguments


def examples(length: int = 64) -> list[dict[str, torch.Tensor]]:
    """Pieces of `length` bytes; the model predicts each byte from those before it."""
    text = torch.tensor(list(inspect.getsource(argparse).encode()))
    pieces = text[: len(text) // length * length].view(-1, length)
    return [{"input_ids": piece, "labels": piece} for piece in pieces]


def main() -> None:
    parser = argparse.ArgumentParser(description="Trains a small language model on Python source.")
    parser.add_argument("--lr", type=float, default=3e-3)
    parser.add_argument("--epochs", type=int, default=2)
    parser.add_argument("--output", required=True, help="folder for checkpoints")
    parser.add_argument("--resume", action="store_true", help="go on from its last checkpoint")
    flags = parser.parse_args()

    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=256,
        hidden_size=64,
        intermediate_size=128,
        num_hidden_layers=2,
        num_attention_heads=4,
        tie_word_embeddings=False,
    )
    model = LlamaForCausalLM(config)
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
        disable_tqdm=True,
    )
    pieces = examples()
    trainer = Trainer(
        model,
        arguments,
        train_dataset=pieces[:-64],
        eval_dataset=pieces[-64:],
        optimizers=(optimizer, None),
    )
    trainer.train(resume_from_checkpoint=flags.resume)
    print(f"step {trainer.state.global_step}: test loss {trainer.evaluate()['eval_loss']:.6f}")


if __name__ == "__main__":
    main()
