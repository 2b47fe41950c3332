"""How a submission's files import each other.

Submissions are written for the place in which their authors or the organisers ran them: some import
each other by the path from the root of the submissions' repository, some as if their own folders
were on the path, and some, the published winner of v0.6 among them, by a path at which they lie no
more. Files are parsed, none is imported.
"""

import ast
import dataclasses
import sys
from collections.abc import Iterator
from pathlib import Path

# The benchmark's own, whatever a folder has beside it.
_NOT_OURS = {"algoperf", "submission_runner"}
# Of the organisers' repository and of their folder in it, as the first part of a module's name.
_REPOSITORY = "submissions"


@dataclasses.dataclass(frozen=True)
class Places:
    """What Python needs so that a submission's imports of its own files work.

    Attributes:
      paths: folders above the submission's to search.
      aliases: names with dots, and the modules of the submission that they mean, by their names
        from the folder that the submission's is in.
    """

    paths: tuple[Path, ...] = ()
    aliases: tuple[tuple[str, str], ...] = ()


NO_PLACES = Places()


def places(folder: Path, start: str) -> Places:
    """The places of a submission; none if it imports none of its own files, or relatively.

    Args:
      folder: of the submission, absolute.
      start: the file from which imports are followed.
    """
    paths: dict[Path, None] = {}
    aliases: dict[str, str] = {}
    files, seen = [folder / start], set()
    while files:
        file = files.pop(0)
        if file in seen:
            continue
        seen.add(file)
        for level, name in _imported(file):
            if level:
                base, module = file.parents[level - 1], name
            elif (root := _root_of(name, file, folder)) is not None:
                base, module = root, name
                if root.is_relative_to(folder):
                    first = name.split(".")[0]
                    own = (root / first).relative_to(folder.parent)
                    aliases[first] = ".".join(own.parts)
                else:
                    paths[root] = None
            elif (alias := _former_name(name, folder)) is not None:
                base, module = folder, name[len(alias) + 1 :]
                aliases[alias] = folder.name
            else:
                continue
            files += [path for path in _files(base, module) if path.is_relative_to(folder)]
    return Places(tuple(paths), tuple(aliases.items()))


def _root_of(name: str, file: Path, folder: Path) -> Path | None:
    """The folder that holds a module which is the submission's own; None for any other module.

    The nearest one from the importing file up to the submission's folder, or the one above it from
    which the module's whole name leads to the submission.
    """
    first = name.split(".")[0]
    if first in _NOT_OURS or first in sys.stdlib_module_names:
        return None
    for place in file.parents:
        if not place.is_relative_to(folder):
            break
        if (place / f"{first}.py").is_file() or any((place / first).glob("*.py")):
            return place
    for place in folder.parents:
        if f"{name}.".startswith(".".join(folder.relative_to(place).parts) + "."):
            return place
    return None


def _former_name(name: str, folder: Path) -> str | None:
    """The part of a module's name that once led to the submission's folder; None if none did."""
    parts = name.split(".")
    if not parts[0].startswith(_REPOSITORY):
        return None
    for index in range(1, len(parts)):
        if (folder / parts[index]).is_dir() or (folder / f"{parts[index]}.py").is_file():
            return ".".join(parts[:index])
    return None


def _imported(file: Path) -> Iterator[tuple[int, str]]:
    """Level and dotted name of each import, with the names imported from it."""
    try:
        tree = ast.parse(file.read_bytes())
    except (OSError, SyntaxError, ValueError):
        return
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((0, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            for alias in node.names:
                yield node.level, ".".join(filter(None, [node.module, alias.name]))


def _files(base: Path, name: str) -> Iterator[Path]:
    """The files that an import of a dotted name may run."""
    place = base
    for part in name.split("."):
        yield place / part / "__init__.py"
        yield place / f"{part}.py"
        place /= part
