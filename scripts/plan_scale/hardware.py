"""Accelerators as their makers state them, and how long kernels and messages take on them."""

import dataclasses
from collections.abc import Iterable, Mapping
from pathlib import Path

import torch

from common import files
from scripts.benchmark.counting import Kernel

RANKS_PER_NODE = 8


@dataclasses.dataclass(frozen=True)
class Bounds:
    """Seconds of kernels one after the other, by what bounds each of them.

    Attributes:
      products: of kernels that the peak of matrix products bounds.
      memory: of those that the memory's bandwidth bounds.
      launches: of those that are over before the next one can start.
    """

    products: float = 0.0
    memory: float = 0.0
    launches: float = 0.0

    @property
    def total(self) -> float:
        """Seconds of all kernels."""
        return self.products + self.memory + self.launches

    @property
    def main(self) -> str:
        """The name of the largest part, the first of equal ones.

        >>> Bounds(memory=2.0, launches=1.0).main
        'memory'
        """
        parts = dataclasses.asdict(self)
        return max(parts, key=lambda name: parts[name])

    def __add__(self, other: "Bounds") -> "Bounds":
        pairs = zip(dataclasses.astuple(self), dataclasses.astuple(other), strict=True)
        return Bounds(*(a + b for a, b in pairs))

    def __mul__(self, factor: float) -> "Bounds":
        return Bounds(*(factor * part for part in dataclasses.astuple(self)))


@dataclasses.dataclass(frozen=True)
class Hardware:
    """One accelerator of a node of eight.

    Attributes:
      title: its name in prose.
      name: what `torch.cuda.get_device_name` has in it for this one alone.
      float32, tensor_float32, bfloat16: peak operations per second of dense matrix products.
      memory: bytes per second.
      capacity: bytes.
      link: bytes per second that a rank sends to others in its node.
      network: bytes per second that a rank sends to other nodes.
      launch: seconds from the start of one kernel to that of the next at the least.
      source, network_source, launch_source: where the figures are from, `source` for all others.
    """

    title: str
    name: str
    float32: float
    tensor_float32: float
    bfloat16: float
    memory: float
    capacity: float
    link: float
    network: float
    launch: float
    source: str
    network_source: str
    launch_source: str

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            if not value or (field.type is float and not value > 0):
                wanted = "a number above 0" if field.type is float else "a text"
                raise ValueError(f"{field.name} must be {wanted}, got {value!r}")

    def bounds(self, kernels: Iterable[Kernel], efficiency: float, with_tf32: bool) -> Bounds:
        """Of kernels one after the other, each bound by its products, by memory or by its launch.

        (The roofline model, Williams et al. 2009, doi:10.1145/1498765.1498785.)

        Args:
          efficiency: the fraction of the peaks that is reached; launches have none.
          with_tf32: whether float32 products run on tensor cores.
        """
        float32 = self.tensor_float32 if with_tf32 else self.float32
        rates = {torch.bfloat16: self.bfloat16, torch.float32: float32}
        products = memory = launches = 0.0
        for kernel in kernels:
            computing = kernel.flops / rates.get(kernel.dtype, self.float32) / efficiency
            moving = kernel.bytes / self.memory / efficiency
            if self.launch >= max(computing, moving):
                launches += self.launch
            elif computing > moving:
                products += computing
            else:
                memory += moving
        return Bounds(products, memory, launches)

    def sending_seconds(self, sent: Mapping[tuple[int, ...], int]) -> float:
        """Of messages one after the other, by the ranks of their groups.

        A group of several nodes is as fast as the network.
        """
        seconds = 0.0
        for ranks, size in sent.items():
            in_one_node = len({rank // RANKS_PER_NODE for rank in ranks}) == 1
            seconds += size / (self.link if in_one_node else self.network)
        return seconds


# Figures and their sources, side by side.
HARDWARE: Mapping[str, Hardware] = {
    name: Hardware(**row)
    for name, row in files.read_json(Path(__file__).with_suffix(".json")).items()
}


def named(device: str) -> str | None:
    """The key in `HARDWARE` of a device by torch's name for it; None if there is none.

    >>> named("NVIDIA A100-SXM4-40GB"), named("cpu")
    ('a100_40gb', None)
    """
    return next((key for key, row in HARDWARE.items() if row.name in device), None)
