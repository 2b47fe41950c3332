"""Average precision: the area under precision over recall, as steps."""

import numpy as np
from numpy.typing import NDArray


def average_precision(positive: NDArray[np.bool_], scores: NDArray[np.floating]) -> float:
    """Precision averaged over the positives, at the least score that takes each of them in.

    Equal scores are taken in together, as scikit-learn's `average_precision_score` does.

    Args:
      positive: which examples are positive [examples]; some, but not all.
      scores: larger the more likely an example is positive [examples].

    >>> average_precision(np.array([True, False, True]), np.array([0.9, 0.8, 0.8]))
    0.8333333333333333
    """
    order = np.argsort(-scores, kind="stable")
    hits = np.cumsum(positive[order])
    ends = np.append(np.flatnonzero(np.diff(scores[order])), len(scores) - 1)
    precision = hits[ends] / (ends + 1)
    gained = np.diff(hits[ends], prepend=0)
    return float((gained * precision).sum() / hits[-1])


def mean_average_precision(
    targets: NDArray[np.floating], scores: NDArray[np.floating], known: NDArray[np.bool_]
) -> float:
    """The mean over the labels that have both classes among their known entries; else NaN.

    Args:
      targets: 0 or 1 [examples, labels].
      scores: [examples, labels].
      known: which entries count [examples, labels].
    """
    values = []
    for label in range(targets.shape[1]):
        rows = known[:, label]
        positive = targets[rows, label] > 0.5
        if positive.any() and not positive.all():
            values.append(average_precision(positive, scores[rows, label]))
    return float(np.mean(values)) if values else float("nan")
