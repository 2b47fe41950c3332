"""Commands in processes of their own: limits, memory, ends of whole families; a folder's lock."""

import os
import signal
import subprocess
import sys
import types
from contextlib import suppress

import psutil
import pytest

from common.cli import UserError
from scripts.local import supervisor
from scripts.local.environment import ROOT
from scripts.local.lock import locked
from scripts.local.supervisor import Child, Limits
from tests.scripts.commands import wait_until

MIB = 2**20
# Half of the memory is a child's, as data loaders have it.
EATS = f"""
import subprocess, sys
held = b"x" * (150 * {MIB})
subprocess.run([sys.executable, "-c", "held = b'x' * (150 * {MIB}); import time; time.sleep(1)"])
"""
# A rank in a session of its own, as torchrun's are, that does not end when it is asked to.
STUBBORN = """
import signal, subprocess, sys, time
rank = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); " \\
    "print('deaf', flush=True); time.sleep(100)"
if sys.argv[1] == "waits":
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
process = subprocess.Popen([sys.executable, "-c", rank], start_new_session=True)
if sys.argv[1] == "ends":
    time.sleep(2)
else:
    process.wait()
"""


def is_alive(process):
    with suppress(psutil.NoSuchProcess):
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    return False


def test_output_goes_to_the_logs_end_and_the_last_error_is_told(tmp_path):
    log = tmp_path / "new" / "log.txt"
    first = supervisor.run([sys.executable, "-c", "print('before')"], log)
    assert (first.returncode, first.problem, first.limited) == (0, "", False)
    failed = supervisor.run([sys.executable, "-c", "raise ValueError('no')"], log)
    assert (failed.returncode, failed.problem) == (1, "ValueError: no")
    assert log.read_text().startswith("before\n")
    killed = supervisor.run(
        [sys.executable, "-c", "import os; os.abort()"], log, folder=tmp_path, environment={}
    )
    assert (killed.returncode, killed.problem) == (-6, "killed by SIGABRT")


def test_memory_is_that_of_all_processes_together(tmp_path):
    done = supervisor.run([sys.executable, "-c", EATS], tmp_path / "log.txt")
    assert done.problem == ""
    assert 300 * MIB < done.peak < 420 * MIB


@pytest.mark.parametrize(
    ("limits", "problem"),
    [(Limits(memory=250 * MIB), "ended at 0."), (Limits(seconds=0.3), "ended after 0.3 s")],
)
def test_a_process_is_ended_at_its_limit_with_its_children(tmp_path, limits, problem):
    before = set(psutil.Process().children(recursive=True))  # earlier tests' fork servers
    done = supervisor.run([sys.executable, "-c", EATS], tmp_path / "log.txt", limits=limits)
    assert done.limited and done.problem.startswith(problem)
    assert not [p for p in psutil.Process().children(recursive=True) if p not in before]


@pytest.mark.parametrize("command", ["waits", "obeys", "ends"])
def test_ranks_in_sessions_of_their_own_are_ended(tmp_path, command):
    log, before = tmp_path / "log.txt", set(psutil.Process().children(recursive=True))
    family = set()

    def look():
        family.update(set(psutil.Process().children(recursive=True)) - before)
        if command != "ends" and "deaf" in log.read_text():
            raise SystemExit

    with suppress(SystemExit):
        arguments = [sys.executable, "-c", STUBBORN, command]
        supervisor.run(arguments, log, poll_seconds=0.05, look=look, grace_seconds=0.5)
    assert "deaf" in log.read_text()
    assert len(family) == 2
    assert not [process for process in family if is_alive(process)]


def test_a_process_may_end_in_order_when_asked(tmp_path):
    log = tmp_path / "log.txt"
    code = (
        "import signal, time\n"
        "signal.signal(signal.SIGTERM, lambda *_: exit('saved'))\n"
        "print('ready', flush=True); time.sleep(100)"
    )
    child = Child([sys.executable, "-c", code], log)
    while "ready" not in log.read_text():
        assert child.wait(0.02) is None
    child.end(grace_seconds=60)
    assert "saved" in log.read_text()
    assert child.poll() == 1


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_a_command_ends_with_a_killed_parent(tmp_path, number):
    code = (
        "import signal, sys\nfrom pathlib import Path\nfrom scripts.local import supervisor\n"
        f"death = signal.Signals({int(number)})\n"
        "command = [sys.executable, '-c', 'import time; print(1, flush=True); time.sleep(100)']\n"
        "supervisor.run(command, Path(sys.argv[1]), parent_death=death)"
    )
    log = tmp_path / "log.txt"
    parent = subprocess.Popen([sys.executable, "-c", code, log], cwd=ROOT)
    wait_until(lambda: log.exists() and log.read_text())
    (child,) = psutil.Process(parent.pid).children()
    parent.kill()
    parent.wait()
    psutil.wait_procs([child], 30)
    assert not is_alive(child)


def test_sigterm_ends_a_block_and_leaves_other_handlers_alone():
    with pytest.raises(SystemExit) as ended, supervisor.exit_on_sigterm():
        signal.raise_signal(signal.SIGTERM)
    assert ended.value.code == 128 + signal.SIGTERM
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL


def test_a_folder_is_locked_once(tmp_path):
    with (
        locked(tmp_path, "this trial"),
        pytest.raises(UserError, match="another process is running this trial"),
        locked(tmp_path, "this trial"),
    ):
        pass
    with locked(tmp_path, "this trial"):
        pass


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
def test_the_reason_of_a_failure(tmp_path, text, code, expected):
    (tmp_path / "log").write_text(text)
    assert supervisor.last_error(tmp_path / "log", code) == expected


def test_what_an_earlier_process_said_does_not_count(tmp_path, monkeypatch):
    (tmp_path / "log").write_text("ValueError: before\nbye\n")
    assert supervisor.last_error(tmp_path / "log", 1, len("ValueError: before\n")) == "bye"
    assert supervisor.last_error(tmp_path / "log", 4, 23) == "exit code 4"
    full = types.SimpleNamespace(f_bavail=0, f_files=9, f_favail=9)
    monkeypatch.setattr(os, "statvfs", lambda folder: full)
    silent = supervisor.last_error(tmp_path / "log", 4, 23)
    assert silent == "exit code 4, the disk of its log is full"
    (tmp_path / "log").unlink()
    assert "cannot be read: No such file" in supervisor.last_error(tmp_path / "log", 4)
