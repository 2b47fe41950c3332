"""A command line whose work one process does, or several that train together."""

import dataclasses
import os
import signal
import sys
from collections.abc import Callable, Sequence
from types import FrameType
from typing import Any

from absl import flags

from common.cli import UserError
from scripts.local import supervisor
from scripts.local.environment import available_cores, core_slots

FLAGS = flags.FLAGS
# Set by torch's launcher, `torchrun`'s or ours, in the processes that it starts.
_LAUNCHED = "TORCHELASTIC_RUN_ID"

FromFirst = Callable[[Callable[[], Any]], Any]


def define_flags() -> None:
    """Declares how many processes train together, and what they may use of the machine."""
    flags.DEFINE_integer(
        "nproc", None, "processes that train together (default: 1, or torchrun's)", lower_bound=1
    )
    flags.DEFINE_float(
        "rank_timeout_seconds", 300.0, "how long these wait for one another", lower_bound=1.0
    )
    define_process_flags()


def define_process_flags() -> None:
    """Declares how many threads and which cores a process uses."""
    flags.DEFINE_integer("threads", 1, "PyTorch threads", lower_bound=1)
    flags.DEFINE_list("cores", None, "run on these cores only")


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
        _pin_to_cores(_numbers(FLAGS.cores))
    os.environ["OMP_NUM_THREADS"] = os.environ["MKL_NUM_THREADS"] = str(FLAGS.threads)


def _numbers(cores: Sequence[str]) -> list[int]:
    try:
        return [int(core) for core in cores]
    except ValueError as error:
        raise UserError(f"--cores={','.join(cores)}: give whole numbers") from error


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
      rank: its number from 0; 0 in the process that launches the others, which takes no part.
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


def place() -> Place:
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


def run(here: Place, take_part: Callable[[FromFirst], None]) -> int:
    """Has every process take part in the work, and starts them first if need be; the exit code.

    Args:
      here: this process's place.
      take_part: called in each of them with `ranks.from_first`, or what does the same in one.
    """
    if here.launches:
        from scripts.local import launch

        command = [sys.executable, *sys.orig_argv[1:]]
        return launch.launch(command, FLAGS.nproc, FLAGS.rank_timeout_seconds)
    if not here.launched:
        take_part(lambda make: make())
        return 0
    supervisor.end_with_parent()
    if FLAGS.cores:
        shares = core_slots(FLAGS.nproc, FLAGS.threads)
        _pin_to_cores(shares[int(os.environ["LOCAL_RANK"])])
    from scripts.local import ranks

    with ranks.joined(FLAGS.rank_timeout_seconds):
        take_part(ranks.from_first)
    return 0


class StopSignals:
    """Turns SIGINT or SIGTERM into a request.

    A second one acts as it always does, but not in a rank, which may get the same one from two
    senders: its launcher ends it if need be.
    """

    def __init__(self, may_interrupt: bool) -> None:
        self.signal = 0
        self._may_interrupt = may_interrupt
        self._previous = {
            signum: signal.signal(signum, self._note) for signum in (signal.SIGINT, signal.SIGTERM)
        }

    def _note(self, signum: int, frame: FrameType | None) -> None:
        del frame
        self.signal = signum
        if self._may_interrupt:
            for each, handler in self._previous.items():
                signal.signal(each, handler)

    def requested(self) -> bool:
        """Whether one has arrived."""
        return self.signal != 0

    def exit(self) -> SystemExit:
        """How a process ends that was asked to stop, or of which another rank was."""
        return SystemExit(128 + (self.signal or signal.SIGTERM))
