"""How sure one can be of times, ratios and scores, given as many studies as there are.

Each submission's studies on each workload are drawn again with replacement, independently of all
others, as many as there were; every figure is computed from the medians of each draw as it is from
those of the studies themselves. Ratios are thus paired by workload, and a score's interval has the
spread of its rivals in it. With 3 or 5 studies a percentile interval is about the range of the
studies: it is a lower bound on the doubt, not a substitute for more studies.
"""

import dataclasses
import warnings
import zlib

import numpy as np
import pandas as pd

from analysis import profiles
from analysis.scoring import CELL_KEYS, performance_profile, time_to_target, times_table
from workloads.rulesets import Ruleset

# The number of resamples whose profiles are in memory at once.
_BLOCK = 250

# Of the resamples, below the ends of an interval.
_SHARES = ((1 - 0.95) / 2, (1 + 0.95) / 2)
_ENDS = ("ci_low", "ci_high")
_RATIO_COLUMNS = (
    *("ratio", *_ENDS, "earliest", "latest"),
    *("steps_ratio", "steps_low", "steps_high"),
    *("step_cost_ratio", "cost_low", "cost_high"),
)


@dataclasses.dataclass(frozen=True)
class Intervals:
    """Figures with percentile intervals; `studies` says from how many studies each is.

    An interval needs two studies, and is NaN with fewer. An upper end of inf, and a ratio's lower
    end of 0, mean that in so many resamples a median missed the target. Attributes, all in order of
    submission and workload:

    Attributes:
      ratios: submission, workload, studies; ratio (of median seconds to the
        baseline's), ci_low, ci_high; earliest, latest (between which the ratio lies for all that
        the evaluation periods say; latest is inf if the baseline's target was met at the first
        evaluation); steps_ratio, steps_low, steps_high; step_cost_ratio, cost_low, cost_high
        (ratio = steps_ratio x step_cost_ratio). A ratio is inf where only the baseline's median
        reaches the target, and it and its intervals are NaN where the baseline's does not. The
        factors are NaN unless both do, and their intervals are from the resamples in which both do.
      speedups: submission, workloads (base workloads that it or the baseline has run), ratio (their
        geometric mean, as `analysis.profiles.mean_ratios`), ci_low, ci_high.
      scores: submission, studies (the least over its scored workloads), reached (base workloads),
        score, ci_low, ci_high.
      better: a, b, probability (share of resamples in which a's score is higher than b's; ties
        count half).
      profiles: tau, submission, rho, ci_low, ci_high.
    """

    ratios: pd.DataFrame
    speedups: pd.DataFrame
    scores: pd.DataFrame
    better: pd.DataFrame
    profiles: pd.DataFrame


def bootstrap(
    studies: pd.DataFrame, ruleset: Ruleset, baseline: str | None, resamples: int = 1000
) -> Intervals:
    """Resamples studies; the same arguments give the same intervals, whatever the rows' order.

    Args:
      studies: as `analysis.scoring.score_studies` returns. Times and ratios are of all its
        workloads, scores, speedups and profiles of the ruleset's.
      ruleset: the rules that scores are computed by.
      baseline: the submission that ratios are to; None, or one that is absent, gives no ratios.
      resamples: how many, at least 1. A submission's draws on a workload depend on their names
        only, so they are the same in every pool.
    """
    pool = _resample(studies, resamples)
    base = pool.submissions.index(baseline) if baseline in pool.submissions else None
    scores, better, bands = _scores(pool, ruleset)
    return Intervals(
        ratios=_ratios(pool, base),
        speedups=_speedups(pool, base, ruleset),
        scores=scores,
        better=better,
        profiles=bands,
    )


@dataclasses.dataclass(frozen=True)
class _Pool:
    """All medians, of the studies themselves and of each draw.

    Attributes:
      cells: as `time_to_target` returns.
      times: median seconds, workload x submission.
      seconds, steps, counts: medians and numbers of studies, [workloads, submissions].
      seconds_drawn, steps_drawn: medians of each draw, [resamples, workloads, submissions].
    """

    cells: pd.DataFrame
    times: pd.DataFrame
    seconds: np.ndarray
    steps: np.ndarray
    counts: np.ndarray
    seconds_drawn: np.ndarray
    steps_drawn: np.ndarray

    @property
    def workloads(self) -> list[str]:
        return list(self.times.index)

    @property
    def submissions(self) -> list[str]:
        return list(self.times.columns)

    def of_cells(self, values: np.ndarray) -> np.ndarray:
        """What an array [workloads, submissions] has for the rows of `cells`."""
        rows = self.times.index.get_indexer(self.cells["workload"])
        columns = self.times.columns.get_indexer(self.cells["submission"])
        return np.asarray(np.broadcast_to(values, self.counts.shape)[rows, columns])


def _resample(studies: pd.DataFrame, resamples: int) -> _Pool:
    cells = time_to_target(studies)
    times = times_table(cells)
    drawn = np.full((2, resamples, *times.shape), np.nan)
    for (submission, workload), rows in studies.groupby(CELL_KEYS):
        values = rows.sort_values("study")[["seconds", "steps"]].to_numpy(float).T
        name = zlib.crc32(f"{submission}\n{workload}".encode())
        draws = np.random.default_rng([0, name]).integers(
            values.shape[1], size=(resamples, values.shape[1])
        )
        row, column = times.index.get_loc(workload), times.columns.get_loc(submission)
        drawn[:, :, row, column] = np.median(values[:, draws], axis=-1)
    return _Pool(
        cells=cells,
        times=times,
        seconds=times.to_numpy(),
        steps=times_table(cells, "median_steps").to_numpy(),
        counts=times_table(cells, "studies").fillna(0).to_numpy(int),
        seconds_drawn=drawn[0],
        steps_drawn=drawn[1],
    )


def _interval(samples: np.ndarray, enough: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Percentiles over the first axis of the samples that are not NaN, NaN if not `enough`.

    They are samples themselves: a mean of two would be inf where only one is.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # of slices that are all NaN
        low, high = np.nanquantile(samples, _SHARES, axis=0, method="inverted_cdf")
    return np.where(enough, low, np.nan), np.where(enough, high, np.nan)


def _ratios(pool: _Pool, base: int | None) -> pd.DataFrame:
    table = pool.cells[[*CELL_KEYS, "studies"]].copy()
    if base is None:
        return table.iloc[:0].assign(**{name: pd.Series(dtype=float) for name in _RATIO_COLUMNS})
    column = [base]
    compared = np.isfinite(pool.seconds[:, column])
    both = compared & np.isfinite(pool.seconds)
    enough = compared & (pool.counts >= 2) & (pool.counts[:, column] >= 2)
    earliest = times_table(pool.cells, "earliest_seconds").to_numpy()
    with np.errstate(invalid="ignore", divide="ignore"):
        # 0 and inf where only one of the two is finite, NaN where neither is.
        time = pool.seconds / pool.seconds[:, column]
        steps = pool.steps / pool.steps[:, column]
        times = pool.seconds_drawn / pool.seconds_drawn[..., column]
        step_draws = pool.steps_drawn / pool.steps_drawn[..., column]
        low, high = earliest / pool.seconds[:, column], pool.seconds / earliest[:, column]
        reached = np.isfinite(times) & (times > 0)
        step_draws = np.where(reached, step_draws, np.nan)
        values = [
            np.where(compared, time, np.nan),
            *_interval(times, enough),
            np.where(compared, low, np.nan),
            np.where(compared, high, np.nan),
            np.where(both, steps, np.nan),
            *_interval(step_draws, enough & both),
            np.where(both, time / steps, np.nan),
            *_interval(times / step_draws, enough & both),
        ]
    for name, value in zip(_RATIO_COLUMNS, values, strict=True):
        table[name] = pool.of_cells(value)
    return table


def _speedups(pool: _Pool, base: int | None, rules: Ruleset) -> pd.DataFrame:
    if base is None:
        return pd.DataFrame(columns=["submission", "workloads", "ratio", "ci_low", "ci_high"])
    ran = pool.counts > 0
    either = (ran | ran[:, [base]]) & pool.times.index.isin(rules.base_workloads)[:, None]
    single = pool.counts == 1
    enough = ~(either & (single | single[:, [base]])).any(axis=0)
    drawn = profiles.mean_ratios(pool.seconds_drawn, pool.workloads, base, rules)
    low, high = _interval(drawn, enough)
    return pd.DataFrame(
        {
            "submission": pool.submissions,
            "workloads": either.sum(axis=0),
            "ratio": profiles.mean_ratios(pool.seconds, pool.workloads, base, rules),
            "ci_low": low,
            "ci_high": high,
        }
    )


def _scores(pool: _Pool, rules: Ruleset) -> tuple[pd.DataFrame, pd.DataFrame, pd.DataFrame]:
    """Scores, who is better by them, and the profiles' bands."""
    rho = np.concatenate(
        [
            profiles.profile(profiles.effective_ratios(block, pool.workloads, rules))
            for block in np.array_split(pool.seconds_drawn, -(-len(pool.seconds_drawn) // _BLOCK))
        ]
    )
    area = profiles.profile_area(rho)
    point = performance_profile(pool.times, rules)
    scored = (pool.counts > 0) & pool.times.index.isin(rules.workloads)[:, None]
    studies = np.where(scored, pool.counts, pool.counts.max()).min(axis=0) * scored.any(axis=0)
    low, high = _interval(area, studies >= 2)
    base = pool.times.index.isin(rules.base_workloads)
    table = pd.DataFrame(
        {
            "submission": pool.submissions,
            "studies": studies,
            "reached": np.isfinite(pool.seconds[base]).sum(axis=0),
            "score": point.scores.to_numpy(),
            "ci_low": low,
            "ci_high": high,
        }
    )
    better = _better(area, pool.submissions, studies >= 2)
    bands = _interval(rho, np.broadcast_to(studies >= 2, rho.shape[1:]))
    frame = pd.DataFrame(
        {
            "tau": np.tile(profiles.TAU, len(pool.submissions)),
            "submission": np.repeat(pool.submissions, len(profiles.TAU)),
        }
    )
    for name, values in zip(("rho", *_ENDS), (point.rho.to_numpy(), *bands), strict=True):
        frame[name] = values.T.ravel()
    return table, better, frame


def _better(drawn: np.ndarray, submissions: list[str], enough: np.ndarray) -> pd.DataFrame:
    """How often one submission has more than another in [resamples, submissions]."""
    names, samples = np.array(submissions, dtype=object)[enough], drawn[:, enough]
    more = (samples[:, :, None] > samples[:, None, :]).mean(axis=0)
    same = (samples[:, :, None] == samples[:, None, :]).mean(axis=0)
    a, b = np.nonzero(~np.eye(len(names), dtype=bool))
    return pd.DataFrame({"a": names[a], "b": names[b], "probability": (more + same / 2)[a, b]})
