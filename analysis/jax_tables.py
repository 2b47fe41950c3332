"""Tables of docs/jax.md, read from results/jax: where the state of JAX's Shampoo lies."""

from collections.abc import Callable, Mapping

from common import documents, files
from scripts.local.environment import ROOT

JAX = ROOT / "results" / "jax"
_MIB = 2**20


def devices_table() -> str:
    """By network: MiB of state on the device that holds most, and its share of an equal one."""
    rows = []
    for network, found in files.read_json(JAX / "device_bytes.json").items():
        whole = found["1"]
        cells = {
            "1 device" if count == "1" else f"{count} devices": (
                f"{size / _MIB:.0f} MiB"
                + (f" ({size * int(count) / whole:.2f})" if count != "1" else "")
            )
            for count, size in found.items()
        }
        rows.append({"network": network, **cells})
    return documents.table(rows)


TABLES: Mapping[str, Callable[[], str]] = {
    "jax-devices": devices_table,
}
