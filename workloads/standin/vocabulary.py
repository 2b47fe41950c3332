"""A vocabulary of frequent words, with characters for what is spelt out."""

import re
from collections import Counter
from collections.abc import Iterable, Sequence

# A placeholder such as %(name)s, a word with the space before it, or any other character.
_PIECE = re.compile(r"%\(\w+\)[a-z]| ?\w+|\W")

PADDING, END, UNKNOWN = 0, 1, 2


class Vocabulary:
    """Tokens of texts: frequent pieces are one, of others every character is one.

    Args:
      texts: to choose pieces and characters from.
      size: of the vocabulary; as many pieces as have room are taken, the frequent ones first.
      tags: texts that stand for themselves, with tokens from 3 on.

    Raises:
      ValueError: if the characters alone have no room.
    """

    def __init__(self, texts: Iterable[str], size: int, tags: Sequence[str] = ()) -> None:
        counts: Counter[str] = Counter()
        for text in texts:
            counts.update(_PIECE.findall(text))
        characters = sorted(set().union(*counts))
        by_frequency = sorted(counts, key=lambda piece: (-counts[piece], piece))
        words = [piece for piece in by_frequency if len(piece) > 1]
        room = size - UNKNOWN - 1 - len(tags) - len(characters)
        if room < 0:
            raise ValueError(f"{len(characters)} characters have no room among {size} tokens")
        named = [*tags, *characters, *words[:room]]
        self._tokens = {name: token for token, name in enumerate(named, UNKNOWN + 1)}
        self._pieces: dict[str, list[int]] = {}

    def __len__(self) -> int:
        """The number of tokens in use, from 0."""
        return UNKNOWN + 1 + len(self._tokens)

    def tag(self, name: str) -> int:
        """The token of a tag; KeyError if it is none."""
        return self._tokens[name]

    def encode(self, text: str) -> list[int]:
        """The tokens of a text, without END."""
        return [token for piece in _PIECE.findall(text) for token in self._spelt(piece)]

    def _spelt(self, piece: str) -> list[int]:
        if piece not in self._pieces:
            known = self._tokens.get(piece)
            self._pieces[piece] = (
                [self._tokens.get(character, UNKNOWN) for character in piece]
                if known is None
                else [known]
            )
        return self._pieces[piece]
