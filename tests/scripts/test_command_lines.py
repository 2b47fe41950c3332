"""What all command lines share: help, and warnings and errors about the targets."""

import json

import pytest

from tests.scripts.commands import finish, finish_fake, must_refuse

PLAN = {"workloads", "entries", "output"}
MACHINE = {"jobs", "nproc", "threads", "seed", "checkpoint_period_seconds", "dry_run"}


@pytest.mark.parametrize(
    ("name", "flags"),
    [
        ("study", PLAN | MACHINE | {"studies", "first_study", "trials", "best_from"}),
        ("tune", PLAN | MACHINE | {"mode", "ranges", "trials", "seeds", "search", "points"}),
    ],
)
def test_help_lists_all_flags(name, flags):
    done = finish("-m", f"scripts.{name}", "--help")
    assert done.returncode == 0
    assert done.stderr == ""
    words = done.stdout.replace("[no]", "").replace(":", " ").split()
    assert {f"--{flag}" for flag in flags} <= set(words)


STDLIB_LM = {"validation_target": 7.0, "test_target": 7.0}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('{"mnist_vit"', "not valid JSON"),
        ("[]", "not an object of workloads"),
        ('{"mnist_vit": 3}', "mnist_vit is not an object"),
        ('{"mnist_vit": {"test_target": "0.9"}}', "test_target of mnist_vit is not a number"),
    ],
)
def test_damaged_targets_end_in_one_line(tmp_path, content, message):
    targets = tmp_path / "targets.json"
    targets.write_text(content)
    flags = ["study", "--entries=fake_sgd", f"--output={tmp_path / 'out'}", "--dry_run"]
    line = must_refuse(finish_fake(*flags, FAKE_TARGETS=str(targets)))
    assert line.startswith(f"error: {targets}") and message in line


def test_targets_of_another_python_are_warned_of_once(tmp_path):
    targets = tmp_path / "targets.json"
    targets.write_text(json.dumps({"stdlib_lm": STDLIB_LM | {"python_version": "3.10.1"}}))
    plan = ["study", "--entries=fake_sgd,fake_adam", f"--output={tmp_path}", "--dry_run"]
    one = ["run", "--workload=stdlib_lm", "--entry=fake_sgd", "--output=/dev/null/runs"]
    for flags, code in ((plan, 0), (one, 2)):
        done = finish_fake(*flags, FAKE_TARGETS=str(targets))
        assert done.returncode == code, done.stderr
        warning, *rest = done.stderr.splitlines()
        assert warning.startswith("warning: stdlib_lm") and "Python 3.10.1" in warning
        assert not any("warning" in line for line in rest)
