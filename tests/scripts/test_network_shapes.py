"""Shapes of networks against the numbers of parameters that their papers and libraries give."""

import math

import pytest

from scripts.benchmark import network_shapes


@pytest.mark.parametrize(
    ("network", "tensors", "parameters"),
    [
        ("resnet50", 161, 25_557_032),
        ("vit_s16", 152, 22_050_664),
        ("gpt2_small", 148, 124_439_808),
        ("small_200k", 10, 188_810),
    ],
)
def test_totals(network: str, tensors: int, parameters: int) -> None:
    shapes = network_shapes.shapes(network)
    assert len(shapes) == tensors
    assert sum(math.prod(shape) for shape in shapes.values()) == parameters


def test_all_networks_are_tested_and_unknown_ones_refused() -> None:
    assert set(network_shapes.NETWORKS) == {"resnet50", "vit_s16", "gpt2_small", "small_200k"}
    with pytest.raises(KeyError):
        network_shapes.shapes("alexnet")
