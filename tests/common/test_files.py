"""Files that cannot be written or read."""

import errno
import os
import resource
from pathlib import Path

import pytest
import torch

from common import files, progress
from common.cli import UserError
from scripts.local import checkpoint
from scripts.local.lock import locked
from scripts.local.metrics_log import read_csv


def raising(code):
    def call(*_, **__):
        raise OSError(code, os.strerror(code))

    return call


@pytest.mark.parametrize("call", ["fsync", "fdopen", "open"])
@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT, errno.EMFILE])
def test_a_file_that_cannot_be_written_stays_as_it_was(tmp_path, monkeypatch, code, call):
    path = tmp_path / "a.json"
    files.write_json(path, 1)
    with monkeypatch.context() as patch:
        patch.setattr(os, call, raising(code))
        with pytest.raises(UserError, match=f"cannot write {path}: {os.strerror(code)}"):
            files.write_json(path, 2)
    assert files.read_json(path) == 1
    assert [file.name for file in tmp_path.iterdir()] == ["a.json"]


def test_a_checkpoint_that_is_too_large_leaves_the_last_one(tmp_path):
    path = tmp_path / "checkpoint.pt"
    checkpoint.save(path, {"weights": torch.ones(2)})
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, hard))
    try:
        with pytest.raises(UserError, match=f"cannot write {path}: File too large"):
            checkpoint.save(path, {"weights": torch.ones(100_000)})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert checkpoint.load(path)["weights"].tolist() == [1, 1]


def test_a_pipe_is_not_waited_for(tmp_path):
    pipe = tmp_path / "a.json"
    os.mkfifo(pipe)
    for read in (files.read_json, lambda path: read_csv(path, [])):
        with pytest.raises(UserError, match=f"{pipe} cannot be read: it is a pipe"):
            read(pipe)
    os.mkfifo(tmp_path / ".lock")
    with pytest.raises(UserError, match="cannot lock"), locked(tmp_path, "a study"):
        pass


def test_a_shells_own_pipe_is_read(tmp_path):
    reading, writing = os.pipe()
    os.write(writing, b"[1]")
    os.close(writing)
    assert files.read_json(Path(f"/dev/fd/{reading}")) == [1]
    os.close(reading)


def test_bytes_of_names_are_written_as_text(tmp_path):
    files.write_text(tmp_path / "a.md", os.fsdecode(b"runs/\xff"))
    assert (tmp_path / "a.md").read_text() == "runs/\\udcff"


def test_progress_prints_no_line_twice(capsys):
    for total in (1, 2):
        with progress.bar(total, "trials", "trial") as bar:
            for _ in range(total):
                bar.update(1)
        lines = capsys.readouterr().err.splitlines()
        assert [line.split(",")[0] for line in lines] == [
            f"trials: {count}/{total} trial" for count in range(1, total + 1)
        ]
