import numpy as np
import pytest
import torch
from scipy.ndimage import uniform_filter

from workloads import prng
from workloads.standin import brain_unet, ssim
from workloads.standin.brain_unet import (
    CLIP,
    MAX_SHIFT,
    MIDLINE,
    MIN_MEAN,
    SCAN_SIDE,
    SIDE,
    BrainUnetWorkload,
)
from workloads.standin.kspace import draw_masks, reconstruct
from workloads.standin.unet import UNet

KEY = prng.key(5)
SHAPE = (98, 116, 94)


@pytest.fixture(scope="module")
def workload():
    return BrainUnetWorkload()


def test_halving_takes_means_of_cubes_and_drops_the_odd_voxel():
    volume = np.arange(3 * 4 * 5, dtype=np.float32).reshape(3, 4, 5)
    small = brain_unet.halved(volume)
    assert small.shape == (1, 2, 2)
    assert small[0, 1, 0] == volume[:2, 2:4, :2].mean()


def test_splits_share_no_voxel_and_lie_apart():
    numbers = np.arange(np.prod(SHAPE), dtype=np.float32).reshape(SHAPE)
    voxels = {split: set(rows.flat) for split, rows in brain_unet.scans(numbers).items()}
    assert sum(map(len, voxels.values())) == len(set.union(*voxels.values()))
    planes = {
        split: {int(number) // SHAPE[2] % SHAPE[1] for number in taken}
        for split, taken in voxels.items()
    }
    for split, taken in planes.items():
        others = set.union(*(planes[other] for other in planes if other != split))
        assert min(abs(a - b) for a in taken for b in others) == 3, "two planes lie between"


def test_the_hemispheres_are_mirror_images_and_sagittal_slices_are_of_one():
    image = brain_unet.nibabel.load(
        brain_unet.locate(
            "nilearn", "datasets/data/mni_icbm152_t1_tal_nlin_sym_09a_converted.nii.gz"
        )
    )
    volume = np.asarray(image.dataobj)
    assert np.array_equal(volume, volume[::-1])
    assert volume.shape[0] // 2 == 2 * MIDLINE and brain_unet.SAGITTAL.stop <= MIDLINE


def test_scans_are_no_empty_ones(workload):
    sizes = {"train": 200, "validation": 48, "test": 48}
    for split, least in sizes.items():
        scans = workload.tables[split]["scan"]
        assert len(scans) >= least and scans.shape[1:] == (SCAN_SIDE, SCAN_SIDE)
        assert scans.mean((1, 2)).min() >= MIN_MEAN - 1e-6
        assert scans.min() >= 0 and scans.max() <= 1


def test_masks_keep_the_lowest_frequencies_and_a_quarter_of_all():
    masks = draw_masks(4000, SIDE, np.random.default_rng(0))
    assert set(masks.unique().tolist()) == {0.0, 1.0}
    share = masks.mean(0)
    always = (share == 1).nonzero().flatten().tolist()
    assert always == [19, 20, 21], "8 % of 40, around frequency zero at 20"
    assert masks.mean().item() == pytest.approx(0.25, abs=0.005)
    others = share[share < 1]
    assert others.min() > 0.15 and others.max() < 0.23


def test_a_reconstruction_sums_the_waves_that_are_kept():
    generator = np.random.default_rng(1)
    image = generator.random((8, 8))
    kept = np.array([0, 0, 1, 0, 1, 1, 0, 0])
    n = np.arange(8)
    total = np.zeros((8, 8), dtype=complex)
    for down in range(-4, 4):
        for right in range(-4, 4):
            wave = np.exp(2j * np.pi * (down * n[:, None] + right * n) / 8)
            total += kept[right + 4] * (image * wave.conj()).sum() * wave / 64
    result = reconstruct(torch.from_numpy(image)[None], torch.from_numpy(kept)[None])
    np.testing.assert_allclose(result[0].numpy(), np.abs(total), atol=1e-12)
    whole = reconstruct(torch.from_numpy(image)[None], torch.ones(1, 8))
    np.testing.assert_allclose(whole[0].numpy(), image, atol=1e-12)


def test_examples_are_normalised_by_what_the_model_sees(workload):
    for split in ("train", "validation", "test"):
        table = workload.tables[split]
        inside = slice(MAX_SHIFT, MAX_SHIFT + SIDE)
        images = table["targets"] * table["std"][:, None, None] + table["mean"][:, None, None]
        unclipped = table["targets"].abs().amax((1, 2)) < CLIP
        assert unclipped.float().mean() > 0.9
        expected = table["scan"][:, inside, inside]
        torch.testing.assert_close(images[unclipped], expected[unclipped], atol=1e-5, rtol=0)
        clipped = table["inputs"].abs().amax((1, 2)) == CLIP
        torch.testing.assert_close(
            table["inputs"].mean((1, 2))[~clipped], torch.zeros(int((~clipped).sum())), atol=1e-4,
            rtol=0,
        )  # fmt: skip


def test_augmented_images_are_shifted_flipped_and_of_another_contrast():
    marked = torch.zeros(300, SCAN_SIDE, SCAN_SIDE)
    marked[:, 20, 22] = 0.5
    marked[:, 20, 23] = 1.0
    batch = brain_unet.augment({"scan": marked}, np.random.default_rng(0))
    images = batch["targets"] * batch["std"][:, None, None] + batch["mean"][:, None, None]
    # Of one bright pixel the normalised value is beyond the bounds, but the largest all the same.
    where = {divmod(int(index), SIDE) for index in images.flatten(1).argmax(1)}
    down = {20 - shift for shift in range(2 * MAX_SHIFT + 1)}
    assert {row for row, _ in where} == down | {SIDE - 1 - row for row in down}
    assert len({column for _, column in where}) > 2 * MAX_SHIFT + 1


def test_contrasts_are_powers_and_masks_differ_between_rows(workload):
    scans = workload.tables["train"]["scan"][:1].repeat(64, 1, 1)
    batch = brain_unet.augment({"scan": scans}, np.random.default_rng(0))
    images = batch["targets"] * batch["std"][:, None, None] + batch["mean"][:, None, None]
    maxima = images.amax((1, 2))
    assert maxima.max() < scans.max() ** (1 / 1.5) + 1e-4
    assert maxima.min() < scans.max() < maxima.max()
    assert len(batch["inputs"].flatten(1).unique(dim=0)) == 64


def test_evaluation_examples_are_the_same_in_every_epoch(workload):
    queue = workload._build_input_queue(KEY, "validation", "", 48)
    assert torch.equal(next(queue)["inputs"], next(queue)["inputs"])
    train = workload._build_input_queue(KEY, "train", "", 8)
    plain = {row.numpy().tobytes() for row in workload.tables["train"]["inputs"]}
    assert not any(row.numpy().tobytes() in plain for row in next(train)["inputs"])


def naive_similarity(image, other, data_range):
    """The index from scipy's filter, in double precision, without windows over the edge."""

    def mean(x):
        return uniform_filter(x, 7)[3:-3, 3:-3]

    n = 49
    mean_1, mean_2 = mean(image), mean(other)
    var_1 = n / (n - 1) * mean((image) ** 2) - n / (n - 1) * mean_1**2
    var_2 = n / (n - 1) * mean((other) ** 2) - n / (n - 1) * mean_2**2
    covariance = n / (n - 1) * (mean(image * other) - mean_1 * mean_2)
    c_1, c_2 = (0.01 * data_range) ** 2, (0.03 * data_range) ** 2
    top = (2 * mean_1 * mean_2 + c_1) * (2 * covariance + c_2)
    return (top / ((mean_1**2 + mean_2**2 + c_1) * (var_1 + var_2 + c_2))).mean()


def test_the_metric_is_the_mean_similarity_of_whole_images(workload):
    table = {name: values[:10] for name, values in workload.tables["test"].items()}
    generator = torch.Generator().manual_seed(0)
    noise = 0.3 * torch.randn(table["targets"].shape, generator=generator)
    weights = torch.tensor([1.0] * 8 + [0.0] * 2)
    outputs = table["targets"] + noise
    metrics = workload.metrics([(outputs, {**table, "weights": weights})])
    mean, std = (table[name].double().numpy()[:, None, None] for name in ("mean", "std"))
    pairs = [(values.double().numpy() * std + mean)[:8] for values in (outputs, table["targets"])]
    expected = [naive_similarity(a, b, 1.0) for a, b in zip(*pairs, strict=True)]
    assert metrics["ssim"] == pytest.approx(np.mean(expected), abs=1e-4)
    assert metrics["loss"] == pytest.approx(noise[:8].abs().mean().item(), rel=1e-5)
    assert 0.1 < metrics["ssim"] < 0.9


def test_similarity_depends_on_the_range_and_is_one_for_equal_images():
    generator = np.random.default_rng(0)
    image, other = generator.random((2, 20, 23))
    pair = [torch.from_numpy(x)[None] for x in (image, other)]
    for data_range in (1.0, 4.0):
        value = ssim.similarity(*pair, data_range=data_range).item()
        assert value == pytest.approx(naive_similarity(image, other, data_range), abs=1e-9)
    assert ssim.similarity(pair[0], pair[0], 1.0).item() == pytest.approx(1)
    # One whole window, by the definition.
    a, b = (x[:, :7, :7] for x in pair)
    covariance = np.cov(a.numpy().ravel(), b.numpy().ravel())
    means = a.mean().item(), b.mean().item()
    luminance = (2 * means[0] * means[1] + 1e-4) / (means[0] ** 2 + means[1] ** 2 + 1e-4)
    structure = (2 * covariance[0, 1] + 9e-4) / (np.trace(covariance) + 9e-4)
    assert ssim.similarity(a, b, 1.0).item() == pytest.approx(luminance * structure)


def test_channels_double_with_each_level_and_are_dropped_whole():
    model = UNet(channels=4, levels=2)
    shapes = {name: tuple(p.shape) for name, p in model.named_parameters()}
    assert shapes["down.0.conv_1.weight"] == (4, 1, 3, 3)
    assert shapes["down.1.conv_2.weight"] == (8, 8, 3, 3)
    assert shapes["bottom.conv_1.weight"] == (16, 8, 3, 3)
    assert shapes["transposed_conv.0.weight"] == (16, 8, 2, 2)
    assert shapes["up.0.conv_1.weight"] == (8, 16, 3, 3)
    assert shapes["up.1.conv_2.weight"] == (4, 4, 3, 3)
    torch.manual_seed(0)
    x = torch.randn(6, 1, 8, 8)
    block = model.down[0]
    plain, dropped = block(x, 0.0), block(x, 0.5)
    share = (dropped == 0).all(3).all(2).float().mean()
    assert 0.2 < share < 0.8 and not (plain == 0).all(3).all(2).any()


def test_blocks_normalise_every_channel_of_every_image():
    model = UNet(channels=4, levels=1)
    block = model.down[0]
    x = torch.randn(3, 1, 8, 8)
    hidden = x
    for conv in (block.conv_1, block.conv_2):
        hidden = conv(hidden)
        mean = hidden.mean((2, 3), keepdim=True)
        variance = ((hidden - mean) ** 2).mean((2, 3), keepdim=True)
        hidden = (hidden - mean) / (variance + 1e-5).sqrt()
        hidden = torch.where(hidden > 0, hidden, 0.2 * hidden)
    torch.testing.assert_close(block(x, 0.0), hidden, rtol=1e-4, atol=1e-5)
    # Brightness and contrast of the input have no influence.
    model.eval()
    torch.testing.assert_close(model(3 * x[:, 0]), model(x[:, 0]), rtol=1e-2, atol=1e-3)
