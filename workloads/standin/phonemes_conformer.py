"""`phonemes_conformer` stands in for librispeech_conformer: it pronounces written words.

A conformer reads the letters of an English word, two frames for a letter, and CTC writes its
phonemes. The words are of the CMU pronouncing dictionary that pocketsphinx ships: a random part of
those with three to ten letters from a to z, with the first pronunciation of those with several.
Words are split into training, validation and test, so a spelling is in one split only; words
related to it, such as its plural, may be in another.

Unlike the official workload it reads letters, not sound: it has no spectrogram, no subsampling and
no SpecAugment. It also leaves out the learnt scale of the queries. The metric keeps the official
name `wer` but counts phonemes where that counts words.
"""

import functools
from typing import ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from workloads.standin import replicas
from workloads.standin.base import SPLIT_SEED
from workloads.standin.batches import Table
from workloads.standin.conformer import ConformerBlock, sinusoids
from workloads.standin.ctc import BLANK, CtcWorkload
from workloads.standin.packaged_data import locate
from workloads.standin.transformer import initialise

# ARPAbet without stress, as the dictionary writes it; symbol k + 1 is phoneme k.
PHONEMES = (
    *("AA", "AE", "AH", "AO", "AW", "AY", "B", "CH", "D", "DH", "EH", "ER", "EY", "F", "G", "HH"),
    *("IH", "IY", "JH", "K", "L", "M", "N", "NG", "OW", "OY", "P", "R", "S", "SH", "T", "TH"),
    *("UH", "UW", "V", "W", "Y", "Z", "ZH"),
)
LETTERS = "abcdefghijklmnopqrstuvwxyz"
FEWEST_LETTERS, MOST_LETTERS = 3, 10
FRAMES_PER_LETTER = 2
MOST_PHONEMES = MOST_LETTERS
SIZES = {"train": 24_000, "validation": 500, "test": 500}
# Size of a frame's vector, a multiple of the heads, even; blocks, heads, hidden units and frames of
# a convolution.
WIDTH, DEPTH, HEADS, HIDDEN, KERNEL = 64, 2, 4, 256, 5
# Log-odds of a symbol but the blank in a frame beyond the word's end.
IMPOSSIBLE = -1e4


def entry(line: str) -> tuple[str, list[str]] | None:
    """Spelling and phonemes of a dictionary's line; None if the word is not of the kind read.

    That is one with letters beyond a to z, too few or too many of them, a further pronunciation,
    or more phonemes than letters: so CTC has frames enough, whatever phonemes repeat.

    >>> entry("apple AE P AH L")
    ('apple', ['AE', 'P', 'AH', 'L'])
    >>> entry("apple(2) AE P AH L"), entry("fax's F AE K S IH Z"), entry("xyz EH K S W AY Z IY")
    (None, None, None)
    """
    word, *phonemes = line.split()
    if not (word.isascii() and word.isalpha() and FEWEST_LETTERS <= len(word) <= MOST_LETTERS):
        return None
    return (word, phonemes) if len(phonemes) <= len(word) else None


def _filled(rows: list[list[int]], width: int) -> NDArray[np.int64]:
    return np.array([row + [0] * (width - len(row)) for row in rows], dtype=np.int64)


class PhonemeConformer(nn.Module):
    """Embedded letters, sinusoidal positions, conformer blocks, a linear head."""

    positions: torch.Tensor

    def __init__(self) -> None:
        super().__init__()
        # A letter's row holds the vectors of its frames side by side.
        self.letter_embedding = nn.Embedding(1 + len(LETTERS), FRAMES_PER_LETTER * WIDTH)
        frames = FRAMES_PER_LETTER * MOST_LETTERS
        self.register_buffer("positions", sinusoids(frames, WIDTH), persistent=False)
        self.blocks = nn.ModuleList(
            ConformerBlock(WIDTH, HEADS, HIDDEN, KERNEL) for _ in range(DEPTH)
        )
        self.head = nn.Linear(WIDTH, 1 + len(PHONEMES))
        initialise(self)

    def forward(self, inputs: torch.Tensor, dropout_rate: float = 0.0) -> torch.Tensor:
        """Letters [batch, 10], 0 beyond the end, to logits [batch, 20, 40]."""
        batch, letters = inputs.shape
        real = (inputs > 0).repeat_interleave(FRAMES_PER_LETTER, 1)[..., None]
        frames = self.letter_embedding(inputs).view(batch, FRAMES_PER_LETTER * letters, -1)
        x = replicas.dropout(frames + self.positions, dropout_rate, self.training)
        for block in self.blocks:
            x = block(x, real.to(x.dtype), dropout_rate)
        beyond = x.new_full((1 + len(PHONEMES),), IMPOSSIBLE)
        beyond[BLANK] = 0.0
        return torch.where(real, self.head(x), beyond)


class PhonemesConformerWorkload(CtcWorkload):
    """Letters to phonemes; metrics wer (edits per phoneme) and ctc_loss (per phoneme)."""

    name: ClassVar[str] = "phonemes_conformer"
    eval_batch_size = 200

    @functools.cached_property
    def _words(self) -> list[tuple[str, list[str]]]:
        """Distinct spellings with their phonemes, in random order."""
        path = locate("pocketsphinx", "model/en-us/cmudict-en-us.dict")
        lines = path.read_text(encoding="utf-8").splitlines()
        order = np.random.default_rng(SPLIT_SEED).permutation(len(lines))
        words: dict[str, list[str]] = {}
        for index in order.tolist():
            read = entry(lines[index])
            if read is not None:
                words.setdefault(*read)
            if len(words) == sum(SIZES.values()):
                break
        return list(words.items())

    def load_tables(self) -> dict[str, Table]:
        letters = {letter: index for index, letter in enumerate(LETTERS, 1)}
        symbols = {phoneme: index for index, phoneme in enumerate(PHONEMES, 1)}
        spellings = [[letters[letter] for letter in word] for word, _ in self._words]
        sounds = [[symbols[phoneme] for phoneme in phonemes] for _, phonemes in self._words]
        inputs = torch.from_numpy(_filled(spellings, MOST_LETTERS))
        targets = torch.from_numpy(_filled(sounds, MOST_PHONEMES))
        tables, start = {}, 0
        for split, size in SIZES.items():
            rows = slice(start, start + size)
            tables[split] = {"inputs": inputs[rows], "targets": targets[rows]}
            start += size
        return tables

    def build_model(self) -> nn.Module:
        return PhonemeConformer()
