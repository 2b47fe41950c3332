import dataclasses
import os
from pathlib import Path

import pandas as pd
import pytest

from analysis import log_cache, logs
from analysis.logs import read_logs
from analysis.trial_files import EVALUATIONS_FILE
from tests.analysis.made_up import FACTS, write_status, write_trial
from workloads import registry


@pytest.fixture
def cached(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Path, Path]:
    """A folder of logs with a problem, and one for what was read, where files are never young."""
    monkeypatch.setattr(log_cache, "YOUNG_SECONDS", 0)
    for trial in (1, 2):
        write_trial(tmp_path / "logs", "adamw", "mnist_vit", 0, trial, [0.5, 0.6])
    write_trial(tmp_path / "logs", "adamw", "mnist_vit", 0, 3, [0.5])
    return tmp_path / "logs", tmp_path / "cache"


def _reads(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """A list that grows by one whenever files are parsed."""
    calls: list[Path] = []
    real = logs._read

    def counted(path: Path, *rest: object) -> object:
        calls.append(path)
        return real(path, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(logs, "_read", counted)
    return calls


def test_a_second_read_is_from_the_cache(
    cached: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    directory, cache = cached
    calls = _reads(monkeypatch)
    first, second = (read_logs(directory, cache=cache) for _ in range(2))
    assert len(calls) == 1
    pd.testing.assert_frame_equal(first.frame, second.frame)
    assert first.problems == second.problems and len(first.problems) == 1


@pytest.mark.parametrize("change", ["content", "new", "gone", "hyperparameters", "status", "stray"])
def test_what_has_changed_is_read_anew(
    cached: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch, change: str
) -> None:
    directory, cache = cached
    before = read_logs(directory, cache=cache)
    trial = directory / "adamw" / "study_0" / "mnist_vit_pytorch" / "trial_1"
    evaluations = trial / EVALUATIONS_FILE
    if change == "content":
        # As long as before, and with the old modification time.
        times = evaluations.stat()
        evaluations.write_text(evaluations.read_text().replace("0.6", "0.7"))
        assert evaluations.stat().st_size == times.st_size
        os.utime(evaluations, ns=(times.st_atime_ns, times.st_mtime_ns))
    elif change == "new":
        write_trial(directory, "adamw", "mnist_vit", 1, 1, [0.95])
    elif change == "gone":
        evaluations.unlink()
    elif change == "hyperparameters":
        (trial / "hparams.json").write_text("{}")
    elif change == "status":
        write_status(trial, "steps", 40, 2.0)
    else:
        (directory / "notes").mkdir()
    after = read_logs(directory, cache=cache)
    fresh = read_logs(directory)
    pd.testing.assert_frame_equal(after.frame, fresh.frame)
    assert after.problems == fresh.problems
    assert not (after.frame.equals(before.frame) and after.problems == before.problems)
    # Older states are not kept.
    assert len(list(cache.iterdir())) == 1


def test_targets_and_versions_are_part_of_the_state(
    cached: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    directory, cache = cached
    calls = _reads(monkeypatch)
    for version in (None, "v0.5", "v0.6"):
        read_logs(directory, version, cache=cache)
    assert len(calls) == 3
    facts = {name: dataclasses.replace(row, validation_target=0.1) for name, row in FACTS.items()}
    monkeypatch.setattr(registry, "_ALL", facts)
    assert read_logs(directory, cache=cache).problems == []


def test_a_damaged_or_unwritable_cache_is_done_without(
    cached: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    directory, cache = cached
    expected = read_logs(directory, cache=cache)
    (path,) = cache.iterdir()
    path.write_bytes(path.read_bytes()[:-20])
    assert read_logs(directory, cache=cache).problems == expected.problems
    assert path.read_bytes()[-4:] == b"PAR1"
    (cache.parent / "file").touch()
    blocked = read_logs(directory, cache=cache.parent / "file")
    pd.testing.assert_frame_equal(blocked.frame, expected.frame)
    assert "cannot write to" in str(blocked.problems[0])


def test_a_file_that_was_just_written_is_not_kept(tmp_path: Path) -> None:
    # It might change once more within the same tick of the file system's clock.
    write_trial(tmp_path / "logs", "adamw", "mnist_vit", 0, 1, [0.5, 0.6])
    read_logs(tmp_path / "logs", cache=tmp_path / "cache")
    assert not (tmp_path / "cache").exists()
