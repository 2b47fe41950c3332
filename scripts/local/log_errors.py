"""Why a process has failed, from its exit code and the log that it wrote."""

import re
import signal
from pathlib import Path

# The last line of a traceback, of any rank, or what `common.cli` prints. That of torchrun comes
# after its ranks' own and says nothing.
_ERROR = re.compile(
    r"(?:\[rank\d+\]: )?"
    r"((?!.*ChildFailedError)[A-Za-z_][\w.]*(?:Error|Exception|Interrupt|Exit|Failure)\b.*"
    r"|error: .*)"
)


def last_error(log: Path, code: int, start: int = 0) -> str:
    """The last error that a log names, else its last line, else the exit code.

    Args:
      code: the exit code; below 0, it is the signal that is named.
      start: the byte of the log from which on it is the process's.
    """
    if code < 0:
        return f"killed by {signal.Signals(-code).name}"
    with log.open("rb") as stream:
        stream.seek(start)
        text = stream.read().decode("utf-8", "replace")
    lines = [line.rstrip() for line in text.splitlines() if line.strip()]
    errors = [match[1] for line in lines if (match := _ERROR.match(line))]
    return (errors or lines or [f"exit code {code}"])[-1].lstrip()
