"""The published leaderboards, to set beside one's own runs.

`results/published/` holds what `collect` makes of the official logs; see its README for sources.

python -m analysis.published --leaderboards=DIR [--output=results/published]
"""

import gzip
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from absl import flags

from analysis.logs import read_logs
from analysis.points import distinct_hyperparameters
from analysis.scoring import score_studies, score_trials, time_to_target
from common import cli, files
from common.cli import UserError

PUBLISHED = Path(__file__).parents[1] / "results" / "published"
TRIALS = "trials.csv.gz"
MEDIANS = "medians.csv"
POINTS = "points.csv"

TRACK_KEYS = ["version", "ruleset"]
# What no time to target depends on takes less room.
_DIGITS = {"evaluation_period": 1, "last_seconds": 3, "steady_seconds_per_step": 6}
# Where the leaderboards' repository has the logs of each version and ruleset.
TRACKS = {
    ("v0.5", "external"): Path("algoperf_v05", "logs", "external_tuning"),
    ("v0.5", "self_tuning"): Path("algoperf_v05", "logs", "self_tuning"),
    ("v0.6", "external"): Path("algoperf_v06", "logs", "external_tuning"),
    ("v0.6", "self_tuning"): Path("algoperf_v06", "logs", "self_tuning"),
}


def read_trials(
    version: str, ruleset: str = "external", directory: Path = PUBLISHED
) -> pd.DataFrame:
    """The published trials of one track, as `analysis.scoring.score_trials` returns them.

    Args:
      version: of the benchmark, `v0.5` or `v0.6`.
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
    return trials.assign(cpu_seconds=np.nan, hyperparameters="", finished=True)


def collect(leaderboards: Path, output: Path) -> None:
    """Scores the trials of all published logs, and writes the tables of `results/published/`.

    Args:
      leaderboards: the folder `previous_leaderboards` of mlcommons/submissions_algorithms.
      output: the folder to write to.

    Raises:
      UserError: logs of a track are missing, or `output` cannot be written to.
    """
    trials, medians, points = [], [], []
    for (version, ruleset), folder in TRACKS.items():
        scored = score_trials(read_logs(leaderboards / folder, version).frame, version)
        track = dict(zip(TRACK_KEYS, (version, ruleset), strict=True))
        points.append(_points(scored).assign(**track))
        cells = time_to_target(score_studies(scored)).drop(columns="median_cpu_seconds")
        medians.append(cells.assign(**track))
        # The official runner logs no CPU time, and its trials do not say whether they finished.
        bare = scored.drop(columns=["cpu_seconds", "hyperparameters", "finished"])
        trials.append(bare.round(_DIGITS).assign(**track))
    files.make_directory(output)
    for name, tables in ((TRIALS, trials), (MEDIANS, medians), (POINTS, points)):
        table = pd.concat(tables, ignore_index=True)
        table = table[TRACK_KEYS + [column for column in table if column not in TRACK_KEYS]]
        text = table.to_csv(index=False, lineterminator="\n").encode()
        with files.atomic_open(output / name, "wb") as stream:
            # Without a time and a name, the same table gives the same bytes.
            stream.write(gzip.compress(text, mtime=0) if name.endswith(".gz") else text)


def _points(trials: pd.DataFrame) -> pd.DataFrame:
    """Each submission's points, a row per distinct one, with the number of trials that ran it."""
    rows = []
    for (submission, trial), runs in trials.groupby(["submission", "trial"]):
        for point in distinct_hyperparameters(runs["hyperparameters"]):
            count = int((runs["hyperparameters"] == point).sum())
            rows.append((submission, trial, count, point))
    return pd.DataFrame(rows, columns=["submission", "trial", "trials", "hyperparameters"])


def main(argv: Sequence[str]) -> None:
    del argv
    collect(Path(flags.FLAGS.leaderboards), Path(flags.FLAGS.output))


if __name__ == "__main__":
    flags.DEFINE_string(
        "leaderboards",
        None,
        "folder previous_leaderboards of mlcommons/submissions_algorithms",
        required=True,
    )
    flags.DEFINE_string("output", str(PUBLISHED), "folder to write to")
    cli.run(main)
