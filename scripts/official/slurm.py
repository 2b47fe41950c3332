"""Trials as an array of Slurm jobs: one trial per job and node, requeued until it is complete."""

import dataclasses
import re
import sys
from collections.abc import Sequence
from typing import Any

from absl import flags

from common import files
from common.cli import UserError
from scripts.environment import ROOT
from scripts.official import checks, run
from scripts.official.command import Node
from scripts.official.trial import OfficialTrial

FLAGS = flags.FLAGS
FOLDER = ".slurm"
_SETTING = re.compile(r"[a-z][a-z_-]*(=.*)?")


def define_flags() -> None:
    """Declares how jobs are submitted."""
    flags.DEFINE_bool("slurm", False, "submit an array of Slurm jobs, a trial each, and return")
    flags.DEFINE_string("slurm_partition", None, "partition")
    flags.DEFINE_string("slurm_account", None, "account")
    flags.DEFINE_float("slurm_hours", 30.0, "time limit of a job; it is requeued after that", 0.2)
    flags.DEFINE_integer("slurm_parallel", 8, "jobs at a time", lower_bound=1)
    flags.DEFINE_integer("slurm_requeues", 10, "times that a job may run out of time", 0)
    flags.DEFINE_integer("slurm_cpus", None, "CPU cores of a job (default: Slurm's)", 1)
    flags.DEFINE_multi_string("slurm_option", [], "one more of sbatch's, such as constraint=v100")


@dataclasses.dataclass(frozen=True)
class TrialJob:
    """What a job runs; submitit calls `checkpoint` before the job must leave its node."""

    trial: OfficialTrial
    node: Node

    def __call__(self) -> str:
        """Checks the node, then runs the trial to its end; what it returns is kept by submitit."""
        if run.describe(self.trial, self.node) != "complete":
            checks.check([self.trial], self.node)
        done = run.complete(self.trial, self.node)
        print(done, flush=True)
        return done

    def checkpoint(self) -> Any:
        """The same again: the trial goes on from its last evaluation."""
        from submitit.helpers import DelayedSubmission

        return DelayedSubmission(self)


def parameters(node: Node) -> dict[str, Any]:
    """What submitit tells Slurm, as the flags say; UserError for an impossible option."""
    options: dict[str, Any] = {"requeue": True}  # when a node dies
    for given in FLAGS.slurm_option:
        if not _SETTING.fullmatch(given):
            raise UserError(f"--slurm_option={given}: give name=value, as sbatch names it")
        name, _, value = given.partition("=")
        options[name] = value or True
    setup = [f"cd {ROOT}", f"export PYTHONPATH={ROOT}"]
    chosen = {
        "job_name": "algoperf",
        "nodes": 1,
        "ntasks_per_node": 1,
        "gpus_per_node": node.gpus or None,
        "cpus_per_task": FLAGS.slurm_cpus,
        "time": round(60 * FLAGS.slurm_hours),
        "partition": FLAGS.slurm_partition,
        "account": FLAGS.slurm_account,
        "array_parallelism": FLAGS.slurm_parallel,
        "signal_delay_s": 120,
        "setup": setup,
        "additional_parameters": options,
    }
    return {name: value for name, value in chosen.items() if value is not None}


def submit(planned: Sequence[OfficialTrial], node: Node) -> None:
    """Submits one job per trial as an array; UserError where there is no Slurm."""
    import submitit

    if not planned:
        print("every trial is complete; nothing to submit")
        return
    folder = files.make_directory(node.output / FOLDER)
    try:
        executor = submitit.SlurmExecutor(folder, max_num_timeout=FLAGS.slurm_requeues)
    except RuntimeError as error:
        raise UserError(f"--slurm: {error}") from error
    executor.update_parameters(**parameters(node))
    jobs = submit_to(executor, planned, node)
    for job, trial in zip(jobs, planned, strict=True):
        print(f"job {job.job_id}: {trial.trial.name}; its output: {job.paths.stdout}")


def submit_to(executor: Any, planned: Sequence[OfficialTrial], node: Node) -> list[Any]:
    """One job of an executor of submitit's per trial, in the same order."""
    with executor.batch():
        return [executor.submit(TrialJob(trial, node)) for trial in planned]


def print_plan(planned: Sequence[OfficialTrial], node: Node) -> None:
    """The batch file that would be submitted."""
    from submitit.slurm.slurm import _make_sbatch_string

    text = _make_sbatch_string(
        command=f"{sys.executable} -u -m submitit.core._submit {node.output / FOLDER}",
        folder=node.output / FOLDER,
        map_count=len(planned),
        **parameters(node),
    )
    print("".join(f"# {line}\n" for line in text.splitlines()), end="")
