"""Trials as an array of Slurm jobs: one trial per job and node, requeued until it is complete."""

import contextlib
import dataclasses
import io
import re
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from absl import flags

from common import files
from common.cli import UserError
from scripts.local.environment import ROOT
from scripts.official import checks, run
from scripts.official.command import Node
from scripts.official.trial import OfficialTrial

FLAGS = flags.FLAGS
_NOTHING = "every trial is complete; nothing to submit"
_SETTING = re.compile(r"[a-z][a-z_-]*(=.*)?")


def define_flags() -> None:
    """Declares how jobs are submitted."""
    flags.DEFINE_bool("slurm", False, "submit an array of Slurm jobs, a trial each, and return")
    flags.DEFINE_string("slurm_partition", None, "partition")
    flags.DEFINE_float("slurm_hours", 30.0, "time limit of a job; it is requeued after that", 0.2)
    flags.DEFINE_integer("slurm_parallel", 8, "jobs at a time", lower_bound=1)
    flags.DEFINE_integer("slurm_requeues", 10, "times that a job may run out of time", 0)
    flags.DEFINE_integer("slurm_cpus", None, "CPU cores of a job (default: its whole node)", 1)
    flags.DEFINE_multi_string("slurm_option", [], "one more of sbatch's, such as constraint=v100")


@dataclasses.dataclass(frozen=True)
class TrialJob:
    """The function of a job; submitit calls `checkpoint` before the job must leave its node."""

    trial: OfficialTrial
    node: Node

    def __call__(self) -> str:
        """Checks the node, then runs the trial to its end; submitit stores the returned line."""
        if run.describe(self.trial, self.node) != "complete":
            checks.check([self.trial], self.node)
        done = run.complete(self.trial, self.node)
        print(done, flush=True)
        return done

    def checkpoint(self) -> Any:
        """The job to requeue: the trial goes on from its last evaluation."""
        from submitit.helpers import DelayedSubmission

        return DelayedSubmission(self)


def folder(node: Node) -> Path:
    """The folder of jobs and of their output: beside --experiment_dir.

    The organisers' scorer takes every folder within that for a submission's.
    """
    return node.output.with_name(f"{node.output.name}.slurm")


def parameters(node: Node) -> dict[str, Any]:
    """submitit's parameters, from the flags; UserError for an impossible option.

    A job has its node to itself, unless a number of cores is given: by default Slurm gives one
    core to a task, whatever its GPUs, and other jobs beside it would disturb the times.
    """
    options: dict[str, Any] = {"requeue": True}  # when a node dies
    for given in FLAGS.slurm_option:
        if not _SETTING.fullmatch(given):
            raise UserError(f"--slurm_option={given}: give name=value, as sbatch names it")
        name, _, value = given.partition("=")
        options[name] = value or True
    root = shlex.quote(str(ROOT))
    whole_node = FLAGS.slurm_cpus is None
    chosen = {
        "job_name": "algoperf",
        "nodes": 1,
        "ntasks_per_node": 1,
        "gpus_per_node": node.gpus or None,
        "cpus_per_task": FLAGS.slurm_cpus,
        "exclusive": whole_node or None,
        "mem": "0" if whole_node else None,
        # The ranks are one task of Slurm's, which may tie a task to a core.
        "srun_args": ["--cpu-bind=none"],
        "time": round(60 * FLAGS.slurm_hours),
        "partition": FLAGS.slurm_partition,
        "array_parallelism": FLAGS.slurm_parallel,
        "signal_delay_s": 120,
        "setup": [f"cd {root}", f"export PYTHONPATH={root}"],
        "additional_parameters": options,
    }
    return {name: value for name, value in chosen.items() if value is not None}


def submit(planned: Sequence[OfficialTrial], node: Node) -> None:
    """Submits one job per trial as an array; UserError where Slurm is not there or refuses it."""
    import submitit

    if not planned:
        print(_NOTHING)
        return
    files.make_directory(folder(node))
    try:
        executor = submitit.SlurmExecutor(folder(node), max_num_timeout=FLAGS.slurm_requeues)
        executor.update_parameters(**parameters(node))
        with contextlib.redirect_stderr(io.StringIO()):  # submitit prints sbatch's message twice
            jobs = submit_to(executor, planned, node)
    except (RuntimeError, OSError) as error:  # RuntimeError: all of submitit's own
        raise UserError(f"--slurm: {error}") from error
    for job, trial in zip(jobs, planned, strict=True):
        print(f"job {job.job_id}: {trial.trial.name}; its output: {job.paths.stdout}")


def submit_to(executor: Any, planned: Sequence[OfficialTrial], node: Node) -> list[Any]:
    """One job of an executor of submitit's per trial, in the same order."""
    with executor.batch():
        return [executor.submit(TrialJob(trial, node)) for trial in planned]


def print_plan(planned: Sequence[OfficialTrial], node: Node) -> None:
    """The batch file that `submit` would write, each line a comment; creates nothing."""
    lines = script(len(planned), node).splitlines() if planned else [_NOTHING]
    print("".join(f"# {line}\n" for line in lines), end="")


def script(jobs: int, node: Node) -> str:
    """submitit's batch file for so many trials; needs no Slurm on this machine."""
    import submitit

    class Planner(submitit.SlurmExecutor):
        @classmethod
        def affinity(cls) -> int:
            return 1  # otherwise it asks for an installed `srun`

    executor = Planner(folder(node))
    executor.update_parameters(**parameters(node))
    if jobs > 1:  # as it does for an array
        executor.parameters["map_count"] = jobs
    return str(executor._make_submission_file_text(executor._submitit_command_str, ""))
