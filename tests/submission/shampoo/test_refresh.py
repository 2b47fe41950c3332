"""Refresh schedules against the rule written out block by block."""

from collections import Counter
from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from submission.shampoo.refresh import Run, Schedule, is_due

UNITS = st.lists(st.tuples(st.integers(0, 9), st.integers(1, 40)), max_size=8).map(
    lambda rows: [(i // 2, i % 2, blocks, size) for i, (blocks, size) in enumerate(rows)]
)


def schedule_of(units):
    """Of (stack, side, blocks, dimension) in the order of the line."""
    runs, total = [], 0
    for stack, side, blocks, dimension in units:
        runs.append(Run(stack, side, 0, blocks, dimension, total))
        total += blocks * dimension**3
    return Schedule(runs, total)


def blocks_of(turns):
    return [(turn.stack, turn.side, i) for turn in turns for i in range(turn.start, turn.stop)]


def phase_of_each_block(units, interval):
    """The contract, one block after another."""
    blocks = [(stack, side, i, d**3) for stack, side, n, d in units for i in range(n)]
    total = sum(cost for *_, cost in blocks)
    phases, before = {}, 0
    for stack, side, i, cost in blocks:
        phases[stack, side, i] = int(Fraction(interval * before, total))
        before += cost
    return phases


@settings(deadline=None)
@given(UNITS, st.integers(1, 50), st.integers(1, 200))
def test_staggered_turns_follow_the_rule(units, interval, step):
    expected = [
        block
        for block, phase in phase_of_each_block(units, interval).items()
        if (step < interval and step in (1, 2, 4, 8, 16, 32)) or step % interval == phase
    ]
    assert blocks_of(schedule_of(units).turns(step, interval, "staggered")) == expected


@settings(deadline=None)
@given(UNITS, st.integers(1, 50), st.integers(1, 200))
def test_together_is_all_or_nothing(units, interval, step):
    turns = schedule_of(units).turns(step, interval, "together")
    everything = list(phase_of_each_block(units, interval))
    due = step in (1, 2, 4, 8, 16, 32) if step < interval else step % interval == 0
    assert blocks_of(turns) == (everything if due else [])
    assert is_due(step, interval) == due


@settings(deadline=None)
@given(UNITS, st.integers(1, 50))
def test_each_factor_has_one_turn_an_interval_and_work_is_even(units, interval):
    schedule = schedule_of(units)
    dimensions = {(stack, side): d for stack, side, _, d in units}
    seen, work = Counter(), []
    for step in range(interval, 2 * interval):
        turns = schedule.turns(step, interval, "staggered")
        assert len(turns) == len({(turn.stack, turn.side) for turn in turns})
        assert all(turn.start < turn.stop for turn in turns)
        seen.update(blocks_of(turns))
        work.append(sum(dimensions[s, side] ** 3 for s, side, _ in blocks_of(turns)))
    assert set(seen.values()) <= {1}
    assert seen.total() == sum(blocks for _, _, blocks, _ in units)
    largest = max((d**3 for *_, blocks, d in units if blocks), default=0)
    assert max(work) <= sum(work) / interval + largest


def test_interval_one_refreshes_everything_at_every_step():
    schedule = schedule_of([(0, 0, 3, 4), (1, 1, 2, 5)])
    for mode in ("together", "staggered"):
        assert len({schedule.turns(step, 1, mode) for step in range(1, 6)}) == 1
        assert len(blocks_of(schedule.turns(3, 1, mode))) == 5


def test_the_interval_may_change_between_steps():
    schedule = schedule_of([(0, 0, 6, 4)])
    assert [len(blocks_of(schedule.turns(12, t, "staggered"))) for t in (3, 6, 3, 2)] == [
        2,
        1,
        2,
        3,
    ]


def test_a_long_stack_costs_one_turn_a_phase():
    schedule = schedule_of([(0, 0, 10**12, 64)])
    (turn,) = schedule.turns(107, 100, "staggered")
    assert (turn.start, turn.stop) == (7 * 10**10, 8 * 10**10)


def test_nothing_to_refresh():
    assert schedule_of([]).turns(5, 4, "staggered") == ()
    assert schedule_of([(0, 0, 0, 8)]).turns(4, 4, "together") == ()


def test_an_unknown_mode_is_refused():
    with pytest.raises(ValueError, match="'sometimes'"):
        schedule_of([]).turns(1, 1, "sometimes")
