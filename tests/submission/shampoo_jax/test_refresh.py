"""Which blocks a traced step refreshes."""

import jax
import jax.numpy as jnp
import pytest

from submission.plan.refresh import RefreshSchedule
from submission.shampoo_jax.geometry import layout_of
from submission.shampoo_jax.options import resolve
from submission.shampoo_jax.refresh import due_blocks

SPECS = layout_of(
    {"wide": jnp.ones((12, 20)), "odd": jnp.ones((9, 5)), "small": jnp.ones((4, 4))},
    resolve({"block_size": 4}),
).specs


@pytest.mark.parametrize("mode", ["staggered", "together"])
@pytest.mark.parametrize("interval", [1, 5, 60])
def test_are_those_of_the_schedule(mode, interval):
    schedule = RefreshSchedule(SPECS)
    traced = jax.jit(lambda calls: due_blocks(SPECS, calls, interval, mode))
    for calls in range(1, 3 * interval):
        wanted = {due[:2]: due[2:] for due in schedule.due(calls, interval, mode)}
        for stack, sides in enumerate(traced(jnp.int32(calls))):
            for side, (start, stop) in sides.items():
                assert (start, stop) == wanted.get((stack, side), (0, 0))


@pytest.mark.parametrize("mode", ["staggered", "together"])
def test_an_interval_beyond_any_run_refreshes_early_alone(mode):
    """And takes no table of its length."""
    traced = jax.jit(lambda calls: due_blocks(SPECS, calls, (1 << 31) - 1, mode))
    for calls, share in ((1 << 20, 1), ((1 << 20) + 1, 0)):
        for spec, sides in zip(SPECS, traced(jnp.int32(calls)), strict=True):
            assert all(due.stop - due.start == share * spec.blocks for due in sides.values())
