"""What docs/jax.md says of JAX's Shampoo costs."""

from analysis import jax_tables
from common import files
from tests.analysis.conftest import rows_of


def test_costs_are_ratios_within_one_network() -> None:
    heads, *rows = rows_of(jax_tables.costs_table())
    assert len(heads) == 7 and len(rows) % 4 == 0
    for row in rows:
        if row[1] == "optax.adamw":
            assert row[3] == row[4] == "1"
        if row[1] == "Shampoo in PyTorch":
            assert row[2] == row[3] == "–" and row[5] == row[6] == "1"


def test_a_device_holds_at_least_its_share() -> None:
    for found in files.read_json(jax_tables.JAX / "device_bytes.json").values():
        sizes = [size * int(count) / found["1"] for count, size in found.items()]
        assert sizes == sorted(sizes) and sizes[0] == 1
    heads, *rows = rows_of(jax_tables.devices_table())
    assert heads[1:3] == ["1 device", "2 devices"]
    assert [row[0] for row in rows] == ["vit_s16", "resnet50"]
