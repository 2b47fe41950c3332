"""What is kept of a trial while the official runner trains it: checkpoints, tables, progress."""

import functools
import shutil
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from common.cli import UserError
from scripts.local.metrics_log import EVALUATIONS, MEASUREMENTS
from scripts.official.logs import BACKUP, checkpoints, read_rows
from scripts.official.trial import OfficialTrial

# The newest may be half written; the one before it is then the last that is whole.
KEPT = 2


class Keeper:
    """Looks after the folder of a trial whose runner is at work."""

    def __init__(self, trial: OfficialTrial, directory: Path, bar: Any) -> None:
        """Creates the keeper.

        Args:
          directory: the trial's folder.
          bar: of `common.progress`, over seconds of submission time.
        """
        self._metric = f"validation/{trial.facts.metric}"
        self._directory = directory
        self._bar = bar
        self._changed: dict[str, int] = {}
        self._told: set[int | None] = set()

    def look(self) -> None:
        """Prunes checkpoints, copies tables that are whole, and shows the last evaluation.

        What the file system does not allow is told once for each cause, and tried again next time:
        a trial of many hours must not end for it.
        """
        self._attempt(functools.partial(prune, self._directory))
        for name in (EVALUATIONS, MEASUREMENTS):
            self._attempt(functools.partial(self._take, name))

    def _attempt(self, act: Callable[[], None]) -> None:
        try:
            act()
        except OSError as error:
            if error.errno not in self._told:
                self._told.add(error.errno)
                print(f"warning: {self._directory}: {error}; the trial goes on", file=sys.stderr)

    def _take(self, name: str) -> None:
        path = self._directory / name
        try:
            changed = path.stat().st_mtime_ns
            if self._changed.get(name) == changed:
                return
            rows = read_rows(path)
        except (FileNotFoundError, UserError):  # it is not there yet, or being written just now
            return
        if name == EVALUATIONS and rows:
            self._show(rows[-1])
        if self._back_up(name, len(rows)):
            self._changed[name] = changed

    def _back_up(self, name: str, rows: int) -> bool:
        """Copies a table; whether the copy is whole."""
        folder = self._directory / BACKUP
        folder.mkdir(exist_ok=True)
        copy = folder / f".{name}"
        shutil.copy2(self._directory / name, copy)
        try:
            whole = len(read_rows(copy)) >= rows
        except UserError:
            whole = False
        if whole:
            copy.replace(folder / name)
        else:
            copy.unlink()
        return whole

    def _show(self, row: dict[str, str]) -> None:
        value, seconds = row.get(self._metric) or "nan", float(row.get("score") or 0)
        self._bar.set_postfix_str(
            f"step {float(row['global_step']):.0f}, {self._metric} {float(value):.4g}"
        )
        self._bar.update(max(0, int(seconds) - self._bar.n))


def prune(directory: Path) -> None:
    """Removes all but the newest checkpoints, once the last but one of these is whole."""
    found = checkpoints(directory)
    if len(found) > KEPT and zipfile.is_zipfile(found[-KEPT]):
        for old in found[:-KEPT]:
            old.unlink(missing_ok=True)
