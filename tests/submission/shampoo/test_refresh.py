"""Refresh schedules against the rule written out block by block."""

import dataclasses
from collections import Counter
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from submission.plan.blocking import BlockGrid, Part, StackSpec
from submission.plan.refresh import RefreshSchedule, is_due

SIDES = st.sampled_from([(True, True), (True, False), (False, True), (False, False)])
STACKS = st.lists(
    st.tuples(st.integers(1, 9), st.integers(1, 40), st.integers(1, 40), SIDES), max_size=4
)
STEPS = st.integers(1, 200) | st.sampled_from([1, 4, 16])


def specs_of(stacks):
    """Two parameters for each (blocks, height, width, sides), or one of one block."""
    specs = []
    for blocks, height, width, sides in stacks:
        parts = []
        for offset, count in ((0, blocks // 2), (blocks // 2, blocks - blocks // 2)):
            grid = BlockGrid(0, 0, count, 1, height, width, sides)
            shape, index = (count * height, width), 2 * len(specs) + len(parts)
            parts += [Part(index, shape, 0, 0, count, grid, offset)] if count else []
        specs.append(StackSpec(height, width, sides, tuple(parts)))
    return specs


def schedule_of(stacks):
    return RefreshSchedule(specs_of(stacks))


def units_of(stacks):
    """(stack, side, blocks, dimension) of all factors, in the schedule's order."""
    return [
        (number, side, blocks, (height, width)[side])
        for number, (blocks, height, width, sides) in enumerate(stacks)
        for side in (0, 1)
        if sides[side]
    ]


def blocks_of(ranges):
    return [(span.stack, span.side, i) for span in ranges for i in range(span.start, span.stop)]


def phase_of_each_block(stacks, interval):
    """The contract, one block after another."""
    blocks = [(stack, side, i, d**3) for stack, side, n, d in units_of(stacks) for i in range(n)]
    total = sum(cost for *_, cost in blocks)
    phases, before = {}, 0
    for stack, side, i, cost in blocks:
        phases[stack, side, i] = int(Fraction(interval * before, total))
        before += cost
    return phases


@given(STACKS, st.integers(1, 50), STEPS)
def test_staggered_refreshes_follow_the_rule(stacks, interval, step):
    expected = [
        block
        for block, phase in phase_of_each_block(stacks, interval).items()
        if (step < interval and step in (1, 4, 16)) or step % interval == phase
    ]
    assert blocks_of(schedule_of(stacks).due(step, interval, "staggered")) == expected


@given(STACKS, st.integers(1, 50), STEPS)
def test_together_is_all_or_nothing(stacks, interval, step):
    ranges = schedule_of(stacks).due(step, interval, "together")
    everything = list(phase_of_each_block(stacks, interval))
    due = step in (1, 4, 16) if step < interval else step % interval == 0
    assert blocks_of(ranges) == (everything if due else [])
    assert is_due(step, interval) == due


@given(STACKS, st.integers(1, 50))
def test_each_factor_is_due_once_an_interval_and_work_is_even(stacks, interval):
    schedule = schedule_of(stacks)
    dimensions = {(stack, side): d for stack, side, _, d in units_of(stacks)}
    seen, work = Counter(), []
    for step in range(interval, 2 * interval):
        ranges = schedule.due(step, interval, "staggered")
        assert len(ranges) == len({(span.stack, span.side) for span in ranges})
        assert all(span.start < span.stop for span in ranges)
        seen.update(blocks_of(ranges))
        work.append(sum(dimensions[s, side] ** 3 for s, side, _ in blocks_of(ranges)))
    assert set(seen.values()) <= {1}
    assert seen.total() == sum(blocks for _, _, blocks, _ in units_of(stacks))
    largest = max((d**3 for *_, blocks, d in units_of(stacks)), default=0)
    assert max(work) <= sum(work) / interval + largest


def test_the_interval_may_change_between_steps():
    schedule = schedule_of([(6, 4, 7, (True, False))])
    counts = [len(blocks_of(schedule.due(12, t, "staggered"))) for t in (3, 6, 3, 2)]
    assert counts == [2, 1, 2, 3]


def test_a_long_stack_is_one_range_a_phase():
    schedule = schedule_of([(10**12, 64, 1, (True, False))])
    (due,) = schedule.due(107, 100, "staggered")
    assert (due.start, due.stop) == (7 * 10**10, 8 * 10**10)


def test_a_rank_refreshes_its_blocks_when_the_whole_group_would():
    specs = specs_of([(6, 4, 7, (True, True))])
    schedule = RefreshSchedule(specs)
    seen = []
    for first, count in ((0, 1), (1, 2)):  # of the three blocks of either parameter
        parts = []
        for part in specs[0].parts:
            rows = dataclasses.replace(part.grid, row=first * 4, rows=count)
            offset = len(parts) * count
            parts.append(dataclasses.replace(part, start=first, grid=rows, offset=offset))
        owned = schedule.restricted_to([dataclasses.replace(specs[0], parts=tuple(parts))])
        number = [3 * part + first + row for part in range(2) for row in range(count)]
        seen.append(
            [
                {(side, number[i]) for _, side, i in blocks_of(owned.due(step, 5, "staggered"))}
                for step in range(5, 10)
            ]
        )
    complete = [
        {(side, i) for _, side, i in blocks_of(schedule.due(step, 5, "staggered"))}
        for step in range(5, 10)
    ]
    assert [a | b for a, b in zip(*seen, strict=True)] == complete


def test_an_unknown_mode_is_refused():
    with pytest.raises(ValueError, match="'sometimes'"):
        schedule_of([]).due(1, 1, "sometimes")
