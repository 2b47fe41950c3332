"""The benchmark's score, slowly and literally: one submission, one workload, one tau at a time."""

import itertools
import math
from collections.abc import Mapping

import numpy as np
import pandas as pd

from analysis.profiles import mean_ratios
from workloads.rulesets import Ruleset

Times = Mapping[str, Mapping[str, float]]


def effective_ratios(times: Times, rules: Ruleset) -> dict[str, dict[str, float]]:
    """Ratios by submission and base workload, from times by submission and workload.

    A time that is missing from the mapping means that there are no runs.
    """
    everything = {w for of_submission in times.values() for w in of_submission}
    used = [w for w in rules.workloads if w in everything or w in rules.base_workloads]
    left = {s: {w: times[s].get(w, math.inf) for w in used} for s in times}
    base_of = {v: base for base, variants in rules.held_out.items() for v in variants}
    for s in left:
        for variant, base in base_of.items():
            if variant in used and math.isinf(left[s][base]):
                left[s][variant] = math.inf
    best = {w: min(left[s][w] for s in left) for w in used}
    for s in left:
        for w in used:
            if left[s][w] > rules.max_ratio * best[w]:
                left[s][w] = math.inf
    for s in left:
        for variant, base in base_of.items():
            if variant in used and math.isinf(left[s][variant]):
                left[s][base] = math.inf
    ratios: dict[str, dict[str, float]] = {s: {} for s in left}
    for w in rules.base_workloads:
        fastest = min(left[s][w] for s in left)
        for s in left:
            missed = math.isinf(left[s][w])
            ratios[s][w] = math.inf if missed else left[s][w] / fastest
    return ratios


def rho(ratios: Mapping[str, float], tau: float) -> float:
    """The share of base workloads with a ratio of at most tau."""
    return sum(1 for ratio in ratios.values() if ratio <= tau) / len(ratios)


def score(ratios: Mapping[str, float]) -> float:
    """The integral of rho over tau from 1 to 4 by trapezoids on 100 points, divided by 3."""
    area = 0.0
    points = np.linspace(1, 4, 100)
    for left, right in itertools.pairwise(points):
        area += (right - left) * (rho(ratios, left) + rho(ratios, right)) / 2
    return area / 3


def speedup(times: pd.DataFrame, a: str, b: str, rules: Ruleset) -> float:
    """The geometric mean over base workloads of a's time divided by b's."""
    pair = times[[a, b]].to_numpy(float)
    return float(mean_ratios(pair, list(times.index), 1, rules)[0])
