"""The benchmark's score as array functions, over any number of leading dimensions at once.

Times are float arrays [..., workloads, submissions] in seconds: inf where the target was not
reached, NaN where a submission has no runs. The rules are those of the benchmark's scoring code,
`scoring/performance_profile.py` of mlcommons/algorithmic-efficiency, in its order.
"""

from collections.abc import Sequence

import numpy as np

from workloads.rulesets import Ruleset

# The grid that the official code integrates over; see `profile_area`.
TAU = np.linspace(1.0, 4.0, 100)


def effective_ratios(times: np.ndarray, workloads: Sequence[str], rules: Ruleset) -> np.ndarray:
    """Ratios to the fastest submission, as they enter the profile.

    In this order: a held-out variant whose base was missed is missed; a time beyond `max_ratio`
    times the pool's best on its workload is missed; a base one of whose held-out variants was
    missed is missed; what remains is divided by the pool's best of what remains. A held-out variant
    that nobody in the pool has run does not count against its base.

    Args:
      times: [..., workloads, submissions].
      workloads: names along the second last axis, in any order; others than the rules' are unused.
      rules: the rules.

    Returns:
      [..., base workloads, submissions], at least 1; inf where missed, and for a base that nobody
      has run.
    """
    place = {name: index for index, name in enumerate(workloads)}
    nobody = np.full((*times.shape[:-2], times.shape[-1]), np.nan)
    bases = []
    for base in rules.base_workloads:
        time = _missed(times[..., place[base], :] if base in place else nobody)
        limited = _within(time, rules.max_ratio)
        for variant in rules.held_out.get(base, ()):
            held_out = times[..., place[variant], :] if variant in place else nobody
            if np.isnan(held_out).all():
                continue
            held_out = np.where(np.isinf(time), np.inf, _missed(held_out))
            held_out = _within(held_out, rules.max_ratio)
            limited = np.where(np.isinf(held_out), np.inf, limited)
        best = limited.min(axis=-1, keepdims=True)
        with np.errstate(invalid="ignore"):
            ratio = limited / best
        # Equal times are tied for the best even if they are 0; two misses are not.
        ratio = np.where(limited == best, 1.0, ratio)
        bases.append(np.where(np.isinf(limited), np.inf, ratio))
    return np.stack(bases, axis=-2)


def _missed(times: np.ndarray) -> np.ndarray:
    """Without runs, a target was not reached."""
    return np.where(np.isnan(times), np.inf, times)


def _within(times: np.ndarray, max_ratio: float) -> np.ndarray:
    """Times beyond `max_ratio` times the best are missed."""
    best = times.min(axis=-1, keepdims=True)
    return np.where(times > max_ratio * best, np.inf, times)


def profile(ratios: np.ndarray) -> np.ndarray:
    """rho(tau): the share of base workloads whose ratio is at most tau.

    Args:
      ratios: [..., base workloads, submissions].

    Returns:
      [..., len(TAU), submissions], from 0 to 1.
    """
    # Each ratio counts from the first tau on that is not below it.
    first = np.searchsorted(TAU, ratios)
    share = (first[..., None, :, :] <= np.arange(len(TAU))[:, None, None]).sum(axis=-2)
    return np.asarray(share / ratios.shape[-2])


def profile_area(rho: np.ndarray) -> np.ndarray:
    """The score: the trapezoid rule over TAU, divided by its length.

    Args:
      rho: [..., len(TAU), submissions].

    Returns:
      [..., submissions], from 0 to 1.
    """
    return np.asarray(np.trapezoid(rho, TAU, axis=-2) / (TAU[-1] - TAU[0]))


def mean_ratios(
    times: np.ndarray, workloads: Sequence[str], reference: int, rules: Ruleset
) -> np.ndarray:
    """Geometric means of ratios to one submission, over base workloads that either has run.

    A time that is missing is taken as a second more than the workload's budget, as by the official
    `scoring/compute_speedups.py`. Held-out variants and the limit on ratios play no part in it.

    Args:
      times: [..., workloads, submissions].
      workloads: names along the second last axis.
      reference: the submission to divide by.
      rules: which base workloads there are, and their budgets.

    Returns:
      [..., submissions], below 1 where a submission is faster; NaN where nothing was run.
    """
    place = {name: index for index, name in enumerate(workloads)}
    bases = [name for name in rules.base_workloads if name in place]
    times = times[..., [place[name] for name in bases], :]
    limits = np.array([rules.budget_seconds(name) + 1.0 for name in bases])[:, None]
    logs = np.log(np.where(np.isfinite(times), times, limits))
    ran = ~np.isnan(times)
    either = ran | ran[..., [reference]]
    differences = np.where(either, logs - logs[..., [reference]], 0.0)
    with np.errstate(invalid="ignore"):
        return np.asarray(np.exp(differences.sum(axis=-2) / either.sum(axis=-2)))
