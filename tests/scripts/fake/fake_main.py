"""Runs a command line of `scripts` with the fake workload and entries: fake_main.py run --..."""

import importlib
import os
import sys
from pathlib import Path

HERE = Path(__file__).parent


def register() -> None:
    """Makes the fake workload and entries known to this process, and another targets.json."""
    sys.path[:0] = [str(HERE), str(HERE.parents[2])]
    import fake_facts

    import submission.entries
    from scripts.local import entries
    from workloads import registry
    from workloads.standin import facts

    if path := os.environ.get("FAKE_TARGETS"):
        facts.TARGETS_FILE = Path(path)
    registry._ALL["fake"] = fake_facts.FACTS
    registry._CLASSES["fake"] = "fake_workload:FakeWorkload"
    submission.entries.__path__.append(str(HERE / "entries"))
    entries.STANDIN_POINTS = HERE / "points"


if __name__ == "__main__":
    register()
    from common import cli
    from scripts.local import studies

    # Trials that a study starts shall know the fakes too.
    studies.RUN = (sys.executable, str(Path(__file__)), "run")
    module = importlib.import_module(f"scripts.{sys.argv.pop(1)}")
    module.define_flags()
    cli.run(module.main)
