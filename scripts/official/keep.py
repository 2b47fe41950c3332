"""Housekeeping of a trial while the official runner trains it: checkpoints, tables, progress."""

import shutil
import sys
from pathlib import Path
from typing import Any

from common.cli import UserError
from scripts.local.metrics_log import EVALUATIONS, MEASUREMENTS
from scripts.official.logs import BACKUP, checkpoints, is_whole, read_rows, remove
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
        self._copied: dict[str, int] = {}
        self._reported: set[int | None] = set()

    def look(self) -> None:
        """Prunes checkpoints, copies tables that are whole, and shows the last evaluation.

        What the file system does not allow is reported once for each cause, and tried again next
        time: a trial of many hours must not end for it.
        """
        for act in (
            lambda: prune(self._directory),
            lambda: self._back_up(EVALUATIONS),
            lambda: self._back_up(MEASUREMENTS),
        ):
            try:
                act()
            except OSError as error:
                if error.errno not in self._reported:
                    self._reported.add(error.errno)
                    print(
                        f"warning: {self._directory}: {error}; the trial goes on", file=sys.stderr
                    )

    def _back_up(self, name: str) -> None:
        """Copies a table that has changed, if the copy is whole."""
        path, backups = self._directory / name, self._directory / BACKUP
        try:
            changed = path.stat().st_mtime_ns
            if self._copied.get(name) == changed:
                return
            rows = read_rows(path)
        except (FileNotFoundError, UserError):  # it is not there yet, or being written just now
            return
        if name == EVALUATIONS and rows:
            self._show(rows[-1])
        backups.mkdir(exist_ok=True)
        copy = backups / f".{name}"
        shutil.copy2(path, copy)
        try:
            is_whole = len(read_rows(copy)) >= len(rows)
        except UserError:
            is_whole = False
        if is_whole:
            copy.replace(backups / name)
            self._copied[name] = changed
        else:
            copy.unlink()

    def _show(self, row: dict[str, str]) -> None:
        value, seconds = row.get(self._metric) or "nan", float(row.get("score") or 0)
        self._bar.set_postfix_str(
            f"step {float(row['global_step']):.0f}, {self._metric} {float(value):.4g}"
        )
        self._bar.update(max(0, int(seconds) - self._bar.n))


def prune(directory: Path) -> None:
    """Removes all but the newest checkpoints, once the last but one of these is whole."""
    paths = checkpoints(directory)
    if len(paths) > KEPT and is_whole(paths[-KEPT]):
        for path in paths[:-KEPT]:
            remove(path)
