"""What the readers of evaluations share: cells, checks, and the problems that they report."""

import dataclasses
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd

from workloads import registry

# Every integer up to here is exact as a float.
_LARGEST_STEP = 2**53


@dataclasses.dataclass(frozen=True)
class Problem:
    """Something in a set of logs that could not be used, or only in part; one line as text.

    Attributes:
      path: of the file or folder.
      reason: what a person must know.
      is_warning: whether numbers of the report are not what they seem to be.
    """

    path: Path
    reason: str
    is_warning: bool = False

    def __str__(self) -> str:
        return f"{self.path}: {self.reason}"


def parse_numbers(cells: np.ndarray, name: str, reasons: dict[int, str]) -> np.ndarray:
    """Texts as float64, NaN for empty ones and for those that are no numbers.

    Args:
      cells: [rows], texts, or whatever a typed table holds, as objects.
      name: of the column.
      reasons: takes what is wrong, by row.
    """
    try:
        return np.where(cells == "", "nan", cells).astype(float)
    except (TypeError, ValueError, OverflowError):
        values = np.full(len(cells), np.nan)
    for row, text in enumerate(cells):
        try:
            values[row] = float("nan" if isinstance(text, str) and not text.strip() else text)
        except (TypeError, ValueError, OverflowError):
            reasons.setdefault(row, f"{name} is {str(text)[:40]!r}, not a number")
    return values


def check_range(values: np.ndarray, name: str, reasons: dict[int, str]) -> None:
    """Adds a reason for each row whose value is negative, not finite, or no integer if it must be.

    Args:
      values: float [rows].
      name: of the column; all but `score` are integers.
      reasons: takes what is wrong, by row.
    """
    valid, kind = np.isfinite(values) & (values >= 0), "number"
    if name != "score":
        valid &= (values == np.trunc(values)) & (values <= _LARGEST_STEP)
        kind = "whole number"
    for row in np.flatnonzero(~valid):
        reasons.setdefault(int(row), f"{name} is {values[row]:g}, not a {kind} from 0 on")


def sort_keys(frame: pd.DataFrame, version: str | None = None) -> pd.DataFrame:
    """How good evaluations are, less being better, beside what their workloads ask for.

    Args:
      frame: with `workload` and `validation_metric`.
      version: of the benchmark, as `workloads.registry.facts` takes it.

    Returns:
      A row per evaluation: key (inf for NaN and for impossible metrics), is_impossible (whether no
      run can have the metric, such as a loss of -inf), target (the key that meets the validation
      target; NaN without one).

    Raises:
      UserError: for an unknown workload or version.
    """
    facts = [registry.facts(str(name), version) for name in frame["workload"].unique()]
    known = pd.DataFrame(
        [(row.direction, row.best_sort_key, row.validation_target) for row in facts],
        index=[row.name for row in facts],
        columns=["direction", "best", "target"],
    )
    known = known.reindex(frame["workload"]).reset_index(drop=True)
    sign = np.where(known["direction"] == "max", -1.0, 1.0)
    keys = sign * frame["validation_metric"].to_numpy(float)
    impossible = (keys < known["best"].to_numpy(float)) | np.isneginf(keys)
    return pd.DataFrame(
        {
            "key": np.where(np.isnan(keys) | impossible, np.inf, keys),
            "is_impossible": impossible,
            "target": sign * known["target"].to_numpy(float),
        }
    )


def meets_target(keys: pd.DataFrame) -> np.ndarray:
    """Whether each evaluation of `sort_keys` is as good as the validation target: bool [rows].

    Neither NaN nor an impossible metric ever meets a target; nothing does where there is none.
    """
    return (keys["key"] <= keys["target"]).to_numpy()


def select_usable(
    frame: pd.DataFrame,
    trial: np.ndarray,
    met: np.ndarray,
    impossible: np.ndarray,
    explained: np.ndarray,
    locate: Callable[[int, str], Problem],
) -> tuple[np.ndarray, list[Problem]]:
    """Selects the evaluations to use, and reports what is odd about their trials.

    Steps that go back show that a run was resumed from an older checkpoint and repeated
    evaluations: the later ones count. A trial whose submission time goes back is left out.
    Evaluations without a validation metric stay, and count as missed.

    Args:
      frame: evaluations with `global_step`, `score` and `validation_metric`.
      trial: int [rows], the number of each row's trial from 0 on; a trial's rows are contiguous.
      met: bool [rows], whether the evaluation meets the validation target.
      impossible: bool [rows], whether the evaluation has an impossible metric.
      explained: bool [trials], whether another file says how the trial ended.
      locate: makes a problem of a trial's number and a reason.

    Returns:
      bool [rows], and at most one problem per trial, in the order of trials.
    """
    reasons = defaultdict(list)
    table = frame[["global_step", "score", "validation_metric"]].set_axis(
        ["step", "seconds", "value"], axis=1
    )
    table = table.assign(trial=trial, met=met, impossible=impossible)
    least = table[::-1].groupby("trial")["step"].cummin()[::-1]
    usable = ~(table["step"] >= least.groupby(trial).shift(-1))
    for number, count in (~usable).groupby(trial).sum().items():
        if count:
            again = f"resumed: steps go back, {count} evaluations were done again"
            reasons[number].append(f"{again}; the later ones used")
    rest = table[usable]
    back = rest[rest.groupby("trial")["seconds"].diff() < 0].drop_duplicates("trial")
    for row in back.itertuples():
        reason = f"submission time goes back to {row.seconds:g} s at step {row.step}; left out"
        reasons[row.trial].append(reason)
    usable &= ~table["trial"].isin(back["trial"])
    rest = table[usable]
    odd = rest[rest["impossible"]].groupby("trial")["value"].first()
    counts = (
        rest.assign(missing=rest["value"].isna())
        .groupby("trial")
        .agg(
            evaluations=("value", "size"),
            impossible=("impossible", "sum"),
            missing=("missing", "sum"),
            met=("met", "any"),
        )
    )
    for number, row in zip(counts.index, counts.itertuples(), strict=True):
        of_all = f"of {row.evaluations} evaluations have"
        if row.impossible:
            text = f"{row.impossible} {of_all} an impossible validation metric, such as"
            reasons[number].append(f"{text} {odd[number]:g}; these count as missed")
        is_single = row.evaluations == 1
        # A trial whose time was up before its first evaluation has a row, but no evaluation.
        if row.missing and not (is_single and explained[number]):
            text = f"{row.missing} {of_all} no validation metric; these count as missed"
            reasons[number].append(text)
        if is_single and not row.met and not explained[number]:
            text = "one evaluation only, which misses the target; the trial died?"
            reasons[number].append(text)
    problems = [locate(number, "; ".join(parts)) for number, parts in sorted(reasons.items())]
    return usable.to_numpy(), problems
