"""A command that trains in a folder: locked, resumable, in one process or in several.

Several share each batch: on the CPU, or one on each GPU. The command starts them itself (--nproc),
or torchrun does.
"""

import contextlib
import dataclasses
import os
import signal
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from types import FrameType
from typing import Any

from absl import flags

from common.cli import UserError
from scripts.local import supervisor, trial
from scripts.local.environment import available_cores, core_slots
from scripts.local.lock import locked

FLAGS = flags.FLAGS
# Set by torch's launcher, `torchrun`'s or ours, in the processes that it starts.
_LAUNCHED = "TORCHELASTIC_RUN_ID"

Status = dict[str, Any]


def define_flags() -> None:
    """Declares how many processes train together, what they may use, and --overwrite."""
    flags.DEFINE_integer(
        "nproc", None, "processes that train together (default: 1, or torchrun's)", lower_bound=1
    )
    flags.DEFINE_float(
        "rank_timeout_seconds", 300.0, "how long these wait for one another", lower_bound=1.0
    )
    flags.DEFINE_integer("threads", 1, "PyTorch threads", lower_bound=1)
    flags.DEFINE_list("cores", None, "run on these cores only")
    flags.DEFINE_bool("overwrite", False, "start over if there are files already")


def flags_beside(name: str) -> dict[str, Any]:
    """Names and values of the key flags of the command line that declares this one."""
    module = FLAGS.find_module_defining_flag(name)
    return {flag.name: flag.value for flag in FLAGS.get_key_flags_for_module(module)}


def apply_process_flags() -> None:
    """Pins cores and thread counts as the flags say; call before torch or NumPy are imported.

    Raises:
      UserError: for cores that are none, or not available.
    """
    if FLAGS.cores:
        try:
            cores = [int(core) for core in FLAGS.cores]
        except ValueError as error:
            raise UserError(f"--cores={','.join(FLAGS.cores)}: give whole numbers") from error
        _pin_to_cores(cores)
    for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "NPROC"):  # the last one is XLA's
        os.environ[name] = str(FLAGS.threads)


def _pin_to_cores(cores: Sequence[int]) -> None:
    """Restricts this process to `cores`, where the system can do that."""
    if not hasattr(os, "sched_setaffinity"):
        return
    try:
        os.sched_setaffinity(0, cores)
    except OSError as error:
        allowed = ",".join(map(str, available_cores()))
        given = ",".join(map(str, cores))
        raise UserError(f"--cores={given}: cores available here: {allowed}") from error


@dataclasses.dataclass(frozen=True)
class Place:
    """What this process is among those that train together.

    Attributes:
      rank: its number from 0; 0 in the process that launches the others, which does not train.
      launched: whether torch's launcher has started it.
      launches: whether it is to start the others.
    """

    rank: int
    launched: bool
    launches: bool

    @property
    def is_main_process(self) -> bool:
        """Whether this process trains as rank 0, the one that prints warnings."""
        return self.rank == 0 and not self.launches


def find_place() -> Place:
    """Where this process stands; sets --nproc if it was not given.

    Raises:
      UserError: --nproc contradicts torchrun.
    """
    launched = _LAUNCHED in os.environ
    started = int(os.environ["WORLD_SIZE"]) if launched else None
    if None not in (started, FLAGS.nproc) and started != FLAGS.nproc:
        raise UserError(f"--nproc={FLAGS.nproc}: torchrun has started {started} processes")
    FLAGS["nproc"].value = FLAGS.nproc or started or 1
    rank = int(os.environ["RANK"]) if launched else 0
    return Place(rank, launched, FLAGS.nproc > 1 and not launched)


@dataclasses.dataclass(frozen=True)
class Work:
    """What a command does in its folder.

    Attributes:
      name: of the run, for people.
      directory: its folder, which is there.
      finished: called on rank 0 in the locked folder: the run's status if it has ended, else None.
      train: called on all ranks if it has not ended, with the rank and a function that tells
        whether to stop; returns the status, or raises `runner.Stopped`.
      summary: what to say of a status, after "NAME: complete".
    """

    name: str
    directory: Path
    finished: Callable[[], Status | None]
    train: Callable[[int, Callable[[], bool]], Status]
    summary: Callable[[Status], str]


def run(place: Place, work: Work) -> int:
    """Does the work in every process, and starts them first if need be; the exit code."""
    if place.launches:
        from scripts.local import launch

        command = [sys.executable, *sys.orig_argv[1:]]
        return launch.launch(command, FLAGS.nproc, FLAGS.rank_timeout_seconds)
    if not place.launched:
        _take_part(work, place.rank, lambda make: make())
        return 0
    supervisor.end_with_parent()
    if FLAGS.cores:
        shares = core_slots(FLAGS.nproc, FLAGS.threads)
        _pin_to_cores(shares[int(os.environ["LOCAL_RANK"])])
    from scripts.local import ranks

    with ranks.joined(FLAGS.rank_timeout_seconds):
        _take_part(work, place.rank, ranks.from_first)
    return 0


def _take_part(
    work: Work, rank: int, from_first: Callable[[Callable[[], Status | None]], Status | None]
) -> None:
    """Does this rank's share of the work; rank 0 holds the folder's lock."""
    with contextlib.ExitStack() as stack:

        def claim() -> Status | None:
            stack.enter_context(locked(work.directory, work.name))
            if FLAGS.overwrite:
                trial.clear(work.directory)
            status = work.finished()
            if status is None:
                for leftover in work.directory.glob(".*.*"):
                    leftover.unlink()
            return status

        status, done = from_first(claim), "already complete"
        if status is None:
            status, done = _train(work, rank), "complete"
        if rank == 0:
            print(f"{work.name}: {done}{work.summary(status)}")


def _train(work: Work, rank: int) -> Status:
    import torch

    from scripts.local.runner import Stopped

    torch.set_num_threads(FLAGS.threads)
    signals = _StopSignals(may_interrupt=FLAGS.nproc == 1)
    try:
        return work.train(rank, lambda: signals.received != 0)
    except Stopped:
        if rank == 0:
            print(f"stopped; run the same command again to resume {work.name}", file=sys.stderr)
        # Of the ranks, one alone may have got the signal.
        raise SystemExit(128 + (signals.received or signal.SIGTERM)) from None


class _StopSignals:
    """Turns SIGINT or SIGTERM into a request.

    A second one acts as it always does, but not in a rank, which may get the same one from two
    senders: its launcher ends it if need be.
    """

    def __init__(self, may_interrupt: bool) -> None:
        self.received = 0
        self._may_interrupt = may_interrupt
        numbers = (signal.SIGINT, signal.SIGTERM)
        self._previous = {number: signal.signal(number, self._note) for number in numbers}

    def _note(self, received: int, frame: FrameType | None) -> None:
        del frame
        self.received = received
        if self._may_interrupt:
            for number, handler in self._previous.items():
                signal.signal(number, handler)
