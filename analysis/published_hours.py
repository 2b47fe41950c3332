"""How long the published runs took by the clock, evaluations and all.

    python -m analysis.published_hours --leaderboards=DIR [--output=results/published]

The tidy tables hold submission time alone, which is what is scored; who plans a run needs both.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from absl import flags

from analysis.published import PUBLISHED, TRACK_KEYS, TRACKS
from common import cli, files
from common.cli import UserError

FLAGS = flags.FLAGS
TABLE = "hours.csv"
KEYS = [*TRACK_KEYS, "submission", "workload"]
_FEWEST_EVALUATIONS = 3  # a trial that died at once says nothing


def define_flags() -> None:
    """Declares the command line."""
    flags.DEFINE_string(
        "leaderboards", None, "previous_leaderboards of submissions_algorithms", required=True
    )
    flags.DEFINE_string("output", str(PUBLISHED), "folder to write to")


def main(argv: Sequence[str]) -> None:
    """Writes hours.csv."""
    del argv
    table = hours(Path(FLAGS.leaderboards))
    path = Path(FLAGS.output) / TABLE
    files.write_text(path, table.to_csv(index=False, lineterminator="\n"))
    print(f"wrote {path}: {len(table)} rows")


def hours(leaderboards: Path) -> pd.DataFrame:
    """Of all published logs, a row per submission and workload.

    Returns:
      version, ruleset, submission, workload; trials, those with at least 3 evaluations;
      median_hours and longest_hours by the clock, from the start of training to the last
      evaluation's end; median_submission_hours, the timed part; median_evaluations.

    Raises:
      UserError: there are no logs, or a file lacks a column.
    """
    rows = [row for track in TRACKS for row in _trials(leaderboards, *track)]
    if not rows:
        raise UserError(f"{leaderboards} holds no logs of {', '.join(map(str, TRACKS.values()))}")
    trials = pd.DataFrame(rows, columns=[*KEYS, "wall", "submission_time", "evaluations"])
    table = trials.groupby(KEYS, as_index=False).agg(
        trials=("wall", "size"),
        median_hours=("wall", "median"),
        longest_hours=("wall", "max"),
        median_submission_hours=("submission_time", "median"),
        median_evaluations=("evaluations", "median"),
    )
    return table.round(3)


def read_hours(directory: Path = PUBLISHED) -> pd.DataFrame:
    """The table that `main` wrote."""
    return pd.read_csv(directory / TABLE)


def _trials(
    leaderboards: Path, version: str, ruleset: str
) -> Iterator[tuple[str, str, str, str, float, float, int]]:
    folder = leaderboards / TRACKS[version, ruleset]
    for path in sorted(folder.glob("*/study_*/*/trial_*/eval_measurements.csv")):
        workload = path.parts[-3].rpartition("_")[0]
        table = pd.read_csv(path)
        missing = {"total_duration", "accumulated_submission_time"} - set(table.columns)
        if missing:
            raise UserError(f"{path} has no column {', '.join(sorted(missing))}")
        if len(table) >= _FEWEST_EVALUATIONS:
            last = table.iloc[-1]
            seconds = np.array([last["total_duration"], last["accumulated_submission_time"]])
            wall, submission_time = (seconds / 3600).tolist()
            submission = path.parts[-5]
            yield version, ruleset, submission, workload, wall, submission_time, len(table)


if __name__ == "__main__":
    define_flags()
    cli.run(main)
