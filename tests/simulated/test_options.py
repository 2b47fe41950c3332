"""Every option set on a pretended device: where the host waits, and the values of the CPU.

That no operator gets a tensor of the CPU, and that streams wait for one another, the device sees to
itself: see `test_device.py`.
"""

from pathlib import Path

import pytest

from submission.shampoo.description import resolved
from tests.simulated.device import simulated
from tests.simulated.runs import OPTION_SETS, optimizer_of, run, start
from tests.simulated.tensors import on_device

TABLE = Path(__file__).parents[2] / "results" / "simulated" / "README.md"
# Its refreshes are always by a factorisation.
_NEVER_BY_PRODUCTS = {"eigh", "soap, qr"}


@pytest.mark.parametrize("name", OPTION_SETS)
def test_the_host_does_not_wait_and_values_are_those_of_the_cpu(name):
    done = run(OPTION_SETS[name])
    assert done.plain
    assert done.refreshing
    assert bool(done.by_products) == (name not in _NEVER_BY_PRODUCTS)
    assert [wait for step in done.plain for wait in step.waits] == []
    assert [wait for step in done.by_products for wait in step.waits] == []
    looks = [look for step in done.steps for look in step.looks]
    assert [look for look in looks if not look.is_of_earlier] == []
    assert done.failed == 0
    assert done.difference <= 1e-6


def test_auto_takes_solvers_by_products():
    with simulated():
        for method in ("shampoo", "soap"):
            options = {"method": method, "root_solver": "auto", "basis_solver": "auto"}
            optimizer, _ = optimizer_of(start(), options, on_device)
            (group,), (state,) = optimizer.param_groups, optimizer._group_states()
            values = resolved(group, state.config(group))
            solvers = values.get("root_solver"), values.get("basis_solver")
            assert solvers in [("products", None), (None, "cholesky_qr")]


def test_the_committed_table_has_every_option_set_and_no_wait():
    lines = TABLE.read_text().splitlines()
    rows = [line.strip("| ").split(" | ") for line in lines if line.startswith("| ")][1:]
    assert [row[0] for row in rows] == list(OPTION_SETS)
    assert {row[2] for row in rows} == {"0"}
    assert {row[3].split()[0] for row in rows} == {"0"}
