"""Runs one trial under the official runner to its end, however often it is interrupted."""

import datetime
import signal
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

from common import files, progress
from common.cli import UserError
from scripts.local import environment, supervisor
from scripts.local.lock import locked
from scripts.local.trial import LOG, STATUS
from scripts.official import logs, workdir
from scripts.official.command import Command, Node, command
from scripts.official.keep import Keeper
from scripts.official.trial import OfficialTrial

_POLL_SECONDS = 5.0
# torchrun itself gives its ranks 30 s to end before it kills them.
_STOP_SECONDS = 60.0


class RunnerFailedError(Exception):
    """The official runner ended without having finished the trial; the message says how."""


def complete(trial: OfficialTrial, node: Node) -> str:
    """Runs a trial, resumes it, or leaves it as it is if it is complete; one line about it.

    Raises:
      UserError: its folder holds another trial, damaged files, or is in use.
      RunnerFailedError: the runner failed.
    """
    directory = files.make_directory(trial.directory(node.output))
    with locked(directory, "the trial"):
        status, done = logs.finished(trial, directory), "already complete"
        if status is None:
            done = "complete"
            step = logs.prepare(directory)
            if step:
                print(f"{trial.trial.name}: goes on from step {step}", file=sys.stderr)
            status = _run(trial, node, directory)
        if not (directory / STATUS).exists():
            files.write_json(directory / STATUS, status)
        if "source" not in status:
            workdir.remove(directory)
            for checkpoint in logs.checkpoints(directory):
                with suppress(OSError):  # the next call finds it again
                    logs.remove(checkpoint)
    how = status["reason"]
    if "exit_code" in status:
        how += f"; the runner then ended with exit code {status['exit_code']}"
    return (
        f"{trial.trial.name}: {done} ({how}) at step {status['global_step']} "
        f"after {status['accumulated_submission_time']:.1f} s; logs in {directory}"
    )


def _run(trial: OfficialTrial, node: Node, directory: Path) -> dict[str, Any]:
    """Runs the official runner; the content of status.json once it has finished the trial."""
    trial.write_space(node.output)
    workdir.prepare(directory)
    started = command(trial, node)
    _record(started, node, directory)
    log = directory / LOG
    with log.open("ab") as stream:
        stream.write(f"$ {started.shell()}\n".encode())
    with (
        supervisor.exit_on_sigterm(),
        progress.bar(round(trial.budget_seconds), trial.trial.name, "s") as bar,
    ):
        outcome = supervisor.run(
            started.arguments,
            log,
            folder=started.directory,
            environment=started.environment(),
            poll_seconds=_POLL_SECONDS,
            look=Keeper(trial, directory, bar).look,
            grace_seconds=_STOP_SECONDS,
            parent_death=signal.SIGTERM,
        )
    try:
        ending = logs.ending(trial, directory)
    except UserError:
        if not outcome.problem:
            raise
        ending = None
    if ending is None:
        raise RunnerFailedError(outcome.problem or "the runner ended without finishing the trial")
    code = outcome.returncode
    return ending | {"gpus": node.gpus} | ({"exit_code": code} if code else {})


def _record(started: Command, node: Node, directory: Path) -> None:
    """Writes the command, hardware and commit of a start or resume to `launch_N.json`."""
    number = len(list(directory.glob(logs.LAUNCH.format("*"))))
    record = {
        "command": started.shell(),
        "gpus": node.gpus,
        "started": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        **environment.describe(),
    }
    files.write_json(directory / logs.LAUNCH.format(number), record)


def describe(trial: OfficialTrial, node: Node) -> str:
    """The state of a trial before `complete`, for a person; UserError as there."""
    directory = trial.directory(node.output)
    if logs.finished(trial, directory) is not None:
        return "complete"
    checkpoints = logs.checkpoints(directory)
    return f"resumes from {checkpoints[-1].name}" if checkpoints else "to run"
