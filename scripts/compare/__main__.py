"""Compares optimizers that are no leaderboard entries: steps to the stand-ins' targets.

    python -m scripts.compare --variants=scripts/variants/peers.json --baseline=adamw \\
      --learning_rates=0.01,0.003,0.03,0.001 --output=results/peers --logs=runs/peers

Every variant trains on the same batches from the same weights, under the same schedule and with the
same grid of learning rates; `scripts.compare.plan` describes the file. The grid is tried with one
seed, the chosen rate with the others; a trial stops at the validation target. Give the likeliest
rates first: `scripts.compare.chain` says which steps of the others that spares.

Finished trials are kept: the same command runs what is missing or has failed. Writes compare.csv,
compare.json and compare.md to --output.
"""

import dataclasses
import math
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from absl import flags

from common import cli, files
from common.cli import UserError
from scripts.compare import table
from scripts.compare.chain import Chain
from scripts.compare.plan import Comparison, read_variants
from scripts.local import resumable, studies
from scripts.local.lock import locked
from scripts.local.metrics_log import write_csv
from scripts.local.plan import SCHEDULE_FRACTION
from scripts.local.studies import Failure, Job, Machine
from scripts.local.trial import MOST_STUDIES
from workloads import registry

FLAGS = flags.FLAGS


def define_flags() -> None:
    """Declares the command line."""
    flags.DEFINE_string("variants", None, "JSON file of optimizer variants", required=True)
    flags.DEFINE_list("only", [], "run these variants of the file (default: all)")
    flags.DEFINE_string("baseline", None, "variant to compare with (default: the file's first)")
    flags.DEFINE_list("workloads", registry.names("standin"), "workloads to train")
    flags.DEFINE_list("learning_rates", None, "grid, the likeliest rate first", required=True)
    flags.DEFINE_integer("seeds", 3, "repeats at the chosen learning rate", 1, MOST_STUDIES)
    flags.DEFINE_float(
        "budget_factor",
        SCHEDULE_FRACTION,
        "steps of a trial and of its schedule, as a fraction of the step hint",
        lower_bound=0.0,
        upper_bound=1.0,
    )
    flags.DEFINE_string("output", None, "folder for the tables", required=True)
    flags.DEFINE_string("logs", None, "folder for the trials (default: OUTPUT/trials)")
    flags.DEFINE_bool("overwrite", False, "start over trials that have files of other settings")
    flags.DEFINE_bool("worker", False, "train in this process and write no tables")
    flags.DEFINE_list("cores", None, "run on these cores only")
    studies.define_job_flags()
    flags.adopt_module_key_flags(studies)  # so that --help lists them


def main(argv: Sequence[str]) -> int:
    """Runs what is missing of the comparison; 1 if a trial failed."""
    del argv
    comparison = comparison_from_flags()
    output = Path(FLAGS.output)
    logs = Path(FLAGS.logs) if FLAGS.logs else output / "trials"
    chains = chains_of(comparison, logs, FLAGS.overwrite and not FLAGS.dry_run)
    if FLAGS.worker:
        return _work(chains)
    studies.print_caveats(comparison.workloads)
    if FLAGS.dry_run:
        for chain in chains:
            done = "to run  " if chain.progress().following else "complete"
            print(f"{done}  {chain.name}")
        return 0
    failures = run_comparison(chains, output, logs, studies.machine_from_flags())
    studies.print_failures(failures)
    rows = table.rows_of(chains)
    write_tables(comparison, chains, rows, output)
    print(table.markdown(rows))
    print(f"wrote {output}/compare.csv, compare.json and compare.md")
    for line in caveats(comparison, rows):
        print(f"warning: {line}", file=sys.stderr)
    return int(bool(failures))


def caveats(comparison: Comparison, rows: Sequence[table.Row]) -> list[str]:
    """What makes a comparison's numbers weaker than they look, one line each."""
    lines = table.edges(rows, comparison.learning_rates)
    if len(comparison.learning_rates) == 1:
        lines.append("one learning rate for all, so none was chosen for any variant")
    if comparison.seeds == 1:
        lines.append("one seed, so ratios say little and choices made by them less")
    return lines


def _work(chains: Sequence[Chain]) -> int:
    resumable.apply_process_flags()

    import torch

    from scripts.compare import worker

    torch.set_num_threads(FLAGS.threads)
    return max(worker.run(chain, resumable.flags_beside("variants")) for chain in chains)


def comparison_from_flags() -> Comparison:
    """What the flags describe; UserError for a mistake in them or in the file."""
    settings, variants = read_variants(Path(FLAGS.variants), FLAGS.only)
    rates = tuple(dict.fromkeys(_rate(text) for text in FLAGS.learning_rates))
    workloads = studies.workloads_from_flags()
    if not rates:
        raise UserError("--learning_rates is empty")
    comparison = Comparison(
        settings=settings,
        variants=variants,
        baseline=FLAGS.baseline or variants[0].name,
        workloads=workloads,
        learning_rates=rates,
        seeds=FLAGS.seeds,
        seed=FLAGS.seed,
        budget_factor=FLAGS.budget_factor,
    )
    names = [variant.name for variant in variants]
    if comparison.baseline not in names:
        raise UserError(
            f"unknown variant {comparison.baseline!r}; known: {', '.join(names)}"
            f"{cli.near(names, comparison.baseline)}"
        )
    for workload in workloads:
        if comparison.budget(workload) < 1:
            raise UserError(f"--budget_factor={FLAGS.budget_factor}: no step on {workload}")
    return comparison


def _rate(text: str) -> float:
    try:
        rate = float(text)
    except ValueError:
        rate = math.nan
    if not 0 < rate < math.inf:
        raise UserError(f"--learning_rates: {text!r} is not a positive number")
    return rate


def chains_of(comparison: Comparison, logs: Path, overwrite: bool = False) -> list[Chain]:
    """All chains, workload by workload, so that what disturbs the machine disturbs all variants."""
    return [
        Chain(comparison, variant, workload, logs, overwrite)
        for workload in comparison.workloads
        for variant in comparison.variants
    ]


def run_comparison(
    chains: Sequence[Chain], output: Path, logs: Path, machine: Machine
) -> list[Failure]:
    """Runs the chains that are not complete and records that in the manifest of `output`.

    Raises:
      UserError: another comparison runs in `logs`, or it holds trials with other settings.
    """
    files.make_directory(output)
    files.make_directory(logs)
    with locked(logs, "a comparison"):
        for chain in chains:
            chain.forget_failures()
        left = [chain for chain in chains if chain.progress().following]
        jobs = [_job(chain) for chain in left]
        done, seed = len(chains) - len(left), chains[0].comparison.seed
        return studies.run_recorded(jobs, done, output, machine, seed, unit="variant")


def _job(chain: Chain) -> Job:
    """This very command for one chain alone; of two flags of one name the last holds."""
    name = chain.variant.name
    choice = [f"--only={name}", f"--baseline={name}", f"--workloads={chain.workload}", "--worker"]
    return Job(chain.name, [sys.executable, *sys.orig_argv[1:], *choice], chain.log)


def write_tables(
    comparison: Comparison,
    chains: Sequence[Chain],
    rows: Sequence[table.Row],
    output: Path,
) -> None:
    """Writes compare.csv, compare.json and compare.md."""
    cells = [table.as_cells(row) for row in rows]
    write_csv(output / "compare.csv", cells, table.COLUMNS)
    trials_run = [
        {
            "workload": chain.workload,
            "variant": chain.variant.name,
            "seed": outcome.trial.study,
            "learning_rate": outcome.learning_rate,
            **{
                field.name: _plain(getattr(outcome, field.name))
                for field in dataclasses.fields(outcome)
                if field.name not in ("trial", "curve")
            },
        }
        for chain in chains
        for outcome in chain.progress().outcomes()
    ]
    targets = {name: registry.facts(name).validation_target for name in comparison.workloads}
    content = {
        "comparison": dataclasses.asdict(comparison),
        "validation_targets": targets,
        "budgets": {name: comparison.budget(name) for name in comparison.workloads},
        "rows": cells,
        "trials": trials_run,
    }
    files.write_json(output / "compare.json", content)
    files.write_text(output / "compare.md", table.markdown(rows))


def _plain(value: Any) -> Any:
    """None for what JSON has no number for."""
    return None if isinstance(value, float) and not math.isfinite(value) else value


if __name__ == "__main__":
    define_flags()
    cli.run(main)
