"""`stdlib_lm` stands in for finewebedu_lm: a byte-level language model of Python's own library.

The corpus is the first 4 MiB of `*.py` files of the running interpreter's standard library, files
in the order of a hash of their path, without tests, generated tables and packages that newer
versions dropped. Other Python versions have other sources, so perplexities compare only between
runs on one version. Files, not passages, are split into training, validation and test text.
"""

import hashlib
import math
import sysconfig
from pathlib import Path
from typing import ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from common.cli import UserError
from submission.algoperf_api import spec
from workloads.standin.base import SPLIT_SEED, StandinWorkload
from workloads.standin.batches import Batch, Table
from workloads.standin.transformer import Transformer, initialise

BYTE_BUDGET = 4 << 20
CONTEXT = 64
VOCABULARY = 256
# Of the transformer.
WIDTH, DEPTH, HEADS, MLP_WIDTH = 96, 2, 4, 384
EXCLUDED = frozenset(
    {"site-packages", "dist-packages", "test", "tests", "idlelib", "lib2to3", "turtledemo"}
    | {"encodings", "pydoc_data", "distutils", "_bundled", "__pycache__"}
)
# Of 100 hash values of a path, the upper bounds of validation and of test; the rest trains.
VALIDATION_BELOW, TEST_BELOW = 8, 16


def _digest(name: str) -> bytes:
    return hashlib.sha256(name.encode()).digest()


def corpus_files(root: Path, byte_budget: int = BYTE_BUDGET) -> list[tuple[str, bytes]]:
    """Relative path and content of the corpus' files, up to `byte_budget` bytes in all."""
    paths = [path.relative_to(root) for path in root.rglob("*.py")]
    names = [
        path.as_posix()
        for path in paths
        if not EXCLUDED & set(path.parts) and not path.name.startswith("_sysconfigdata")
    ]
    files, total = [], 0
    for name in sorted(names, key=_digest):
        content = (root / name).read_bytes()
        total += len(content)
        if total > byte_budget:
            break
        files.append((name, content))
    return files


def split_of(name: str) -> str:
    """The split that a file belongs to, from the hash of its relative path."""
    # The order of the files follows the digest's first bytes; the last ones are independent of it.
    share = int.from_bytes(_digest(name)[-8:], "big") % 100
    if share < VALIDATION_BELOW:
        return "validation"
    return "test" if share < TEST_BELOW else "train"


def windows(content: bytes, context: int = CONTEXT) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Cuts a file into rows of `context` + 1 bytes that overlap by one, the last one padded.

    Returns the rows [n, context + 1], and [n, context] with 1 where a byte is to be predicted.

    >>> rows, mask = windows(b"abcdef", context=3)
    >>> [bytes(row) for row in rows], mask.tolist()
    ([b'abcd', b'def\\x00'], [[1, 1, 1], [1, 1, 0]])
    """
    predicted = max(0, len(content) - 1)
    count = -(-predicted // context)
    padded = np.zeros(count * context + 1, dtype=np.uint8)
    padded[: len(content)] = np.frombuffer(content, dtype=np.uint8)[: len(padded)]
    starts = np.arange(count)[:, None] * context
    mask = (np.arange(count * context) < predicted).astype(np.uint8).reshape(count, context)
    return padded[starts + np.arange(context + 1)], mask


class LanguageModel(nn.Module):
    """Byte embedding, causal pre-norm blocks, linear head."""

    def __init__(self) -> None:
        super().__init__()
        self.token_embedding = nn.Embedding(VOCABULARY, WIDTH)
        self.transformer = Transformer(CONTEXT, WIDTH, DEPTH, HEADS, MLP_WIDTH, causal=True)
        self.head = nn.Linear(WIDTH, VOCABULARY, bias=False)
        initialise(self)

    def forward(self, inputs: torch.Tensor, dropout_rate: float = 0.0) -> torch.Tensor:
        """Bytes [batch, tokens] to logits [batch, tokens, 256]."""
        tokens = self.token_embedding(inputs.long())
        logits: torch.Tensor = self.head(self.transformer(tokens, dropout_rate))
        return logits


class StdlibLmWorkload(StandinWorkload):
    """Next-byte prediction; metrics ppl (per byte), loss. Examples are windows, losses per byte."""

    name: ClassVar[str] = "stdlib_lm"
    max_eval_rows: ClassVar[int | None] = 128
    loss_type = spec.LossType.SOFTMAX_CROSS_ENTROPY
    eval_batch_size = 64

    def load_tables(self) -> dict[str, Table]:
        root = Path(sysconfig.get_paths()["stdlib"])
        cut: dict[str, list[tuple[NDArray[np.uint8], NDArray[np.uint8]]]] = {
            split: [] for split in ("train", "validation", "test")
        }
        for name, content in corpus_files(root):
            cut[split_of(name)].append(windows(content))
        if not all(cut.values()):
            raise UserError(f"stdlib_lm finds no Python sources under {root}")
        generator = np.random.default_rng(SPLIT_SEED)
        tables = {}
        for split, parts in cut.items():
            rows, mask = (np.concatenate(kind) for kind in zip(*parts, strict=True))
            order = generator.permutation(len(rows))
            text = torch.from_numpy(rows[order])
            tables[split] = {
                "inputs": text[:, :-1],
                "targets": text[:, 1:],
                "weights": torch.from_numpy(mask[order]).float(),
            }
        return tables

    def build_model(self) -> nn.Module:
        return LanguageModel()

    def summed_metrics(self, logits: torch.Tensor, batch: Batch) -> dict[str, torch.Tensor]:
        return {"loss": self.loss_fn(batch["targets"], logits, batch["weights"])["summed"]}

    def finish_metrics(self, means: dict[str, float]) -> dict[str, float]:
        # Beyond exp(700) a float overflows; a run that diverged so far has no perplexity to tell.
        loss = means["loss"]
        return {"loss": loss, "ppl": math.exp(loss) if loss < 700 else math.inf}
