"""Command lines: clear errors in one line, no tracebacks for a mistake of the user."""

import difflib
import errno
import math
import os
import re
import signal
import sys
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from typing import NoReturn

from absl import app, flags

EXIT_USER_ERROR = 2
# What a machine has run out of, or does not give: nothing in the code is wrong.
_EXHAUSTED = frozenset(
    getattr(errno, name)
    for name in ("ENOSPC", "EDQUOT", "EFBIG", "EROFS", "EIO", "EMFILE", "ENFILE", "ENOMEM")
)

# What absl says of flags, and what there must be instead.
_MISSING = re.compile(r"flag --(\w+)=None: Flag --\w+ must have a value other than None\.")
_WRONG = (
    (re.compile(r"flag (--.*?): invalid literal for int\(\).*", re.DOTALL), "an integer"),
    (re.compile(r"flag (--.*?): could not convert string to float.*", re.DOTALL), "a number"),
    (re.compile(r"flag (--.*?): \('Non-boolean argument.*", re.DOTALL), "true or false"),
    (re.compile(r"(--.*) does not take an argument", re.DOTALL), "without a value"),
)


class UserError(Exception):
    """A mistake in what the user gave; the message names it and says what is allowed."""


class Terminated(SystemExit):
    """SIGTERM has asked the program to end."""


def run(main: Callable[[Sequence[str]], int | None], may_be_empty: Sequence[str] = ()) -> None:
    """Parses absl flags and runs `main(argv)`.

    User errors, and files that the machine has no room for, end in one line and exit code 2.

    Args:
      may_be_empty: flags of texts for which `--name=` has a meaning. Of others it is refused: the
        shell's variable was empty, and an empty path would be the current folder.
    """
    if hasattr(sys.stdout, "reconfigure"):  # paths and signs that the terminal has no letters for
        sys.stdout.reconfigure(errors="backslashreplace")

    def parse(argv: Sequence[str]) -> list[str]:
        try:
            rest = flags.FLAGS(argv)
        except (flags.Error, ValueError) as error:  # the latter for --noflag=value
            fail(f"{_explained(str(error))} (--help lists the flags)")
        except SystemExit:
            # Only the help flags end the program here, and absl has them end it with 1.
            sys.exit(0)
        for flag in map(flags.FLAGS.__getitem__, flags.FLAGS):
            if isinstance(flag.value, float) and not math.isfinite(flag.value):
                wrong = f"--{flag.name}={flag.value}"
                fail(f"{wrong}: must be a finite number (--help lists the flags)")
            is_text = flag.present and flag.flag_type() == "string"
            if is_text and not str(flag.value).strip() and flag.name not in may_be_empty:
                fail(f"--{flag.name}= is empty; give a value, or leave the flag out")
        return rest

    def guarded(argv: Sequence[str]) -> int | None:
        if len(argv) > 1:
            fail(f"unexpected argument {argv[1]!r}; flags are given as --name=value")
        try:
            return main(argv)
        except UserError as error:
            fail(str(error))
        except (KeyboardInterrupt, Terminated) as ended:
            print("interrupted; run the same command again to resume", file=sys.stderr)
            return 128 + (signal.SIGTERM if isinstance(ended, Terminated) else signal.SIGINT)
        except BrokenPipeError:  # whoever read our output, such as `head`, has seen enough
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            return 128 + signal.SIGPIPE
        except OSError as error:
            if error.errno not in _EXHAUSTED:
                raise
            where = "" if error.filename is None else f"{error.filename}: "
            fail(f"{where}{error.strerror}; the same command goes on once that is mended")

    app.run(guarded, flags_parser=parse)


def _explained(error: str) -> str:
    """An error of absl's about flags, in the words of all others.

    >>> _explained("flag --output=None: Flag --output must have a value other than None.")
    '--output= must be given'
    >>> _explained("flag --trial=x: invalid literal for int() with base 10: 'x'")
    '--trial=x: must be an integer'
    """
    if missing := _MISSING.findall(error):
        return " and ".join(f"--{name}=" for name in missing) + " must be given"
    for pattern, allowed in _WRONG:
        if match := pattern.fullmatch(error):
            return f"{match[1]}: must be {allowed}"
    return error


def names(flag: str, given: Sequence[str] | None, allowed: Sequence[str]) -> list[str]:
    """The distinct values of a list flag; UserError for none, and for one that is not allowed."""
    values = list(dict.fromkeys(given or []))
    unknown = [name for name in values if name not in allowed]
    if unknown or not values:
        problem = ", ".join(unknown) or "none given"
        nearest = near(allowed, *unknown)
        raise UserError(f"--{flag}: {problem}; allowed: {', '.join(allowed)}{nearest}")
    return values


def near(known: Iterable[str], *given: str) -> str:
    """What to add to an error about unknown names: the known ones that they look like.

    >>> near(["adamw", "shampoo"], "Shampo"), near(["adamw", "shampoo"], "lion")
    ('; did you mean shampoo?', '')
    """
    known = list(known)
    matches = [difflib.get_close_matches(name.lower(), known, n=1) for name in given]
    nearest = list(dict.fromkeys(name for match in matches for name in match))
    return f"; did you mean {' and '.join(nearest)}?" if nearest else ""


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
    with suppress(OSError):  # of a full disk
        print(f"error: {' '.join(message.split())}", file=sys.stderr)
    sys.exit(EXIT_USER_ERROR)
