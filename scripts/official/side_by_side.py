"""Several trials at a time on one node, each on GPUs and CPU cores of its own.

A node of 8 GPUs has room for two trials of AlgoPerf v1.0, which are of 4. Each trial runs in a
process of its own; its ranks meet at a port that the launcher finds free, and it has a working
directory of its own (`scripts.official.workdir`).
"""

import dataclasses
import itertools
import multiprocessing
import os
import signal
from collections.abc import Callable, Sequence
from contextlib import suppress
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from pathlib import Path

from common import progress
from common.cli import UserError
from scripts.local import supervisor
from scripts.local.environment import available_cores
from scripts.official.command import Node
from scripts.official.run import RunnerFailedError, complete
from scripts.official.trial import OfficialTrial

_TOPOLOGY = Path("/sys/devices/system/cpu")

# Called with a trial, whether it is complete, and a line about it.
Report = Callable[[OfficialTrial, bool, str], None]


def run(planned: Sequence[OfficialTrial], node: Node, report: Report) -> None:
    """Runs trials, `node.at_once` at a time, to their ends.

    If interrupted, asks the running ones to stop, waits for them, and raises KeyboardInterrupt or
    SystemExit.
    """
    context = multiprocessing.get_context("spawn")
    shares = cores_of_slots(node.at_once)
    pending, free = list(reversed(planned)), list(reversed(range(node.at_once)))
    running: dict[int, tuple[OfficialTrial, BaseProcess, Connection]] = {}
    with supervisor.exit_on_sigterm():
        try:
            while pending or running:
                while pending and free:
                    slot, trial = free.pop(), pending.pop()
                    receiver, sender = context.Pipe(duplex=False)
                    place = dataclasses.replace(node, slot=slot)
                    process: BaseProcess = context.Process(
                        target=_complete, args=(trial, place, shares[slot], sender)
                    )
                    process.start()
                    sender.close()
                    running[slot] = (trial, process, receiver)
                ended = wait([child.sentinel for _, child, _ in running.values()])
                for slot, (trial, child, answer) in list(running.items()):
                    if child.sentinel in ended:
                        child.join()
                        del running[slot]
                        free.append(slot)
                        report(trial, *_received(answer, child))
        finally:
            for _, child, _ in running.values():
                child.terminate()
            for _, child, _ in running.values():
                child.join()


def _received(answer: Connection, process: BaseProcess) -> tuple[bool, str]:
    with suppress(EOFError):
        if answer.poll():
            is_complete, line = answer.recv()
            return is_complete, line
    return False, f"its process ended with exit code {process.exitcode}"


def _complete(trial: OfficialTrial, node: Node, cores: Sequence[int], answer: Connection) -> None:
    """Runs a trial in a process of its own, on these cores alone.

    Ctrl-C reaches all processes of a terminal; this one waits for its parent, which asks it to end.
    """
    signal.signal(signal.SIGINT, lambda *_: None)
    supervisor.end_with_parent(signal.SIGTERM)
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, cores)
    progress.use_lines()  # two bars would write over each other
    try:
        answer.send((True, complete(trial, node)))
    except (RunnerFailedError, UserError, OSError) as error:
        answer.send((False, str(error)))


def cores_of_slots(slots: int, topology: Path = _TOPOLOGY) -> list[list[int]]:
    """The logical cores of each slot: physical cores next to each other, none in two slots.

    Args:
      slots: how many equal shares of the cores that this process may use; where there are fewer
        cores than slots, all have all.
      topology: what Linux says of each core, for tests.
    """
    cores = available_cores()
    physical = [
        list(group)
        for _, group in itertools.groupby(
            sorted(cores, key=lambda core: (*_place(topology, core), core)),
            key=lambda core: _place(topology, core),
        )
    ]
    if len(physical) < slots:
        return [cores] * slots
    bounds = [len(physical) * slot // slots for slot in range(slots + 1)]
    return [
        sorted(itertools.chain.from_iterable(physical[start:end]))
        for start, end in itertools.pairwise(bounds)
    ]


def _place(topology: Path, core: int) -> tuple[int, ...]:
    """The socket and the physical core of a logical core; the core itself where it is not said."""
    folder = topology / f"cpu{core}" / "topology"
    try:
        return tuple(_number(folder / name) for name in ("physical_package_id", "core_id"))
    except (OSError, ValueError):
        return (0, core)


def _number(path: Path) -> int:
    return int(path.read_text("utf-8"))
