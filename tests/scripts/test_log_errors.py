"""What is told of a failed process, from what logs of all kinds hold."""

from pathlib import Path

import pytest

from scripts.local.log_errors import last_error


@pytest.mark.parametrize(
    ("text", "code", "expected"),
    [
        ("Traceback\n  x\nKeyError: 'a'\n\nFAILED (errors=1)\n", 1, "KeyError: 'a'"),
        ("torch.OutOfMemoryError: no\nbye\n", 1, "torch.OutOfMemoryError: no"),
        ("[rank0]: RuntimeError: lost\n[rank0]: bye\n", 1, "RuntimeError: lost"),
        (
            "RuntimeError: lost\ntorch.distributed.elastic.ChildFailedError:\n",
            1,
            "RuntimeError: lost",
        ),
        ("ValueError: caught\nerror: --seed=x: no number\n", 2, "error: --seed=x: no number"),
        ("starting\n  bye  \n\n", 3, "bye"),
        ("", 3, "exit code 3"),
        ("ValueError: x", -9, "killed by SIGKILL"),
    ],
)
def test_the_reason_of_a_failure(tmp_path: Path, text: str, code: int, expected: str) -> None:
    (tmp_path / "log").write_text(text)
    assert last_error(tmp_path / "log", code) == expected


def test_what_an_earlier_process_said_does_not_count(tmp_path: Path) -> None:
    (tmp_path / "log").write_text("ValueError: before\nbye\n")
    assert last_error(tmp_path / "log", 1, len("ValueError: before\n")) == "bye"
    assert last_error(tmp_path / "log", 4, 23) == "exit code 4"
