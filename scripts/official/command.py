"""The command that runs one trial under the official runner, and how a person would type it."""

import dataclasses
import os
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path

from common.cli import UserError
from scripts.official import workdir
from scripts.official.installation import RUNNER
from scripts.official.trial import OfficialTrial

# Set by this project: another value would make another trial, or lose its logs.
_RESERVED = (
    *("framework", "workload", "submission_path", "tuning_ruleset", "tuning_search_space"),
    *("num_tuning_trials", "hparam_start_index", "hparam_end_index", "experiment_dir"),
    *("experiment_name", "rng_seed", "torch_compile", "max_global_steps", "resume_last_run"),
    *("overwrite", "append_timestamp", "save_checkpoints", "save_intermediate_checkpoints"),
    "skip_evals",
)
# What the runner is run through under JAX, for its restore.
MENDED_RUNNER = Path(__file__).with_name("launcher") / "mended_runner.py"


@dataclasses.dataclass(frozen=True)
class Node:
    """The machine that trials run on.

    Attributes:
      checkout, python: of the benchmark, absolute.
      gpus: that train a trial together; 0 means the CPU.
      at_once: trials at a time, each on GPUs of its own.
      slot: which of these a trial is, from 0; None for all of them.
      data_dir: the root of the data sets, absolute.
      output: the runner's --experiment_dir, absolute.
      runner_flags: more flags for the runner, each as on its command line.
      skip_checks: names of checks that are not to be made.
    """

    checkout: Path
    python: Path
    gpus: int
    data_dir: Path
    output: Path
    runner_flags: tuple[str, ...] = ()
    skip_checks: tuple[str, ...] = ()
    at_once: int = 1
    slot: int | None = None

    def __post_init__(self) -> None:
        for flag in self.runner_flags:
            name = flag.removeprefix("--").partition("=")[0]
            reserved = {name, name.removeprefix("no")} & set(_RESERVED)
            if reserved or not flag.startswith("--"):
                raise UserError(
                    f"--runner_flag={flag}: allowed: --name or --name=value, of a flag that this "
                    "command does not set itself"
                )


@dataclasses.dataclass(frozen=True)
class Command:
    """A program, its arguments, its working directory, and variables added to the environment.

    Attributes:
      makes_directory: whether the directory is the command's own, and made before it starts.
    """

    arguments: tuple[str, ...]
    directory: Path
    variables: Mapping[str, str]
    makes_directory: bool = False

    def shell(self) -> str:
        """One line for a shell."""
        make = [shlex.join(["mkdir", "-p", str(self.directory)])] if self.makes_directory else []
        variables = [f"{name}={shlex.quote(value)}" for name, value in self.variables.items()]
        change = shlex.join(["cd", str(self.directory)])
        run = " ".join([*variables, shlex.join(self.arguments)])
        return " && ".join([*make, change, run])

    def environment(self) -> dict[str, str]:
        """This process's environment with the command's variables."""
        return {**os.environ, **self.variables}


def command(trial: OfficialTrial, node: Node) -> Command:
    """The command of a trial on a node; UserError for GPUs that this process may not see.

    The runner asks on its terminal what to do with a workload's folder that is there already, and
    a batch job has none; `--resume_last_run` keeps it from asking. It has no other effect: a trial
    goes on if its folder holds a checkpoint, and starts if not. `--overwrite` would remove the
    whole workload's folder, with all other trials, and is never given.

    All checkpoints are kept by the runner, since it would remove the last one before it writes the
    next; `scripts.official.keep` removes old ones.
    """
    from scripts.official import paths

    flags = [
        *(_flag(name, value) for name, value in trial.flags(node.output).items()),
        *paths.runner_flags(trial.trial.workload, node.data_dir, trial.entry.framework),
        "--resume_last_run",
        *node.runner_flags,
    ]
    mended = (str(MENDED_RUNNER),) if trial.entry.framework == "jax" else ()
    return Command(
        (*_launcher(node, trial.entry.framework), *mended, str(node.checkout / RUNNER), *flags),
        workdir.directory(trial.directory(node.output)),
        variables(trial.entry.import_paths, node) | trial.entry.variables,
        makes_directory=True,
    )


def variables(python_paths: Sequence[Path], node: Node) -> dict[str, str]:
    """The environment that entries need on a node; UserError for GPUs that may not be seen.

    A runner with fewer processes than visible GPUs would divide batches wrongly, or use
    `DataParallel`; so it sees as many as it shall use.
    """
    paths = [*map(str, python_paths), *filter(None, [os.environ.get("PYTHONPATH")])]
    seen = os.environ.get("CUDA_VISIBLE_DEVICES")
    needed = node.gpus * node.at_once
    devices = [str(index) for index in range(needed)]
    if seen and needed:
        devices = seen.split(",")[:needed]
        if len(devices) < needed:
            raise UserError(
                f"{gpus_flags(node)}: CUDA_VISIBLE_DEVICES={seen} has {len(devices)} of {needed}"
            )
    if node.slot is not None:
        devices = devices[node.slot * node.gpus :][: node.gpus]
    return {
        "PYTHONPATH": os.pathsep.join(paths),
        "CUDA_VISIBLE_DEVICES": ",".join(devices),
        # The runner asks git in its working directory for the benchmark's commit.
        "GIT_DIR": str(node.checkout / ".git"),
    }


def gpus_flags(node: Node) -> str:
    """The flags that say how many GPUs are needed."""
    return f"--gpus={node.gpus}" + (f" --at_once={node.at_once}" if node.at_once > 1 else "")


def _launcher(node: Node, framework: str) -> tuple[str, ...]:
    if node.gpus <= 1 or framework == "jax":  # which has one process for all GPUs
        return (str(node.python),)
    redirects = ",".join(f"{rank}:0" for rank in range(1, node.gpus))
    return (
        *(str(node.python), "-m", "torch.distributed.run", "--redirects", redirects),
        *("--standalone", "--nnodes=1", f"--nproc_per_node={node.gpus}"),
    )


def _flag(name: str, value: str | int | bool) -> str:
    if isinstance(value, bool):
        return f"--{name}" if value else f"--no{name}"
    return f"--{name}={value}"
