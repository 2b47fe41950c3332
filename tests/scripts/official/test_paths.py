"""Where data lie, what the runner is told of it, and which files are missed."""

import dataclasses
from pathlib import Path

import pytest

from common.cli import UserError
from scripts.official.paths import data_directory, missing, problems, runner_flags, tree_of
from tests.scripts.official.trees import grow, name, resize
from workloads import registry
from workloads.official.datasets import FRAMEWORKS, Tree

WORKLOADS = registry.names("official")
BASES = [name for name in WORKLOADS if not registry.official(name).base]


def small(workload, framework="pytorch"):
    """The files of a workload, of many but a few."""
    tree = tree_of(workload, framework)
    few = {
        pattern: count if isinstance(count, int) and count < 1_500 else [5, 7]
        for pattern, count in tree.files.items()
    }
    return dataclasses.replace(tree, files=few)


@pytest.mark.parametrize("framework", FRAMEWORKS)
@pytest.mark.parametrize("workload", BASES)
def test_a_complete_tree_lacks_nothing_and_an_absent_one_all(workload, framework, tmp_path):
    directory = data_directory(workload, tmp_path, framework)
    (sentence,) = missing(workload, tmp_path, framework)
    assert sentence.startswith(f"{directory} is missing")
    tree = small(workload, framework)
    assert grow(tmp_path, tree) == directory
    assert problems(tree, directory, sizes=True) == []
    assert f"--data_dir={directory}" in runner_flags(workload, tmp_path, framework)


@pytest.mark.parametrize("workload", BASES)
def test_each_pattern_is_missed(workload, tmp_path):
    tree = small(workload)
    directory = grow(tmp_path, tree)
    for pattern, count in tree.files.items():
        file = directory / name(pattern, 0)
        file.rename(tmp_path / "away")
        (sentence,) = problems(tree, directory, sizes=True)
        left = (count if isinstance(count, int) else count[0]) - 1
        assert sentence.startswith(f"{directory / pattern}: {left} files; should be ")
        (tmp_path / "away").rename(file)


def test_more_files_than_there_should_be_are_told(tmp_path):
    tree = tree_of("criteo1tb")
    directory = grow(tmp_path, tree)
    resize(directory / "day_23_99", 1)
    assert problems(tree, directory) == [f"{directory}/day_*_*: 886 files; should be 885"]


def test_empty_files_and_a_total_that_is_too_small_are_told(tmp_path):
    tree = Tree("set", {"list": 1, "*/*.npy": [5, 7]}, least_gib=0.25)
    directory = grow(tmp_path, tree)
    first = directory / name("*/*.npy", 0)
    resize(first, 10_000_000)
    (sentence,) = problems(tree, directory)
    assert sentence.startswith(f"{directory}: 0.2176 GiB") and "0.25 GiB" in sentence
    resize(first, 0)
    (sentence,) = problems(tree, directory)
    assert "1 empty files" in sentence and str(first) in sentence


def test_sizes_of_many_files_are_looked_up_where_asked(tmp_path):
    tree = Tree("set", {"*.npy": 2_001})
    directory = grow(tmp_path, tree)
    resize(directory / name("*.npy", 9), 0)
    assert problems(tree, directory) == []
    assert len(problems(tree, directory, sizes=True)) == 1


def test_a_file_that_cannot_be_read_is_named(tmp_path):
    directory = grow(tmp_path, tree_of("wmt"))
    link = directory / name("wmt17_translate/de-en/1.0.0/*.tfrecord-*", 0)
    link.unlink()
    link.symlink_to("nowhere")
    assert missing("wmt", tmp_path)[0].startswith(f"{link} cannot be read: No such file")


def test_imagenet_has_two_forms_and_a_test_set(tmp_path):
    grow(tmp_path, small("imagenet_vit", "jax"))
    assert missing("imagenet_vit", tmp_path, "jax") == []
    assert "imagenet/pytorch is missing" in missing("imagenet_vit", tmp_path)[0]
    for framework in FRAMEWORKS:
        assert any("imagenet_v2" in pattern for pattern in tree_of("imagenet_vit", framework).files)


def test_validation_images_in_one_heap_are_missed(tmp_path):
    tree = small("imagenet_resnet")
    directory = grow(tmp_path, tree)
    for path in directory.glob("val/*/*"):
        path.rename(directory / "val" / path.name)
    (sentence,) = problems(tree, directory)
    assert sentence.startswith(f"{directory}/val/*/*.JPEG: 0 files")


def test_unpacked_days_of_criteo_are_not_counted(tmp_path):
    directory = grow(tmp_path, tree_of("criteo1tb"))
    resize(directory / "day_0.csv", 1)
    assert missing("criteo1tb", tmp_path) == []


def test_variants_have_the_data_of_their_base(tmp_path):
    for workload in WORKLOADS:
        base = registry.official(workload).base_name
        assert runner_flags(workload, tmp_path) == runner_flags(base, tmp_path)


def test_flags_of_imagenet_and_librispeech(tmp_path):
    imagenet = f"{tmp_path}/imagenet/jax"
    assert runner_flags("imagenet_resnet", tmp_path, "jax") == [
        f"--data_dir={imagenet}",
        f"--imagenet_v2_data_dir={imagenet}",
    ]
    assert runner_flags("librispeech_deepspeech_tanh", tmp_path) == [
        f"--data_dir={tmp_path}/librispeech",
        f"--librispeech_tokenizer_vocab_path={tmp_path}/librispeech/spm_model.vocab",
    ]


def test_paths_are_absolute(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    expected = [f"--data_dir={tmp_path}/data/ogbg"]
    assert runner_flags("ogbg", Path("~/data")) == runner_flags("ogbg", Path("data")) == expected


def test_mnist_may_lie_in_the_root_itself(tmp_path):
    directory = grow(tmp_path, tree_of("mnist"))
    (directory / "mnist").rename(tmp_path / "mnist")
    assert len(missing("mnist", tmp_path)) == 3
    directory.rmdir()
    assert missing("mnist", tmp_path) == []
    assert runner_flags("mnist", tmp_path) == [f"--data_dir={tmp_path}"]


@pytest.mark.parametrize(
    ("workload", "facts"),
    [
        ("imagenet", "unknown workload 'imagenet'"),
        ("mnist_vit", "mnist_vit is no official workload"),
    ],
)
def test_what_has_no_data_is_refused(workload, facts):
    for ask in (runner_flags, missing):
        with pytest.raises(UserError, match=facts):
            ask(workload, Path("/data"))
