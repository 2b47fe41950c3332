"""Starts the ranks of a trial on this machine with torch's launcher, and says what became of them.

The launcher is the one behind `torchrun`; under `torchrun --standalone --nproc_per_node=N` itself
`scripts.run` works as well, only errors look different.
"""

import logging
import os
import signal
import socket
import sys
import tempfile
import uuid
from collections.abc import Mapping, Sequence

from torch.distributed.elastic.multiprocessing.api import DefaultLogsSpecs, SignalException
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError, ProcessFailure
from torch.distributed.launcher.api import LaunchConfig, elastic_launch

from common.cli import EXIT_USER_ERROR, UserError
from scripts.local.ranks import RankLost

# The launcher kills ranks that do not end with the others after 30 s. Later failures are those.
_KILLED_LATER_SECONDS = 15


def launch(command: Sequence[str], nproc: int, stop_seconds: float) -> int:
    """Runs a command as `nproc` ranks, which `ranks.joined` brings together; the exit code.

    If a rank fails, the others are ended, and one line on stderr says what happened first. If this
    process gets SIGTERM or Ctrl-C, the ranks get it too.

    Args:
      command: program and arguments.
      stop_seconds: how long ranks may take to end after such a signal.
    """
    _configure_environment()
    with tempfile.TemporaryDirectory(prefix="ranks_") as folder:
        config = LaunchConfig(
            min_nodes=1,
            max_nodes=1,
            nproc_per_node=nproc,
            run_id=uuid.uuid4().hex,
            rdzv_backend="c10d",
            rdzv_endpoint="localhost:0",
            local_addr="localhost",
            max_restarts=0,
            logs_specs=DefaultLogsSpecs(log_dir=folder),
            shutdown_timeout=int(stop_seconds),
        )
        try:
            elastic_launch(config, command[0])(*command[1:])
        except ChildFailedError as error:
            code, text = verdict(error.failures, nproc)
            if text:
                print(text, file=sys.stderr)
            return code
        except SignalException as error:
            return 128 + error.sigval
    return 0


def _configure_environment() -> None:
    """Silences the launcher's own logs, and has ranks talk over the loopback interface."""
    logger = logging.getLogger("torch.distributed.elastic")
    logger.addHandler(logging.NullHandler())
    logger.propagate = False
    interfaces = {name for _, name in socket.if_nameindex()}
    if loopback := interfaces & {"lo", "lo0"}:
        os.environ.setdefault("GLOO_SOCKET_IFNAME", loopback.pop())


def verdict(failures: Mapping[int, ProcessFailure], nproc: int) -> tuple[int, str]:
    """The exit code, and what to tell a person, after some of `nproc` ranks have failed.

    One rank's failure ends them all; the others then lose their connection to it. It is the one
    that raised another error, or was killed without being able to tell; the first, if several.
    """
    earliest = min(failure.timestamp for failure in failures.values())

    def precedence(number: int) -> tuple[bool, bool, bool, int]:
        failure = failures[number]
        return (
            failure.timestamp - earliest > _KILLED_LATER_SECONDS,
            failure.exitcode == -signal.SIGTERM,  # is what the launcher ends them with
            _message(failure).startswith(RankLost.__name__),
            failure.timestamp,
        )

    number = min(failures, key=precedence)
    failure = failures[number]
    who = f"process {number} of {nproc}"
    if failure.exitcode < 0:
        return 1, f"{who} was killed by {failure.signal_name()}; the same command resumes the trial"
    message = _message(failure)
    if failure.exitcode == EXIT_USER_ERROR:
        return EXIT_USER_ERROR, f"error: {message.removeprefix(f'{UserError.__name__}: ')}"
    if not message:  # it has said why by itself, as ranks do that are asked to stop
        return failure.exitcode, ""
    name, _, rest = message.partition(": ")
    if name == RankLost.__name__:
        killed = [f"process {other}" for other in failures if precedence(other)[0]]
        more = f"; {' and '.join(killed)} had to be killed" if killed else ""
        return 1, f"{who} ended: {rest}{more}"
    trace = failure.error_file_data["message"]["extraInfo"]["py_callstack"]
    first_line = (message.splitlines() or [""])[0]
    return 1, f"{trace.rstrip()}\n{who} failed: {first_line}"


def _message(failure: ProcessFailure) -> str:
    """`Error: text` as `ErrorHandler` has recorded it, empty if the process has not."""
    recorded = failure.error_file_data["message"]
    return recorded["message"] if isinstance(recorded, dict) else ""
