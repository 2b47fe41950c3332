"""Folders of logs as people have them."""

import shutil

import pytest

from analysis.logs import read_logs
from common.cli import UserError
from tests.analysis.made_up import write_trial

STAMP = "-2026-11-29-06-28-55"


def _trials(root):
    frame = read_logs(root).frame
    rows = frame.groupby(["submission", "study", "trial"])["validation_metric"].max()
    return [(*key, value) for key, value in rows.items()]


def test_stamped_folders_of_a_submission_are_one(tmp_path):
    write_trial(tmp_path, "mine", "mnist_vit", 0, 1, [0.5, 0.6])
    write_trial(tmp_path, f"mine{STAMP}", "mnist_vit", 0, 1, [0.5, 0.7])
    write_trial(tmp_path, f"mine{STAMP}", "mnist_vit", 1, 1, [0.5, 0.8])
    write_trial(tmp_path, f"other{STAMP}", "mnist_vit", 0, 1, [0.5, 0.9])
    assert _trials(tmp_path) == [
        ("mine", 0, 1, 0.6),
        ("mine", 0, 2, 0.7),
        ("mine", 1, 1, 0.8),
        ("other", 0, 1, 0.9),
    ]
    (problem,) = read_logs(tmp_path).problems
    assert "trial 1 is also in mine; counted as trial 2 of study 0" in problem.reason


def test_a_stamped_study_has_its_number(tmp_path):
    write_trial(tmp_path, "mine", "mnist_vit", 2, 1, [0.5, 0.6])
    (tmp_path / "mine" / "study_2").rename(tmp_path / "mine" / f"study_2{STAMP}")
    assert _trials(tmp_path) == [("mine", 2, 1, 0.6)]
    write_trial(tmp_path, "mine", "mnist_vit", 2, 1, [0.5, 0.7])
    (problem,) = read_logs(tmp_path).problems
    assert problem.reason.startswith("same trial as ")


def test_workloads_without_a_study_are_study_zero(tmp_path):
    folder = write_trial(tmp_path, "mine", "mnist_vit", 0, 1, [0.5, 0.6])
    shutil.move(folder.parent, tmp_path / "mine" / "mnist_vit_pytorch")
    (tmp_path / "mine" / "study_0").rmdir()
    assert _trials(tmp_path) == [("mine", 0, 1, 0.6)]
    (problem,) = read_logs(tmp_path).problems
    assert problem.path == tmp_path / "mine" and "taken as study 0" in problem.reason
    shutil.copytree(tmp_path / "mine", tmp_path / f"mine{STAMP}")
    assert _trials(tmp_path) == [("mine", 0, 1, 0.6), ("mine", 0, 2, 0.6)]


def test_logs_one_level_further_down_are_read_or_named(tmp_path):
    write_trial(tmp_path / "logs", "mine", "mnist_vit", 0, 1, [0.5, 0.6])
    (tmp_path / "notes").mkdir()
    assert _trials(tmp_path) == [("mine", 0, 1, 0.6)]
    (problem,) = read_logs(tmp_path).problems
    assert problem.reason == "holds no logs; those in logs read"
    write_trial(tmp_path / "more" / "deep", "mine", "mnist_vit", 0, 1, [0.5, 0.6])
    with pytest.raises(UserError, match=r"several folders of logs; give one: --logs=.*/logs, --lo"):
        read_logs(tmp_path)
    with pytest.raises(UserError, match=r"holds study_K folders, so it is one submission; give"):
        read_logs(tmp_path / "logs" / "mine")
