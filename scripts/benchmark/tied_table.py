"""Compares ways to move a tied embedding table: loss of a small word-level language model.

    python -m scripts.benchmark.tied_table --output=results/tied_table

The corpus and its split are those of the stand-in `stdlib_lm`, here in words; the output layer is
the embedding. All but the table is trained alike, by the first point of the entry `shampoo` with
factors that follow a short run (1 - beta2 of 0.01, refreshes every 10 steps). Each way has the same
grid of learning rates with one seed, and its best rate with two more.
"""

import math
import re
import statistics
import sysconfig
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from absl import flags
from torch import Tensor, nn

from common import cli, documents, files, progress
from scripts.local import manifest
from scripts.local.metrics_log import write_csv
from submission.shampoo import Shampoo
from workloads.standin.stdlib_lm import corpus_files, split_of
from workloads.standin.transformer import Transformer

FLAGS = flags.FLAGS
WORDS, CONTEXT, WIDTH, BATCH, STEPS, WARMUP = 4096, 48, 96, 16, 250, 10
_WORD = re.compile(r"[A-Za-z_]\w*|\d+|\s+|[^\w\s]")
_VALIDATION_BATCHES = 40
SEEDS, RATES = 3, (0.003, 0.01, 0.03)
# Between the rows of the table and the longest other side (384).
_LIMIT = 1000
WAYS: Mapping[str, Mapping[str, Any]] = {
    "preconditioned": {},
    "right side alone": {"max_dim": _LIMIT, "oversize": "one_sided"},
    "AdamW's step": {"max_dim": _LIMIT},
}
COLUMNS = ("way", "rate", "seed", "loss", "ms")


class TiedModel(nn.Module):
    """A causal transformer whose output layer is its word embedding."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(WORDS, WIDTH)
        self.transformer = Transformer(CONTEXT, WIDTH, 2, 4, 4 * WIDTH, causal=True)
        nn.init.normal_(self.embedding.weight, std=0.02)

    def forward(self, words: Tensor) -> Tensor:
        """Words [batch, tokens] to logits [batch, tokens, WORDS]."""
        hidden: Tensor = self.transformer(self.embedding(words), 0.0)
        return hidden @ self.embedding.weight.T

    def loss(self, windows: Tensor) -> Tensor:
        """Mean cross-entropy of windows [batch, CONTEXT + 1]."""
        logits = self(windows[:, :-1])
        return F.cross_entropy(logits.reshape(-1, WORDS), windows[:, 1:].reshape(-1))


def corpus() -> tuple[Tensor, Tensor]:
    """Training and validation words, numbered by frequency in training, 0 for all rare ones."""
    texts: dict[str, list[str]] = {"train": [], "validation": []}
    for name, content in corpus_files(Path(sysconfig.get_paths()["stdlib"])):
        if split_of(name) in texts:
            texts[split_of(name)] += _WORD.findall(content.decode("utf-8", "replace"))
    common = Counter(texts["train"]).most_common(WORDS - 1)
    number = {word: index for index, (word, _) in enumerate(common, start=1)}
    train, validation = (
        torch.tensor([number.get(word, 0) for word in words]) for words in texts.values()
    )
    return train, validation


def make_optimizer(model: nn.Module, way: str, rate: float) -> Shampoo:
    """Shampoo of all parameters, the table treated in one of WAYS."""
    return Shampoo(
        model.named_parameters(),
        lr=rate,
        betas=(0.93266073836, 0.99),
        weight_decay=0.08121616522670176,
        nesterov=True,
        refresh_interval=10,
        **WAYS[way],
    )


def trial(train: Tensor, validation: Tensor, way: str, rate: float, seed: int) -> dict[str, Any]:
    """Trains one model; its row of the table, with the validation loss and CPU ms per step."""
    torch.manual_seed(seed)
    model = TiedModel()
    optimizer = make_optimizer(model, way, rate)
    generator = torch.Generator().manual_seed(seed)
    start = time.process_time()
    for step in range(STEPS):
        decay = 0.5 * (1 + math.cos(math.pi * max(step - WARMUP, 0) / (STEPS - WARMUP)))
        for group in optimizer.param_groups:
            group["lr"] = rate * min((step + 1) / WARMUP, decay)
        starts = torch.randint(len(train) - CONTEXT, (BATCH, 1), generator=generator)
        loss = model.loss(train[starts + torch.arange(CONTEXT + 1)])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    seconds = time.process_time() - start
    with torch.no_grad():
        windows = validation.unfold(0, CONTEXT + 1, CONTEXT).split(BATCH)[:_VALIDATION_BATCHES]
        losses = [model.loss(batch).item() for batch in windows]
    mean = statistics.fmean(losses)
    return {"way": way, "rate": rate, "seed": seed, "loss": mean, "ms": 1e3 * seconds / STEPS}


def best_rate(rows: Sequence[Mapping[str, Any]], way: str) -> float:
    """The rate with the lowest loss at the first seed."""
    tried = [row for row in rows if row["way"] == way and row["seed"] == 0]
    return float(min(tried, key=lambda row: row["loss"])["rate"])


def table(rows: Sequence[Mapping[str, Any]]) -> str:
    """The comparison as Markdown: a row per way, a column per rate of the grid."""
    rates = sorted({row["rate"] for row in rows})
    lines = []
    for way in WAYS:
        best = best_rate(rows, way)
        of_way = [row for row in rows if row["way"] == way]
        grid = {row["rate"]: f"{row['loss']:.3f}" for row in of_way if row["seed"] == 0}
        seeds = [row["loss"] for row in of_way if row["rate"] == best]
        star = "*" if best in (rates[0], rates[-1]) else ""
        lines.append(
            {
                "the table": way,
                **{f"rate {rate:g}": grid[rate] for rate in rates},
                "best rate, all seeds": " ".join(f"{loss:.3f}" for loss in seeds) + star,
                "CPU ms per step": f"{statistics.median(row['ms'] for row in of_way):.0f}",
            }
        )
    return documents.table(lines)


def main(argv: Sequence[str]) -> None:
    """Trains all models and writes tied_table.csv, tied_table.md and manifest.json."""
    del argv
    torch.set_num_threads(1)
    output = files.make_directory(Path(FLAGS.output))
    rows: list[dict[str, Any]] = []
    count = len(WAYS) * (len(RATES) + SEEDS - 1)
    with manifest.recorded(output), progress.bar(count, "tied table", "trial") as bar:
        texts = corpus()
        for way in WAYS:
            for rate in RATES:
                rows.append(trial(*texts, way, rate, 0))
                bar.update(1)
            for seed in range(1, SEEDS):
                rows.append(trial(*texts, way, best_rate(rows, way), seed))
                bar.update(1)
        write_csv(output / "tied_table.csv", rows, COLUMNS)
        files.write_text(output / "tied_table.md", page(rows))
    print(page(rows))


def page(rows: Sequence[Mapping[str, Any]]) -> str:
    """The document with the table."""
    return (
        "# How to move a tied embedding table\n\n"
        f"Validation loss per word after {STEPS} steps of a small language model on Python's own "
        f"library, whose output layer is its embedding, [{WORDS}, {WIDTH}]. All else is trained "
        "alike. By `python -m scripts.benchmark.tied_table`, on a CPU; manifest.json says where. A "
        "star: the best rate is at the edge of the grid. Not AlgoPerf.\n\n"
        f"{table(rows)}\n"
    )


if __name__ == "__main__":
    flags.DEFINE_string("output", "runs/tied_table", "folder for the table")
    cli.run(main)
