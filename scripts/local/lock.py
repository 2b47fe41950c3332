"""The one lock of a folder of results, against other processes, on other nodes as well."""

import fcntl
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from common.cli import UserError

NAME = ".lock"


@contextmanager
def locked(folder: Path, what: str) -> Iterator[None]:
    """Holds an exclusive lock on a folder; UserError if another process holds it.

    The lock is on a file `.lock` in it, which stays there: file systems of clusters lock only files
    that are open for writing, and one that is removed could be locked twice.

    Args:
      what: that is running in the folder, for the message.
    """
    with ExitStack() as stack:
        try:
            # Open for reading as well, since a pipe would wait for a reader.
            handle = stack.enter_context((folder / NAME).open("a+"))
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise UserError(f"another process is running {what} in {folder}") from error
        except OSError as error:
            raise UserError(f"cannot lock {folder}: {error.strerror or error}") from error
        yield
