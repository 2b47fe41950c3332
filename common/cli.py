"""Command lines: clear errors in one line, no tracebacks for a mistake of the user."""

import math
import os
import signal
import sys
from collections.abc import Callable, Sequence
from typing import NoReturn

from absl import app, flags

EXIT_USER_ERROR = 2


class UserError(Exception):
    """A mistake in what the user gave; the message names it and says what is allowed."""


def run(main: Callable[[Sequence[str]], int | None]) -> None:
    """Parses absl flags and runs `main(argv)`; user errors end in one line and exit code 2."""

    def parse(argv: Sequence[str]) -> list[str]:
        try:
            return flags.FLAGS(argv)
        except flags.Error as error:
            fail(f"{error} (--help lists the flags)")
        except SystemExit:
            # Only the help flags end the program here, and absl has them end it with 1.
            sys.exit(0)

    def guarded(argv: Sequence[str]) -> int | None:
        if len(argv) > 1:
            fail(f"unexpected argument {argv[1]!r}; flags are given as --name=value")
        try:
            return main(argv)
        except UserError as error:
            fail(str(error))
        except KeyboardInterrupt:
            print("interrupted; run the same command again to resume", file=sys.stderr)
            return 130
        except BrokenPipeError:  # whoever read our output, such as `head`, has seen enough
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            return 128 + signal.SIGPIPE

    app.run(guarded, flags_parser=parse)


def names(flag: str, given: Sequence[str] | None, allowed: Sequence[str]) -> list[str]:
    """The distinct values of a list flag; UserError for none, and for one that is not allowed."""
    values = list(dict.fromkeys(given or []))
    unknown = [name for name in values if name not in allowed]
    if unknown or not values:
        problem = ", ".join(unknown) or "none given"
        raise UserError(f"--{flag}: {problem}; allowed: {', '.join(allowed)}")
    return values


def numbers(flag: str, given: Sequence[str], least: float, integers: bool = False) -> list[float]:
    """The finite numbers of a list flag; UserError for none, and for others."""
    try:
        values = [float(text) for text in given]
    except ValueError:
        values = []
    good = [n for n in values if math.isfinite(n) and n >= least and (not integers or n % 1 == 0)]
    if not values or len(good) < len(values):
        kind = "integers" if integers else "numbers"
        raise UserError(
            f"--{flag}: {','.join(given) or 'nothing'} given; allowed: {kind} >= {least}"
        )
    return good


def fail(message: str) -> NoReturn:
    """Prints one line and exits with code 2."""
    print(f"error: {' '.join(message.split())}", file=sys.stderr)
    sys.exit(EXIT_USER_ERROR)
