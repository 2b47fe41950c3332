import dataclasses
import errno
import json
import os
from collections.abc import Callable
from pathlib import Path
from types import MappingProxyType

import pytest

from common.cli import UserError
from scripts.official import paths
from scripts.official.paths import data_directory, missing, runner_flags
from tests.scripts.official.trees import grow, sparse, volume
from workloads import registry
from workloads.official.downloads import SETUPS
from workloads.official.layouts import LAYOUTS, DayFiles, Images, Records, Utterances, Volumes

WORKLOADS = [name for name in registry.names("official") if name != "finewebedu_lm"]
BASES = sorted(LAYOUTS["pytorch"])


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """The data sets of a million files with a few; all others in full."""
    kept = dict(LAYOUTS["pytorch"])
    for name, layout in kept.items():
        parts = []
        for part in layout.parts:
            if isinstance(part, Images):
                part = dataclasses.replace(part, classes=3, files=7, least_gib=0.1)
            elif isinstance(part, Utterances):
                counts = MappingProxyType({"train": 9, "validation": 4, "test": 6})
                part = dataclasses.replace(part, utterances=counts, least_gib=0.1)
            parts.append(part)
        kept[name] = dataclasses.replace(layout, parts=tuple(parts))
    monkeypatch.setattr(paths, "LAYOUTS", LAYOUTS | {"pytorch": kept})


def grown(workload: str, root: Path, framework: str = "pytorch") -> Path:
    """A complete made-up tree; its data directory."""
    directory = grow(root, paths.layout_of(workload, framework))
    assert missing(workload, root, framework, sizes=True) == []
    return directory


def one(workload: str, root: Path, sizes: bool = False) -> str:
    """The only sentence."""
    sentences = missing(workload, root, sizes=sizes)
    assert len(sentences) == 1, sentences
    return sentences[0]


@pytest.mark.parametrize("workload", BASES)
def test_a_complete_tree_lacks_nothing_and_an_absent_one_all(workload: str, tmp_path: Path) -> None:
    where = data_directory(workload, tmp_path)
    assert one(workload, tmp_path).startswith(f"{where} is missing")
    directory = grown(workload, tmp_path)
    assert directory == where
    assert f"--data_dir={directory}" in runner_flags(workload, tmp_path)


@pytest.mark.parametrize("workload", ["imagenet_vit", "cifar"])
def test_jax_reads_records(workload: str, tmp_path: Path) -> None:
    grown(workload, tmp_path, "jax")
    assert missing(workload, tmp_path) != []


def test_variants_have_the_data_of_their_base(tmp_path: Path) -> None:
    for name in WORKLOADS:
        base = registry.official(name).base_name
        assert runner_flags(name, tmp_path) == runner_flags(base, tmp_path)


def test_flags_of_imagenet_and_librispeech(tmp_path: Path) -> None:
    imagenet = f"{tmp_path}/imagenet/jax"
    assert runner_flags("imagenet_resnet", tmp_path, "jax") == [
        f"--data_dir={imagenet}",
        f"--imagenet_v2_data_dir={imagenet}",
    ]
    assert runner_flags("librispeech_deepspeech_tanh", tmp_path) == [
        f"--data_dir={tmp_path}/librispeech",
        f"--librispeech_tokenizer_vocab_path={tmp_path}/librispeech/spm_model.vocab",
    ]


def test_paths_are_absolute(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    expected = [f"--data_dir={tmp_path}/data/ogbg"]
    assert runner_flags("ogbg", Path("~/data")) == runner_flags("ogbg", Path("data")) == expected


@pytest.mark.parametrize(
    ("workload", "framework", "message"),
    [
        ("imagenet", "pytorch", "unknown workload 'imagenet'; known: "),
        ("mnist_vit", "pytorch", "mnist_vit is no official workload"),
        ("finewebedu_lm", "pytorch", "finewebedu_lm has no data to set up: .* criteo1tb, fastmri"),
        ("ogbg", "torch", "unknown framework 'torch'; known: pytorch, jax"),
    ],
)
def test_what_has_no_data_is_refused(workload: str, framework: str, message: str) -> None:
    for ask in (runner_flags, missing):
        with pytest.raises(UserError, match=message):
            ask(workload, Path("/data"), framework)


def test_every_layout_has_a_set_up_and_the_registrys_counts() -> None:
    for framework, layouts in LAYOUTS.items():
        assert layouts.keys() == SETUPS[framework].keys()
    data = {name: registry.official(name).data for name in BASES}
    criteo = LAYOUTS["pytorch"]["criteo1tb"].parts[0]
    assert isinstance(criteo, DayFiles)
    *train, last = criteo.rows_per_day
    assert sum(train) == data["criteo1tb"].train_examples
    held_out = data["criteo1tb"].validation_examples + data["criteo1tb"].test_examples
    assert last == held_out and len(criteo.names(23)) == 36
    days = range(len(criteo.rows_per_day))
    assert sum(len(criteo.names(day)) for day in days) == data["criteo1tb"].files
    volumes = [part for part in LAYOUTS["pytorch"]["fastmri"].parts if isinstance(part, Volumes)]
    assert sum(part.files for part in volumes) + 108 == data["fastmri"].files
    for name in ("ogbg", "wmt"):
        counted = {
            split: count
            for part in LAYOUTS["pytorch"][name].parts
            if isinstance(part, Records)
            for split, count in part.examples.items()
        }
        row = data[name]
        assert counted == {
            "train": row.train_examples,
            "validation": row.validation_examples,
            "test": row.test_examples,
        }
    speech = LAYOUTS["pytorch"]["librispeech_conformer"].parts[1]
    assert isinstance(speech, Utterances)
    row = data["librispeech_conformer"]
    assert list(speech.utterances.values()) == [
        row.train_examples,
        row.validation_examples,
        row.test_examples,
    ]
    files = row.files
    assert files is not None
    assert abs(2 * sum(speech.utterances.values()) + 7 - files) == 2 * speech.slack


def test_mnist_may_lie_in_the_root_itself(tmp_path: Path) -> None:
    directory = grown("mnist", tmp_path)
    (directory / "mnist").rename(tmp_path / "mnist")
    assert "MNIST/mnist/3.0.1 is missing" in one("mnist", tmp_path)
    directory.rmdir()
    assert missing("mnist", tmp_path) == []
    assert runner_flags("mnist", tmp_path) == [f"--data_dir={tmp_path}"]


OGBG = "ogbg_molpcba/0.1.3"
SHARD = f"{OGBG}/ogbg_molpcba-train.tfrecord-00001-of-00002"


def shorten(path: Path, size: int) -> None:
    os.truncate(path, size)


def rewrite(path: Path, change: Callable[[dict], object]) -> None:
    info = json.loads(path.read_text())
    change(info)
    path.write_text(json.dumps(info))


@pytest.mark.parametrize(
    ("damage", "sentence"),
    [
        (
            lambda folder: (folder / SHARD).unlink(),
            (
                "has 1 of the 2 record files of train; missing: "
                "ogbg_molpcba-train.tfrecord-00001-of-00002"
            ),
        ),
        (
            lambda folder: shorten(folder / SHARD, 0),
            "has empty record files: ogbg_molpcba-train.tfrecord-00001-of-00002",
        ),
        (
            lambda folder: shorten(folder / SHARD, 4_554_445),
            (
                "the record files of train hold 9,108,917 bytes and should hold 9,108,918: at "
                "least one is truncated"
            ),
        ),
        (
            lambda folder: (folder / OGBG / "dataset_info.json").unlink(),
            "dataset_info.json: No such file or directory",
        ),
        (
            lambda folder: (folder / OGBG / "dataset_info.json").write_text("[]"),
            "dataset_info.json is not as TensorFlow Datasets writes it",
        ),
        (
            lambda folder: rewrite(
                folder / OGBG / "dataset_info.json", lambda info: info["splits"].pop()
            ),
            "dataset_info.json knows no split test, which should have 43,793 examples",
        ),
        (
            lambda folder: (folder / OGBG).rename(folder / "ogbg_molpcba/incomplete.A1_0.1.3"),
            "0.1.3 is missing; incomplete.A1_0.1.3 beside it is of a set-up that did not finish",
        ),
    ],
)
def test_damaged_records(damage: Callable[[Path], object], sentence: str, tmp_path: Path) -> None:
    directory = grown("ogbg", tmp_path)
    damage(directory)
    assert sentence in one("ogbg", tmp_path)


def test_records_of_another_version_have_other_counts(tmp_path: Path) -> None:
    directory = grown("ogbg", tmp_path)

    def fewer(info: dict) -> None:
        info["splits"][2]["shardLengths"] = ["1", "2"]

    rewrite(directory / OGBG / "dataset_info.json", fewer)
    assert "counts 3 examples in test; should be 43,793" in one("ogbg", tmp_path)


def test_a_vocabulary_must_be_there_and_not_be_empty(tmp_path: Path) -> None:
    vocabulary = grown("wmt", tmp_path) / "wmt_sentencepiece_model"
    shorten(vocabulary, 0)
    assert one("wmt", tmp_path) == f"{vocabulary} is empty"
    vocabulary.unlink()
    assert one("wmt", tmp_path) == f"{vocabulary} is missing"


def test_damaged_volumes(tmp_path: Path) -> None:
    directory = grown("fastmri", tmp_path)
    folder = directory / "knee_singlecoil_train"
    (folder / "file0000000.h5").unlink()
    shorten(folder / "file0000001.h5", 999)
    shorten(folder / "file0000002.h5", 0)
    sparse(folder / "file0000003.h5", 1_003)
    shorten(folder / "file0000005.h5", 5)
    volume(directory / "knee_singlecoil_val/more.h5", 100)
    assert missing("fastmri", tmp_path) == [
        f"{folder} has 972 files *.h5; should be 973",
        f"{folder}/file0000001.h5 has 999 bytes and should have 1,001: it is truncated",
        f"{folder}/file0000002.h5 is empty",
        f"{folder}/file0000003.h5 is no HDF5 file",
        f"{folder}/file0000005.h5 is no HDF5 file",
        f"{directory}/knee_singlecoil_val has 200 files *.h5; should be 199",
    ]
    (directory / "knee_singlecoil_val").rename(directory / "singlecoil_val")
    assert f"{directory}/knee_singlecoil_val is missing" in missing("fastmri", tmp_path)


def test_damaged_click_logs(tmp_path: Path) -> None:
    directory = grown("criteo1tb", tmp_path)
    size = (directory / "day_0_00").stat().st_size
    (directory / "day_0.csv").touch()
    (directory / "day_1_00").unlink()
    (directory / "day_1_39").unlink()
    shorten(directory / "day_2_00", 0)
    shorten(directory / "day_3_05", size - 1)
    shorten(directory / "day_3_36", size - 1)
    (directory / "day_23_36").touch()
    assert missing("criteo1tb", tmp_path) == [
        f"{directory} has 38 of the 40 files of day 1; missing: day_1_00 and 1 more",
        f"{directory}/day_2_00 is empty",
        f"{directory}/day_3_05 ends in the middle of a row: it is truncated",
        f"{directory} has more than the 36 files of day 23: day_23_36",
    ]


def test_click_logs_that_are_too_small_in_all(tmp_path: Path) -> None:
    directory = grown("criteo1tb", tmp_path)
    for day in range(23):
        sparse(directory / f"day_{day}_00", 1, b"\n")
    expected = f"{directory}: the files hold 997.4 GiB and should hold more than 1,024 GiB"
    assert one("criteo1tb", tmp_path) == expected


def test_damaged_images(tmp_path: Path) -> None:
    directory = grown("imagenet_resnet", tmp_path)
    train, val = directory / "train", directory / "val"
    (train / "n00000001.tar").touch()
    (train / "n00000002/n00000002_2.JPEG").unlink()
    (train / "n00000002/n00000002_5.JPEG").unlink()
    shorten(train / "n00000000/n00000000_0.JPEG", 0)
    sentences = [
        f"{train} has class folders without an image: {train}/n00000002",
        f"{train} has 5 images in class folders; should be 7",
    ]
    assert missing("imagenet_resnet", tmp_path) == sentences
    empty = f"{train} has 1 empty files: {train}/n00000000/n00000000_0.JPEG"
    assert missing("imagenet_resnet", tmp_path, sizes=True) == [*sentences, empty]
    for name in ("n00000000", "n00000001", "n00000002"):
        for path in (val / name).iterdir():
            path.rename(val / path.name)
        (val / name).rmdir()
    assert missing("imagenet_resnet", tmp_path)[2:] == [
        f"{val} has 7 images outside class folders: the set-up did not get as far as sorting them",
        f"{val} has 0 class folders; should be 3",
        f"{val} has 0 images in class folders; should be 7",
    ]


def test_images_that_are_too_small_in_all(tmp_path: Path) -> None:
    directory = grown("imagenet_vit", tmp_path)
    for path in (directory / "val").glob("*/*"):
        shorten(path, 10)
    assert missing("imagenet_vit", tmp_path) == []
    expected = f"{directory}/val: the files hold 0.0 GiB and should hold more than 0.1 GiB"
    assert one("imagenet_vit", tmp_path, sizes=True) == expected


def test_imagenet_v2_is_part_of_it(tmp_path: Path) -> None:
    directory = grown("imagenet_vit", tmp_path)
    (directory / "imagenet_v2").rename(tmp_path / "imagenet/imagenet_v2")
    expected = f"{directory}/imagenet_v2/matched-frequency/3.0.0 is missing"
    assert one("imagenet_vit", tmp_path) == expected


def test_damaged_utterances(tmp_path: Path) -> None:
    directory = grown("librispeech_conformer", tmp_path)
    (directory / "dev-clean/0-0000_targets.npy").unlink()
    (directory / "dev-clean/0-0002_audio.npy").unlink()
    (directory / "test-clean.csv").unlink()
    (directory / "train-other-500.csv").write_text("nothing\n1\n")
    (directory / "train-clean-100").rename(directory / "train-clean")
    assert missing("librispeech_conformer", tmp_path) == [
        f"{directory}/train-clean-100 is missing",
        f"{directory}/train-other-500.csv is no list of utterances",
        (
            f"{directory}/dev-clean has 2 of the 4 files that dev-clean.csv needs; missing: "
            "0-0000_targets.npy and 1 more"
        ),
        f"{directory}/test-clean.csv is missing",
    ]


def test_lists_of_utterances_that_are_cut_short(tmp_path: Path) -> None:
    directory = grown("librispeech_conformer", tmp_path)
    table = directory / "test-clean.csv"
    rows = table.read_text().splitlines(keepends=True)
    table.write_text("".join(rows[:-2]))
    assert missing("librispeech_conformer", tmp_path) == []
    table.write_text("".join(rows[:-3]))
    assert one("librispeech_conformer", tmp_path) == (
        f"{directory}: test-clean.csv list 3 utterances; should be 6, give or take 2"
    )


def test_empty_utterances(tmp_path: Path) -> None:
    directory = grown("librispeech_deepspeech", tmp_path)
    shorten(directory / "dev-other/1-0001_audio.npy", 0)
    assert missing("librispeech_deepspeech", tmp_path) == []
    expected = f"{directory} has 1 empty files: {directory}/dev-other/1-0001_audio.npy"
    assert one("librispeech_deepspeech", tmp_path, sizes=True) == expected
    for path in directory.glob("*/*_audio.npy"):
        shorten(path, 1)
    expected = f"{directory}: the files hold 0.0 GiB and should hold more than 0.1 GiB"
    assert one("librispeech_deepspeech", tmp_path, sizes=True) == expected


def test_pickled_batches_that_are_too_short(tmp_path: Path) -> None:
    directory = grown("cifar", tmp_path) / "cifar-10-batches-py"
    shorten(directory / "data_batch_3", 30_719_999)
    assert one("cifar", tmp_path) == (
        f"{directory}/data_batch_3 has 30,719,999 bytes and should have 30,720,000: it is truncated"
    )


def test_a_folder_that_may_not_be_read_is_named(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    folder = grown("imagenet_vit", tmp_path) / "val"
    scan = os.scandir

    def refused(path: Path) -> object:
        if path == folder:
            raise PermissionError(errno.EACCES, "Permission denied", str(path))
        return scan(path)

    monkeypatch.setattr(os, "scandir", refused)
    assert one("imagenet_vit", tmp_path) == f"{folder} cannot be read: Permission denied"
