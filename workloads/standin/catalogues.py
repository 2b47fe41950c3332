"""Messages and their translations from the gettext catalogues that packages ship as text."""

import os
import re
from pathlib import Path

from workloads.standin.packaged_data import folders, missing

_ENTRY = re.compile(r'^msgid ((?:".*"\n)+)msgstr ((?:".*"(?:\n|\Z))+)', re.MULTILINE)
_ESCAPE = re.compile(r"\\(.)")
_ESCAPED = {"n": "\n", "t": "\t", "r": "\r"}
# Folders that have many files, and no catalogues.
_SKIPPED = frozenset({"static", "static_src", "templates", "jinja2", "tests", "__pycache__"})


def locale_folders(package: str) -> list[Path]:
    """The folders named `locale` inside a package; UserError if there are none."""
    locales = []
    for root in folders(package):
        for path, inner, _ in os.walk(root):
            if "locale" in inner:
                locales.append(Path(path) / "locale")
            inner[:] = sorted(name for name in inner if name not in _SKIPPED | {"locale"})
    if not locales:
        raise missing(package, "catalogues of translations")
    return locales


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
