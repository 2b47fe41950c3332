"""`django_wmt` stands in for wmt: a transformer that translates messages of Django and wagtail.

The pairs are the English messages of the catalogues that Django and wagtail ship (both BSD
3-clause) and their translations into five languages, whose tag comes before the message; German
alone, the official language, has too few. A message and all its translations belong to one split,
by a hash of the message. Words that are frequent in the training pairs are tokens, others are
spelt; pairs of more than 16 tokens on a side are left out. The metric is the accuracy of
the next token after the true ones before it; the official one is BLEU of decoded sentences, which
so short a training leaves near zero. As in the official model, norms come before attention and
both sides share their embedding; unlike there, positions are learnt, and the output layer is a
matrix of its own.
"""

import hashlib
from typing import ClassVar

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from submission.algoperf_api import spec
from workloads.standin.base import SPLIT_SEED, StandinWorkload
from workloads.standin.batches import Batch, Table
from workloads.standin.catalogues import locale_folders, translations
from workloads.standin.transformer import Transformer, initialise
from workloads.standin.vocabulary import END, PADDING, Vocabulary

PACKAGES = ("django", "wagtail")
LANGUAGES = ("de", "fr", "nl", "it", "es")
TOKENS = 16
VOCABULARY = 1024
# Of both transformers.
WIDTH, DEPTH, HEADS, MLP_WIDTH = 64, 2, 4, 256
# Of 100 hash values of a message, the upper bounds of validation and of test; the rest trains.
VALIDATION_BELOW, TEST_BELOW = 10, 20


def split_of(message: str) -> str:
    """The split that a message and its translations belong to, from a hash of the message."""
    share = int.from_bytes(hashlib.sha256(message.encode()).digest()[:8], "big") % 100
    if share < VALIDATION_BELOW:
        return "validation"
    return "test" if share < TEST_BELOW else "train"


class Translator(nn.Module):
    """An encoder over the message, and a causal decoder over its translation, a linear head."""

    def __init__(self) -> None:
        super().__init__()
        self.token_embedding = nn.Embedding(VOCABULARY, WIDTH)
        self.encoder = Transformer(TOKENS, WIDTH, DEPTH, HEADS, MLP_WIDTH, causal=False)
        self.decoder = Transformer(
            TOKENS, WIDTH, DEPTH, HEADS, MLP_WIDTH, causal=True, decodes=True
        )
        self.head = nn.Linear(WIDTH, VOCABULARY, bias=False)
        initialise(self)

    def forward(
        self, inputs: torch.Tensor, targets: torch.Tensor, dropout_rate: float = 0.0
    ) -> torch.Tensor:
        """Tokens of messages and of translations, both [batch, 16], to logits [batch, 16, 1024].

        The logits of a token depend on the translation's tokens before it.
        """
        visible = (inputs != PADDING)[:, None, None]
        memory = self.encoder(self.token_embedding(inputs), dropout_rate, visible)
        before = F.pad(targets, (1, -1), value=PADDING)
        decoded = self.decoder(self.token_embedding(before), dropout_rate, memory, visible)
        logits: torch.Tensor = self.head(decoded)
        return logits


class DjangoWmtWorkload(StandinWorkload):
    """Translation; metrics accuracy and loss, per token. Examples are pairs, losses per token."""

    name: ClassVar[str] = "django_wmt"
    max_eval_rows: ClassVar[int | None] = 400
    loss_type = spec.LossType.SOFTMAX_CROSS_ENTROPY
    eval_batch_size = 100

    def pairs(self) -> dict[str, list[tuple[str, str, str]]]:
        """Language, message and translation per split."""
        folders = [folder for package in PACKAGES for folder in locale_folders(package)]
        split: dict[str, list[tuple[str, str, str]]] = {"train": [], "validation": [], "test": []}
        belongs: dict[str, str] = {}
        for language in LANGUAGES:
            for message, translation in translations(folders, language).items():
                if message not in belongs:
                    belongs[message] = split_of(message)
                split[belongs[message]].append((language, message, translation))
        return split

    def load_tables(self) -> dict[str, Table]:
        pairs = self.pairs()
        texts = (text for _, *sentences in pairs["train"] for text in sentences)
        vocabulary = Vocabulary(texts, VOCABULARY, tags=[f"<{name}>" for name in LANGUAGES])
        generator = np.random.default_rng(SPLIT_SEED)
        tables = {}
        for split, rows in pairs.items():
            sides = [
                ([vocabulary.tag(f"<{language}>"), *message, END], [*translation, END])
                for language, message, translation in (
                    (language, vocabulary.encode(message), vocabulary.encode(translation))
                    for language, message, translation in rows
                )
            ]
            short = [pair for pair in sides if max(map(len, pair)) <= TOKENS]
            padded = np.array(
                [[side + [PADDING] * (TOKENS - len(side)) for side in pair] for pair in short]
            )
            inputs, targets = torch.from_numpy(generator.permutation(padded)).unbind(1)
            tables[split] = {
                "inputs": inputs,
                "targets": targets,
                "weights": (targets != PADDING).float(),
            }
        return tables

    def build_model(self) -> nn.Module:
        return Translator()

    def forward(self, model: nn.Module, batch: Batch, dropout_rate: float) -> torch.Tensor:
        logits: torch.Tensor = model(batch["inputs"], batch["targets"], dropout_rate=dropout_rate)
        return logits

    def summed_metrics(self, logits: torch.Tensor, batch: Batch) -> dict[str, torch.Tensor]:
        targets, weights = batch["targets"], batch["weights"]
        return {
            "accuracy": ((logits.argmax(-1) == targets) * weights).sum(),
            "loss": self.loss_fn(targets, logits, weights)["summed"],
        }
