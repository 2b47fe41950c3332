"""Messages and their translations from the gettext catalogues that packages ship as text."""

import importlib.util
import os
import re
from pathlib import Path

from common.cli import UserError

_ENTRY = re.compile(r'^msgid ((?:".*"\n)+)msgstr ((?:".*"(?:\n|\Z))+)', re.MULTILINE)
_ESCAPE = re.compile(r"\\(.)")
_ESCAPED = {"n": "\n", "t": "\t", "r": "\r"}
# Folders that have many files, and no catalogues.
_SKIPPED = frozenset({"static", "static_src", "templates", "jinja2", "tests", "__pycache__"})


def locale_folders(package: str) -> list[Path]:
    """The folders named `locale` inside a package; UserError if there are none."""
    spec = importlib.util.find_spec(package)
    folders = []
    for root in (spec.submodule_search_locations or []) if spec else []:
        for path, inner, _ in os.walk(root):
            if "locale" in inner:
                folders.append(Path(path) / "locale")
            inner[:] = sorted(name for name in inner if name not in _SKIPPED | {"locale"})
    if not folders:
        raise UserError(
            f"package {package!r} with its catalogues of translations is not installed; "
            "`make setup` installs it (requirements-data.txt)"
        )
    return folders


def catalogue(text: str) -> dict[str, str]:
    """Translation by message of a catalogue's text.

    Plural forms, obsolete entries, those without a translation and those marked `fuzzy`, whose
    translation is a guess, are left out. Of a message with several contexts the first counts.
    """
    translations: dict[str, str] = {}
    for block in text.replace("\r\n", "\n").split("\n\n"):
        flags = [line for line in block.split("\n") if line.startswith("#,")]
        entry = _ENTRY.search(block)
        if entry is None or any("fuzzy" in line for line in flags):
            continue
        message, translation = _unquoted(entry[1]), _unquoted(entry[2])
        if message and translation:
            translations.setdefault(message, translation)
    return translations


def translations(folders: list[Path], language: str) -> dict[str, str]:
    """Translation by message of all catalogues of a language; of several the first counts."""
    merged: dict[str, str] = {}
    for folder in folders:
        for path in sorted((folder / language / "LC_MESSAGES").glob("*.po")):
            merged = catalogue(path.read_text(encoding="utf-8")) | merged
    return merged


def _unquoted(lines: str) -> str:
    joined = "".join(line[1:-1] for line in lines.splitlines())
    return _ESCAPE.sub(lambda escape: _ESCAPED.get(escape[1], escape[1]), joined)
