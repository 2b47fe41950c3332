"""What docs/jax.md says of JAX's Shampoo is of complete logs, of the same points and seeds."""

import pytest

from analysis import jax_tables
from common import files
from tests.analysis.conftest import rows_of


@pytest.fixture(autouse=True, scope="module")
def known_facts():
    """The real targets: the documents are of logs that were judged by them."""


def test_steps_are_of_the_same_points_and_seeds():
    keys = ["workload", "study", "trial"]
    ours, theirs = (
        table.sort_values(keys)[[*keys, "hyperparameters"]].values.tolist()
        for table in (jax_tables.trials(), jax_tables.torch_trials())
    )
    assert ours == theirs
    assert jax_tables.trials()["finished"].all()
    rows = rows_of(jax_tables.steps_table())
    assert len(rows) == 1 + 4
    assert all(len(cell.split(", ")) == 3 for row in rows[1:] for cell in row[1:])


def test_costs_are_ratios_within_one_network():
    heads, *rows = rows_of(jax_tables.costs_table())
    assert len(heads) == 7 and len(rows) % 4 == 0
    for row in rows:
        if row[1] == "optax.adamw":
            assert row[3] == row[4] == "1"
        if row[1] == "Shampoo in PyTorch":
            assert row[2] == row[3] == "–" and row[5] == row[6] == "1"


def test_a_device_holds_at_least_its_share():
    for found in files.read_json(jax_tables.JAX / "device_bytes.json").values():
        sizes = [size * int(count) / found["1"] for count, size in found.items()]
        assert sizes == sorted(sizes) and sizes[0] == 1
    heads, *rows = rows_of(jax_tables.devices_table())
    assert heads[1:3] == ["1 device", "2 devices"]
    assert [row[0] for row in rows] == ["vit_s16", "resnet50"]
