"""What to do where the project's requirements are not installed, said in one line."""

import sys
from types import TracebackType

_PROJECT = frozenset({"analysis", "common", "scripts", "submission", "tests", "workloads"})


def explain_missing() -> None:
    """Has a command say what to do about a missing module, instead of a traceback.

    For the packages of commands to call when they are imported, which is before a command's own
    imports. Does nothing where a package is imported by other code than `python -m`.
    """
    if sys.argv[:1] != ["-m"]:  # what Python sets while it looks for the module to run
        return
    show = sys.excepthook

    def explain(
        kind: type[BaseException], error: BaseException, trace: TracebackType | None
    ) -> None:
        missing = error.name if isinstance(error, ModuleNotFoundError) else None
        if missing is None or missing.partition(".")[0] in _PROJECT:
            show(kind, error, trace)
            return
        print(
            f"error: {sys.executable} has no module {missing}; the project's environment has: "
            "make setup, then . .venv/bin/activate",
            file=sys.stderr,
        )

    sys.excepthook = explain
