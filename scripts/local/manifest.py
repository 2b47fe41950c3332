"""manifest.json: which commit, versions, machine and commands made the results beside it."""

import datetime
import shlex
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from common import files
from common.cli import UserError
from scripts.local import environment

NAME = "manifest.json"


@contextmanager
def recorded(output: Path, **settings: Any) -> Iterator[dict[str, Any]]:
    """Appends this invocation to the manifest of `output`, and how it ended when the block ends.

    Yields the invocation's record; what the block adds to it is written at the end. An invocation
    that was killed has no `finished`. UserError if the manifest is damaged.
    """
    path = output / NAME
    manifest = files.read_json(path) if path.exists() else {"invocations": []}
    if not isinstance(manifest, dict) or not isinstance(manifest.get("invocations"), list):
        raise UserError(f"{path} is damaged: it has no list of invocations")
    record = {
        "command": shlex.join(sys.orig_argv),
        **settings,
        **environment.describe(),
        "started": _utc_now(),
        "finished": None,
        "outcome": "running",
    }
    manifest["invocations"].append(record)
    files.write_json(path, manifest)
    try:
        yield record
        if record["outcome"] == "running":
            record["outcome"] = "complete"
    except BaseException:
        record["outcome"] = "interrupted"
        raise
    finally:
        record["finished"] = _utc_now()
        files.write_json(path, manifest)


def _utc_now() -> str:
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
