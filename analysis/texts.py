"""Numbers as people write them."""

import math
import statistics
from collections.abc import Callable, Iterable, Sequence

from common.documents import UNKNOWN

NOT_REACHED = "not reached"
# By --max_steps, before the target was reached.
CUT = "cut"


def steps_text(value: float, missed: str = NOT_REACHED) -> str:
    """A number of steps; `missed` is said of an infinite one.

    >>> steps_text(1240.0), steps_text(math.inf), steps_text(math.inf, CUT), steps_text(math.nan)
    ('1,240', 'not reached', 'cut', '–')
    """
    return _text(value, lambda steps: f"{steps:,.10g}", missed)


def seconds_text(value: float, missed: str = NOT_REACHED) -> str:
    """Seconds, to a tenth where there are a hundred or more; `missed` as of `steps_text`.

    >>> seconds_text(1234.56), seconds_text(1.2345)
    ('1,234.6', '1.23')
    """
    return _text(value, lambda seconds: f"{seconds:,.{1 if seconds >= 100 else 2}f}", missed)


def reached_text(reached: int, studies: int, cut: int) -> str:
    """How many studies reach the target, and how many were cut before.

    >>> reached_text(2, 3, 0), reached_text(0, 3, 2)
    ('2 of 3', '0 of 3, 2 cut short')
    """
    return f"{reached} of {studies}" + (f", {cut} {CUT} short" if cut else "")


def met_text(steps: Sequence[float], trials: int, hint: int) -> str:
    """How many trials met a target, and the median share of the step hint at which they did.

    >>> met_text([40.0, 60.0], 3, 100), met_text([], 3, 100)
    ('2 of 3, at 0.50', '0 of 3')
    """
    when = f", at {statistics.median(steps) / hint:.2f}" if len(steps) else ""
    return f"{len(steps)} of {trials}{when}"


def ratio_text(value: float) -> str:
    """A ratio, to a hundredth."""
    return _text(value, lambda ratio: f"{ratio:.2f}")


def runs_text(points: int, studies: int, runs: int, unfinished: int) -> str:
    """How often an entry ran on a workload: points x studies, and what is missing of that.

    >>> runs_text(5, 3, 15, 0), runs_text(5, 3, 14, 1)
    ('5 x 3', '14 of 5 x 3, 1 unfinished')
    """
    planned = f"{points} x {studies}"
    text = planned if runs == points * studies else f"{runs} of {planned}"
    return f"{text}, {unfinished} unfinished" if unfinished else text


def count_text(counts: Iterable[int], noun: str, plural: str) -> str:
    """How many there are of something in each of several places.

    >>> count_text([3, 3], "study", "studies"), count_text([1], "study", "studies")
    ('3 studies', '1 study')
    >>> count_text([3, 5], "study", "studies")
    '3 to 5 studies'
    """
    low, high = min(counts := list(counts)), max(counts)
    if low == high:
        return f"{low} {noun if low == 1 else plural}"
    return f"{low} to {high} {plural}"


def span_text(values: Iterable[float]) -> str:
    """The least and the greatest of some numbers, to three digits.

    >>> span_text([0.5, 2.25, 1.0]), span_text([148.2])
    ('0.5 to 2.25', '148')
    """
    low, high = min(values := list(values)), max(values)
    texts = f"{low:.3g}", f"{high:.3g}"
    return texts[0] if texts[0] == texts[1] else " to ".join(texts)


def interval_text(value: float, low: float, high: float, digits: int = 2) -> str:
    """A ratio or a score with its interval, as far as they are known.

    >>> interval_text(0.5, 0.25, math.inf), interval_text(0.5, math.nan, math.nan)
    ('0.50 [0.25, ∞]', '0.50')
    >>> interval_text(math.inf, 1.5, math.inf), interval_text(math.nan, math.nan, math.nan)
    ('∞ [1.50, ∞]', '–')
    >>> interval_text(0.71, 0.0, 0.81)  # in some resamples the baseline takes forever
    '0.71 [0, 0.81]'
    """
    if math.isnan(value):
        return UNKNOWN
    numbers = (value, low, high)
    ends = {0.0: "0", math.inf: "∞"}
    texts = [ends.get(number, f"{number:.{digits}f}") for number in numbers]
    return texts[0] if math.isnan(low) else f"{texts[0]} [{texts[1]}, {texts[2]}]"


def _text(value: float, form: Callable[[float], str], missed: str = NOT_REACHED) -> str:
    if math.isnan(value):
        return UNKNOWN
    if math.isinf(value):
        return missed
    return form(value)
