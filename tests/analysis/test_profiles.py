import math

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from analysis import profiles
from analysis.scoring import performance_profile
from tests.analysis import reference
from workloads.rulesets import ruleset

INF = math.inf
V05, V06 = ruleset("v0.5"), ruleset("v0.6")
BASES = list(V06.base_workloads)


def _times(**columns):
    """Times of submissions on the first base workloads; the rest were not run."""
    length = len(next(iter(columns.values())))
    return pd.DataFrame(columns, index=pd.Index(BASES[:length], name="workload"))


# Ratios on, just above and between the points of the grid; 4 is the largest that counts.
seconds = st.one_of(
    st.sampled_from([INF, math.nan, 100.0, 200.0, 400.0, 400.0000001, 1 / 3, 4 / 3]),
    st.floats(50, 900),
)


@st.composite
def pools(draw):
    """Times of one to four submissions on some of a ruleset's workloads, and on some others."""
    rules = draw(st.sampled_from([V05, V06]))
    names = draw(st.permutations([*rules.workloads, "fastmri_model_size"]))
    names = names[: draw(st.integers(1, len(names)))]
    count = draw(st.integers(1, 4))
    rows = draw(
        st.lists(
            st.lists(seconds, min_size=count, max_size=count),
            min_size=len(names),
            max_size=len(names),
        )
    )
    columns = [f"s{number}" for number in range(count)]
    return pd.DataFrame(rows, index=pd.Index(names, name="workload"), columns=columns), rules


@settings(max_examples=200)
@given(pools())
def test_profile_against_a_literal_reference(pool):
    times, rules = pool
    result = performance_profile(times, rules)
    literal = reference.effective_ratios(
        {s: times[s].dropna().to_dict() for s in times.columns}, rules
    )
    assert list(result.ratios.index) == list(rules.base_workloads)
    for submission, ratios in literal.items():
        assert result.ratios[submission].to_dict() == pytest.approx(ratios, rel=1e-12)
        assert result.scores[submission] == pytest.approx(reference.score(ratios), abs=1e-9)
        for row in (0, 1, 33, 98, 99):
            rho = reference.rho(ratios, profiles.TAU[row])
            assert result.rho[submission].iloc[row] == rho


def test_all_dimensions_in_front_are_scored_at_once():
    rng = np.random.default_rng(0)
    times = rng.lognormal(size=(3, 2, len(V05.workloads), 4))
    times[rng.random(times.shape) < 0.2] = INF
    ratios = profiles.effective_ratios(times, V05.workloads, V05)
    areas = profiles.profile_area(profiles.profile(ratios))
    assert areas.shape == (3, 2, 4)
    for i, j in np.ndindex(3, 2):
        frame = pd.DataFrame(times[i, j], index=list(V05.workloads))
        assert performance_profile(frame, V05).scores.to_numpy() == pytest.approx(areas[i, j])


@pytest.mark.parametrize(
    ("times", "scores"),
    [
        ({"a": [INF] * 8, "b": [INF] * 8}, {"a": 0.0, "b": 0.0}),
        ({"a": [1.0, 2, 3, 4, 5, 6, INF, INF]}, {"a": 6 / 8}),
        ({"a": [5.0] * 8, "b": [5.0] * 8}, {"a": 1.0, "b": 1.0}),
        ({"a": [0.0] * 8, "b": [0.0] * 7 + [1.0]}, {"a": 1.0, "b": 7 / 8}),
        ({"a": [1.0] * 4, "b": [1.0] * 3 + [math.nan]}, {"a": 4 / 8, "b": 3 / 8}),
    ],
    ids=["nobody reaches", "alone", "ties", "met at once", "not run"],
)
def test_scores_of_edge_cases(times, scores):
    assert performance_profile(_times(**times), V06).scores.to_dict() == pytest.approx(scores)


def _v05(**changes):
    """Three equal submissions, but for what is changed."""
    times = pd.DataFrame(10.0, index=list(V05.workloads), columns=["a", "b", "c"])
    for submission, change in changes.items():
        for workload, value in change.items():
            times.loc[workload, submission] = value
    return times


def test_held_out_workloads_decide_over_their_bases():
    def scores(**changes):
        return performance_profile(_v05(**changes), V05).scores.mul(8).round(9).to_dict()

    assert scores() == {"a": 8, "b": 8, "c": 8}
    for value in (INF, math.nan, 41.0):
        # Missed, not run, or beyond four times the best: the base counts as missed.
        assert scores(b={"ogbg_model_size": value}) == {"a": 8, "b": 7, "c": 8}
    # A slower held-out time does not change the base's ratio.
    assert scores(b={"ogbg_model_size": 40.0}) == {"a": 8, "b": 8, "c": 8}
    # Whoever misses the base does not set the pace on its held-out workload.
    assert scores(b={"ogbg": INF, "ogbg_model_size": 0.1}) == {"a": 8, "b": 7, "c": 8}
    # The fastest on the base is struck out, so the others' ratios are to the best that remains,
    # but the limit of four times was applied to it before.
    result = performance_profile(
        _v05(a={"ogbg": 2.0, "ogbg_model_size": INF}, b={"ogbg": 8.0}, c={"ogbg": 8.1}), V05
    )
    assert result.ratios.loc["ogbg"].to_dict() == {"a": INF, "b": 1.0, "c": INF}


def test_held_out_workloads_that_nobody_ran_do_not_count():
    times = _v05().drop(["ogbg_model_size"])
    times.loc["wmt_glu_tanh"] = math.nan
    result = performance_profile(times, V05)
    assert result.scores.to_dict() == pytest.approx({"a": 1.0, "b": 1.0, "c": 1.0})


def test_speedup_is_a_geometric_mean_with_budgets_for_misses():
    times = _times(a=[10.0, 100, INF], b=[20.0, INF, INF], c=[math.nan] * 3)
    fast = V06.budget_seconds("fastmri")
    assert BASES[1:3] == ["fastmri", "imagenet_resnet"]
    expected = (10 / 20 * 100 / (fast + 1) * 1) ** (1 / 3)
    assert reference.speedup(times, "a", "b", V06) == pytest.approx(expected)
    assert reference.speedup(times, "b", "a", V06) == pytest.approx(1 / expected)
    # Workloads that only one has run count, at the other's budget.
    criteo = V06.budget_seconds("criteo1tb")
    lone = (10 / (criteo + 1) * 100 / (fast + 1) * 1) ** (1 / 3)
    assert reference.speedup(times, "a", "c", V06) == pytest.approx(lone)
    assert math.isnan(reference.speedup(times[["c"]], "c", "c", V06))
