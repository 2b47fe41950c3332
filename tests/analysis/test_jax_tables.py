"""What docs/jax.md says of the state of JAX's Shampoo."""

from analysis import jax_tables
from common import files
from tests.analysis.conftest import rows_of


def test_a_device_holds_at_least_its_share() -> None:
    for found in files.read_json(jax_tables.JAX / "device_bytes.json").values():
        sizes = [size * int(count) / found["1"] for count, size in found.items()]
        assert sizes == sorted(sizes) and sizes[0] == 1
    heads, *rows = rows_of(jax_tables.devices_table())
    assert heads[1:3] == ["1 device", "2 devices"]
    assert [row[0] for row in rows] == ["vit_s16", "resnet50"]
