"""The fake workload and entries, and the machine that pretends to run trials."""

import signal
import sys
from pathlib import Path

import pytest

import submission.entries
from scripts.local import entries
from scripts.local.studies import Machine
from workloads import registry

FAKE = Path(__file__).parent / "fake"
collect_ignore = ["fake"]


@pytest.fixture(autouse=True)
def interrupts_arrive():
    """A shell's background job ignores Ctrl-C and so would every process that a test starts."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.fixture
def fakes(monkeypatch):
    """Registers the workload `fake` and the entries `fake_sgd` and `fake_adam`."""
    monkeypatch.syspath_prepend(str(FAKE))
    import fake_facts

    monkeypatch.setitem(registry._ALL, "fake", fake_facts.FACTS)
    monkeypatch.setitem(registry._CLASSES, "fake", "fake_workload:FakeWorkload")
    monkeypatch.setattr(
        submission.entries, "__path__", [*submission.entries.__path__, str(FAKE / "entries")]
    )
    monkeypatch.setattr(entries, "STANDIN_POINTS", FAKE / "points")
    yield
    for name in [name for name in sys.modules if name.startswith("submission.entries.fake_")]:
        del sys.modules[name]


@pytest.fixture
def machine():
    """Two jobs whose trials only write plausible files."""
    return Machine(jobs=2, command=(sys.executable, str(FAKE / "fake_trial.py")))
