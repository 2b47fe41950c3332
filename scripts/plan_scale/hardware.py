"""Accelerators as their makers state them, and how long kernels and messages take on them."""

import dataclasses
from collections.abc import Iterable, Mapping

import torch

from scripts.benchmark.counting import Kernel

RANKS_PER_NODE = 8


@dataclasses.dataclass(frozen=True)
class Hardware:
    """One accelerator of a node of eight.

    Attributes:
      title: its name in prose.
      float32, tensor_float32, bfloat16: peak operations per second of dense matrix products.
      memory: bytes per second.
      capacity: bytes.
      link: bytes per second that a rank sends to others in its node.
      network: bytes per second that a rank sends to other nodes.
      source: of all figures but `network`.
    """

    title: str
    float32: float
    tensor_float32: float
    bfloat16: float
    memory: float
    capacity: float
    link: float
    network: float
    source: str

    def seconds(self, kernels: Iterable[Kernel], efficiency: float, with_tf32: bool) -> float:
        """Of kernels one after the other, each bound by its products or by memory.

        (The roofline model, Williams et al. 2009, doi:10.1145/1498765.1498785.)

        Args:
          efficiency: the fraction of the peaks that is reached.
          with_tf32: whether float32 products run on tensor cores.
        """
        float32 = self.tensor_float32 if with_tf32 else self.float32
        rates = {torch.bfloat16: self.bfloat16, torch.float32: float32}
        times = (
            max(kernel.flops / rates.get(kernel.dtype, self.float32), kernel.bytes / self.memory)
            for kernel in kernels
        )
        return sum(times, start=0.0) / efficiency

    def sending_seconds(self, sent: Mapping[tuple[int, ...], int]) -> float:
        """Of messages one after the other, by the ranks of their groups.

        A group of several nodes is as fast as the network.
        """
        seconds = 0.0
        for ranks, size in sent.items():
            in_one_node = len({rank // RANKS_PER_NODE for rank in ranks}) == 1
            seconds += size / (self.link if in_one_node else self.network)
        return seconds


# `network` is one InfiniBand port for each accelerator, as in the maker's own nodes: NDR with
# 400 Gb/s, HDR with 200 Gb/s; for V100 EDR with 100 Gb/s for every second one.
HARDWARE: Mapping[str, Hardware] = {
    "h100": Hardware(
        *("H100 SXM 80 GB", 67e12, 494.7e12, 989.4e12, 3.35e12, 80e9, 450e9, 50e9),
        "NVIDIA H100 Tensor Core GPU data sheet; NVLink 900 GB/s in both directions",
    ),
    "a100": Hardware(
        *("A100 SXM 80 GB", 19.5e12, 156e12, 312e12, 2.039e12, 80e9, 300e9, 25e9),
        "NVIDIA A100 80GB Tensor Core GPU data sheet; NVLink 600 GB/s in both directions",
    ),
    # No tensor cores for float32 or bfloat16.
    "v100": Hardware(
        *("V100 SXM2 16 GB", 15.7e12, 15.7e12, 15.7e12, 0.9e12, 16e9, 150e9, 6.25e9),
        "NVIDIA V100 Tensor Core GPU data sheet; NVLink 300 GB/s in both directions",
    ),
}
