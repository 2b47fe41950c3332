"""A progress bar on a terminal, plain lines with times elsewhere."""

import sys
import time
from contextlib import suppress
from typing import Any

from tqdm import tqdm

_lines_only = False


def use_lines() -> None:
    """Has this process print lines on a terminal, too, where others write beside it."""
    global _lines_only
    _lines_only = True


def bar(total: int, description: str, unit: str = "it", initial: int = 0) -> Any:
    """A bar with `update(n)` and `set_postfix_str(text)`, for use as a context manager."""
    if sys.stderr.isatty() and not _lines_only:
        return tqdm(total=total, desc=description, unit=unit, initial=initial, dynamic_ncols=True)
    return _Lines(total, description, unit, initial)


class _Lines:
    """Prints at most one line every `period` seconds, and a last one if anything was done."""

    period = 10.0

    def __init__(self, total: int, description: str, unit: str, initial: int) -> None:
        self.total, self.description, self.unit = total, description, unit
        self.n = self.initial = self.printed = initial
        self.postfix = ""
        self.start = time.monotonic()
        self.last_print = -float("inf")

    def __enter__(self) -> "_Lines":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def update(self, n: int = 1) -> None:
        self.n += n
        if time.monotonic() - self.last_print >= self.period:
            self._print()

    def set_postfix_str(self, text: str, refresh: bool = False) -> None:
        del refresh
        self.postfix = text

    def close(self) -> None:
        if self.n != self.printed:
            self._print()

    def _print(self) -> None:
        self.last_print, self.printed = time.monotonic(), self.n
        elapsed = self.last_print - self.start
        done = self.n - self.initial
        left = f"{elapsed / done * (self.total - self.n):.0f} s left" if done else "starting"
        line = f"{self.description}: {self.n}/{self.total} {self.unit}, {elapsed:.0f} s, {left}"
        with suppress(OSError):  # a full disk ends no study for the sake of these lines
            print(f"{line} {self.postfix}".rstrip(), file=sys.stderr, flush=True)
