import pytest
import torch

from workloads import prng
from workloads.standin.mnist_resnet import MnistResnetWorkload, ResidualBlock, ResidualNetwork
from workloads.standin.mnist_vit import MnistVitWorkload

KEY = prng.key(3)


@pytest.fixture(scope="module")
def workload():
    return MnistResnetWorkload()


def batch_norm_by_hand(layer, x):
    mean = x.mean((0, 2, 3), keepdim=True)
    variance = ((x - mean) ** 2).mean((0, 2, 3), keepdim=True)
    scale, bias = layer.weight[:, None, None], layer.bias[:, None, None]
    return (x - mean) / (variance + 1e-5).sqrt() * scale + bias


@pytest.mark.parametrize(("inputs", "stride"), [(4, 1), (3, 2)])
def test_a_block_adds_two_normalised_convolutions_to_its_shortcut(inputs, stride):
    torch.manual_seed(0)
    block = ResidualBlock(inputs, 4, stride)
    x = torch.randn(5, inputs, 7, 7)
    hidden = batch_norm_by_hand(block.batch_norm_1, block.conv_1(x)).clamp(min=0)
    hidden = batch_norm_by_hand(block.batch_norm_2, block.conv_2(hidden))
    shortcut = x
    if stride > 1:
        shortcut = batch_norm_by_hand(block.shortcut.batch_norm, block.shortcut.conv(x))
    expected = (hidden + shortcut).clamp(min=0)
    torch.testing.assert_close(block(x), expected, rtol=1e-4, atol=1e-5)


def test_each_stage_but_the_first_halves_the_side():
    network = ResidualNetwork()
    x = torch.relu(network.stem_conv(torch.randn(2, 1, 28, 28)))
    shapes = []
    for stage in network.stages:
        x = stage(x)
        shapes.append(tuple(x.shape[1:]))
    assert shapes == [(16, 14, 14), (32, 7, 7), (64, 4, 4)]


def test_residual_branches_start_at_zero():
    block = ResidualNetwork().stages[0]
    x = torch.rand(3, 16, 5, 5)
    assert torch.equal(block(x), x)


def test_types_are_those_of_a_residual_network(workload):
    workload.init_model_fn(KEY)
    kinds = list(workload.model_params_types.values())
    # Three blocks of two convolutions, two projected shortcuts and the stem, all normalised.
    count = {kind.name: kinds.count(kind) for kind in set(kinds)}
    assert count == {
        "CONV_WEIGHT": 9,
        "BATCH_NORM_SCALE": 9,
        "BATCH_NORM_BIAS": 9,
        "WEIGHT": 1,
        "BIAS": 1,
    }


def test_images_and_splits_are_those_of_the_vision_transformer(workload):
    other = MnistVitWorkload()
    for split, table in workload.tables.items():
        for name, values in table.items():
            assert torch.equal(values, other.tables[split][name])
    first, second = (next(w._build_input_queue(KEY, "train", "", 8)) for w in (workload, other))
    assert torch.equal(first["inputs"], second["inputs"])
