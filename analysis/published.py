"""The published leaderboards, to set beside one's own runs.

`results/published/` holds what `collect` makes of the official logs; see its README for sources.

python -m analysis.published --leaderboards=DIR [--output=results/published]
"""

import gzip
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
from absl import flags

from analysis.logs import read_logs
from analysis.scoring import distinct_hyperparameters, score_studies, score_trials, time_to_target
from common import cli, files
from common.cli import UserError

PUBLISHED = Path(__file__).parents[1] / "results" / "published"
TRIALS = "trials.csv.gz"
MEDIANS = "medians.csv"
POINTS = "points.csv"
HOURS = "hours.csv"

TRACK_KEYS = ["version", "ruleset"]
# Columns on which no time to target depends are rounded.
_DIGITS = {"evaluation_period": 1, "last_seconds": 3, "steady_seconds_per_step": 6}
_PREVIOUS = Path("previous_leaderboards")
# Where the branch a100_scoring of the leaderboards' repository has the logs of each version and
# ruleset. Nobody has published runs of v1.0 under external tuning.
TRACKS = {
    ("v0.5", "external"): _PREVIOUS / "algoperf_v05" / "logs" / "external_tuning",
    ("v0.5", "self_tuning"): _PREVIOUS / "algoperf_v05" / "logs" / "self_tuning",
    ("v0.6", "external"): _PREVIOUS / "algoperf_v06" / "logs" / "external_tuning",
    ("v0.6", "self_tuning"): _PREVIOUS / "algoperf_v06" / "logs" / "self_tuning",
    ("v1.0", "self_tuning"): Path("logs", "self_tuning"),
}
_FEWEST_EVALUATIONS = 3  # a trial that died at once says nothing about hours


def read_trials(
    version: str, ruleset: str = "external", directory: Path = PUBLISHED
) -> pd.DataFrame:
    """The published trials of one track, as `analysis.scoring.score_trials` returns them.

    Args:
      version: of the benchmark.
      ruleset: `external` or `self_tuning`.
      directory: where `collect` wrote to.

    Raises:
      UserError: for another track, or if the table is missing.
    """
    if (version, ruleset) not in TRACKS:
        known = ", ".join(" ".join(track) for track in TRACKS)
        raise UserError(f"nothing is published for {version} {ruleset}; known: {known}")
    try:
        table = pd.read_csv(directory / TRIALS)
    except OSError as error:
        raise UserError(f"cannot read {directory / TRIALS}: {error.strerror}") from error
    of_track = (table["version"] == version) & (table["ruleset"] == ruleset)
    trials = table[of_track].drop(columns=TRACK_KEYS).reset_index(drop=True)
    return trials.assign(hyperparameters="", finished=True, cut=False)


def read_hours() -> pd.DataFrame:
    """Hours of published runs by the clock, as `hours` returns them, of all tracks."""
    return pd.read_csv(PUBLISHED / HOURS)


def read_medians() -> pd.DataFrame:
    """Times to target of the published submissions, medians over studies: a row per workload."""
    return pd.read_csv(PUBLISHED / MEDIANS)


def collect(leaderboards: Path, output: Path) -> None:
    """Scores the trials of all published logs, and writes the tables of `results/published/`.

    Args:
      leaderboards: mlcommons/submissions_algorithms at its branch a100_scoring.
      output: the folder to write to.

    Raises:
      UserError: logs of a track are missing, or `output` cannot be written to.
    """
    tables: dict[str, list[pd.DataFrame]] = {TRIALS: [], MEDIANS: [], POINTS: [], HOURS: []}
    for (version, ruleset), folder in TRACKS.items():
        trials = score_trials(read_logs(leaderboards / folder, version).frame, version)
        medians = time_to_target(score_studies(trials)).drop(columns="cut")
        # Trials of the official runner do not say whether they finished.
        unlogged = ["hyperparameters", "finished", "cut"]
        of_track = {
            TRIALS: trials.drop(columns=unlogged).round(_DIGITS),
            MEDIANS: medians,
            POINTS: _points(trials),
            HOURS: hours(leaderboards / folder),
        }
        for name, table in of_track.items():
            tables[name].append(table.assign(version=version, ruleset=ruleset))
    files.make_directory(output)
    for name, parts in tables.items():
        table = pd.concat(parts, ignore_index=True)
        table = table[TRACK_KEYS + [column for column in table if column not in TRACK_KEYS]]
        text = table.to_csv(index=False, lineterminator="\n").encode()
        with files.atomic_open(output / name, "wb") as stream:
            # Without a time and a name, the same table gives the same bytes.
            stream.write(gzip.compress(text, mtime=0) if name.endswith(".gz") else text)


def hours(logs: Path) -> pd.DataFrame:
    """How long runs took by the clock, evaluations and all, which is not what is scored.

    Args:
      logs: a folder of logs with the official `total_duration`.

    Returns:
      A row per submission and workload: those; trials, those with at least 3 evaluations;
      median_hours and longest_hours by the clock, from the start of training to the last
      evaluation's end; median_submission_hours, the timed part; median_evaluations.

    Raises:
      UserError: a file lacks a column.
    """
    columns = ["submission", "workload", "wall", "timed", "evaluations"]
    trials = pd.DataFrame(_hours_of_trials(logs), columns=columns)
    table = trials.groupby(columns[:2], as_index=False).agg(
        trials=("wall", "size"),
        median_hours=("wall", "median"),
        longest_hours=("wall", "max"),
        median_submission_hours=("timed", "median"),
        median_evaluations=("evaluations", "median"),
    )
    return table.round(3)


def _hours_of_trials(logs: Path) -> Iterator[tuple[Any, ...]]:
    for path in sorted(logs.glob("*/study_*/*/trial_*/eval_measurements.csv")):
        table = pd.read_csv(path)
        missing = {"total_duration", "accumulated_submission_time"} - set(table.columns)
        if missing:
            raise UserError(f"{path} has no column {', '.join(sorted(missing))}")
        if len(table) >= _FEWEST_EVALUATIONS:
            last = table.iloc[-1]
            workload = path.parts[-3].rpartition("_")[0]
            durations = last["total_duration"] / 3600, last["accumulated_submission_time"] / 3600
            yield path.parts[-5], workload, *durations, len(table)


def _points(trials: pd.DataFrame) -> pd.DataFrame:
    """Each submission's points, a row per distinct one, with the number of trials that ran it."""
    rows = []
    for (submission, trial), runs in trials.groupby(["submission", "trial"]):
        for point in distinct_hyperparameters(runs["hyperparameters"]):
            count = int((runs["hyperparameters"] == point).sum())
            rows.append((submission, trial, count, point))
    return pd.DataFrame(rows, columns=["submission", "trial", "trials", "hyperparameters"])


def main(argv: Sequence[str]) -> None:
    """Writes the tables that the flags ask for."""
    del argv
    leaderboards = Path(flags.FLAGS.leaderboards)
    if not leaderboards.is_dir():
        raise UserError(
            f"--leaderboards={leaderboards} is no folder; give a checkout of submissions_algorithms"
        )
    collect(leaderboards, Path(flags.FLAGS.output))


if __name__ == "__main__":
    flags.DEFINE_string(
        "leaderboards", None, "checkout of submissions_algorithms, a100_scoring", required=True
    )
    flags.DEFINE_string("output", str(PUBLISHED), "folder to write to")
    cli.run(main)
