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
from scripts import study
from scripts.compare import table as compare_table
from scripts.compare.chain import Chain
from scripts.compare.plan import Comparison, read_variants
from scripts.local import manifest, processes
from scripts.local.lock import locked
from scripts.local.metrics_log import write_csv
from scripts.local.processes import Failure, Job
from scripts.set_targets import SCHEDULE_FRACTION
from workloads import registry

FLAGS = flags.FLAGS
WORKER = (sys.executable, "-m", "scripts.compare.worker")


def define_flags() -> None:
    """Declares the command line."""
    flags.DEFINE_string("variants", None, "JSON file of optimizer variants", required=True)
    flags.DEFINE_list("only", [], "run these variants of the file (default: all)")
    flags.DEFINE_string("baseline", None, "variant to compare with (default: the file's first)")
    flags.DEFINE_list("workloads", registry.names("standin"), "workloads to train")
    flags.DEFINE_list("learning_rates", None, "grid, the likeliest rate first", required=True)
    flags.DEFINE_integer("seeds", 3, "repeats at the chosen learning rate", lower_bound=1)
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
    study.define_job_flags()
    flags.adopt_module_key_flags(study)  # so that --help lists them


def main(argv: Sequence[str]) -> int:
    """Runs what is missing of the comparison; 1 if a trial failed."""
    del argv
    comparison = comparison_from_flags()
    output = Path(FLAGS.output)
    logs = Path(FLAGS.logs) if FLAGS.logs else output / "trials"
    study.print_caveats(comparison.workloads)
    if FLAGS.dry_run:
        for chain in chains_of(comparison, logs):
            done = "complete" if chain.next_trial() is None else "to run  "
            print(f"{done}  {chain.name}")
        return 0
    failures = run_comparison(
        comparison, output, logs, study.jobs_from_flags(), FLAGS.threads, FLAGS.overwrite
    )
    for failure in failures:
        reason = f"{failure.reason} (see {failure.job.log})"
        print(f"failed: {failure.job.name}: {reason}", file=sys.stderr)
    chains = chains_of(comparison, logs)
    rows = compare_table.rows_of(chains)
    write_tables(comparison, chains, rows, output)
    print(compare_table.markdown(rows))
    print(f"wrote {output}/compare.csv, compare.json and compare.md")
    return int(bool(failures))


def comparison_from_flags() -> Comparison:
    """What the flags describe; UserError for a mistake in them or in the file."""
    settings, variants = read_variants(Path(FLAGS.variants), FLAGS.only)
    rates = tuple(dict.fromkeys(_rate(text) for text in FLAGS.learning_rates))
    workloads = tuple(dict.fromkeys(FLAGS.workloads))
    for name, given in (("learning_rates", rates), ("workloads", workloads)):
        if not given:
            raise UserError(f"--{name} is empty")
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
    comparison.variant(comparison.baseline)
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
    comparison: Comparison,
    output: Path,
    logs: Path,
    jobs: int,
    threads: int,
    overwrite: bool = False,
    command: Sequence[str] = WORKER,
) -> list[Failure]:
    """Runs the chains that are not complete and records that in the manifest of `output`.

    Raises:
      UserError: another comparison runs in `logs`, or it holds trials with other settings.
    """
    files.make_directory(output)
    files.make_directory(logs)
    with locked(logs, "a comparison"):
        chains = chains_of(comparison, logs, overwrite)
        for chain in chains:
            chain.forget_failures()
        left = [chain for chain in chains if chain.next_trial() is not None]
        if not left:
            return []
        plan = logs / "comparison.json"
        files.write_json(plan, comparison.as_json())
        settings = {
            "jobs": jobs,
            "threads": threads,
            "cores": processes.core_slots(jobs, threads),
            "variants_planned": len(chains),
            "variants_to_run": len(left),
        }
        with manifest.recorded(output, **settings) as record:
            work = [_job(chain, plan, threads, command) for chain in left]
            done = len(chains) - len(left)
            failures = processes.run_jobs(work, jobs, threads, done, unit="variant")
            record["variants_failed"] = len(failures)
            record["outcome"] = "failed trials" if failures else "complete"
    return failures


def _job(chain: Chain, plan: Path, threads: int, command: Sequence[str]) -> Job:
    arguments = [
        *command,
        f"--comparison={plan}",
        f"--variant={chain.variant.name}",
        f"--workload={chain.workload}",
        f"--logs={chain.logs}",
        f"--threads={threads}",
    ]
    return Job(chain.name, [*arguments, *["--overwrite"] * chain.overwrite], chain.log)


def write_tables(
    comparison: Comparison,
    chains: Sequence[Chain],
    rows: Sequence[compare_table.Row],
    output: Path,
) -> None:
    """Writes compare.csv, compare.json and compare.md."""
    cells = [compare_table.as_cells(row) for row in rows]
    write_csv(output / "compare.csv", cells, compare_table.COLUMNS)
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
        for outcome in [*chain.search(), *chain.chosen()[1:]]
    ]
    targets = {name: registry.facts(name).validation_target for name in comparison.workloads}
    content = {
        "comparison": comparison.as_json(),
        "validation_targets": targets,
        "budgets": {name: comparison.budget(name) for name in comparison.workloads},
        "rows": cells,
        "trials": trials_run,
    }
    files.write_json(output / "compare.json", content)
    files.write_text(output / "compare.md", compare_table.markdown(rows))


def _plain(value: Any) -> Any:
    """None for what JSON has no number for."""
    return None if isinstance(value, float) and not math.isfinite(value) else value


if __name__ == "__main__":
    define_flags()
    cli.run(main)
