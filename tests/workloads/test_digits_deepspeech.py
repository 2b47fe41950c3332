import numpy as np
import pytest
import torch

from submission.algoperf_api import spec
from workloads import prng
from workloads.standin import digits_deepspeech
from workloads.standin.ctc import frames_needed
from workloads.standin.deepspeech import DeepSpeech
from workloads.standin.digits_deepspeech import COLUMNS, MOST, SIDE, compose

SPLITS = ("train", "validation", "test")


@pytest.fixture(scope="module")
def lines():
    return digits_deepspeech.DigitsDeepspeechWorkload()


def test_splits_share_no_image(lines):
    rows = [image.tobytes() for split in SPLITS for image in lines.digits[split][0]]
    assert len(rows) == len(set(rows)) == sum(digits_deepspeech.IMAGES.values()) == 1797
    for split in SPLITS:
        images, classes = lines.digits[split]
        assert len(images) == digits_deepspeech.IMAGES[split]
        assert set(classes.tolist()) == set(range(10))
        assert images.min() == 0 and images.max() == 1


def test_lines_hold_their_digits_from_left_to_right():
    # A digit is a bar at its image's left edge, of a darkness of its own, so no overlap hides it.
    images = np.zeros((5, SIDE, SIDE), dtype=np.float32)
    images[:, :, 0] = np.arange(1, 6)[:, None] / 5
    table = compose((images, np.arange(5)), 200, np.random.default_rng(0))
    assert table["inputs"].shape == (200, SIDE, COLUMNS) and table["targets"].shape == (200, MOST)
    counts = set()
    for line, target in zip(table["inputs"].numpy(), table["targets"].tolist(), strict=True):
        darkness = line.max(0)
        read = np.rint(darkness[darkness > 0] * 5).astype(int).tolist()
        assert read + [0] * (MOST - len(read)) == target
        counts.add(len(read))
        places = np.flatnonzero(darkness)
        assert places[0] <= digits_deepspeech.MOST_OFFSET
        assert set(np.diff(places)) <= set(
            range(SIDE + digits_deepspeech.LEAST_GAP, SIDE + digits_deepspeech.MOST_GAP + 1)
        )
        inked = (line > 0).sum(0)[places]
        assert set(inked) <= {SIDE - 1, SIDE}
    assert counts == set(range(digits_deepspeech.FEWEST, MOST + 1))


def test_the_darker_of_two_overlapping_pixels_counts():
    images = np.full((2, SIDE, SIDE), 0.25, dtype=np.float32)
    images[1] = 0.75
    table = compose((images, np.array([0, 1])), 100, np.random.default_rng(0))
    assert set(table["inputs"].unique().tolist()) == {0.0, 0.25, 0.75}


def test_training_lines_are_composed_anew_from_training_images(lines):
    queue = lines._build_input_queue(prng.key(1), "train", "", 16)
    first, second = next(queue), next(queue)
    again = next(lines._build_input_queue(prng.key(1), "train", "", 16))
    assert torch.equal(first["inputs"], again["inputs"])
    assert torch.equal(first["targets"], again["targets"])
    known = {row.numpy().tobytes() for row in lines.tables["train"]["inputs"]}
    fresh = [row.numpy().tobytes() for batch in (first, second) for row in batch["inputs"]]
    assert len(set(fresh)) == 32 and not known & set(fresh)
    assert first["inputs"].dtype == lines.tables["train"]["inputs"].dtype
    blank = (np.zeros((1, SIDE, SIDE), np.float32), np.array([3]))
    batch = digits_deepspeech.recompose(first, np.random.default_rng(0), blank)
    assert not batch["inputs"].any() and set(batch["targets"].unique().tolist()) == {0, 4}


def test_every_target_fits_into_its_line_s_frames(lines):
    model = DeepSpeech(bins=SIDE, symbols=11)
    frames = model(torch.zeros(1, SIDE, COLUMNS)).shape[1]
    assert frames == COLUMNS // 2
    # Seven times one digit is the worst there can be.
    assert frames_needed(torch.full((1, MOST), 3)).item() <= frames


def test_the_matrices_of_an_lstm_are_weights_and_its_vectors_biases(lines):
    lines.init_model_fn(prng.key(0))
    types = lines.model_params_types
    for name in ("weight_ih_l0", "weight_hh_l0_reverse"):
        assert types[f"lstms.0.lstm.{name}"] == spec.ParameterType.WEIGHT
        assert len(lines.param_shapes[f"lstms.0.lstm.{name}"].shape_tuple) == 2
    assert types["lstms.0.lstm.bias_hh_l0"] == spec.ParameterType.BIAS
    assert types["conv1.weight"] == spec.ParameterType.CONV_WEIGHT
