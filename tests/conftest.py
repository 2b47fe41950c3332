"""What tests of several rooms share."""

import json
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from hypothesis import settings

ROOT = Path(__file__).parents[1]
TOP = ("pyproject.toml", "README.md", "LICENSE")
BUILD = "import setuptools.build_meta as meta, sys; print(meta.build_wheel(sys.argv[1]))"

# A busy machine is slow, not wrong.
settings.register_profile("no deadline", deadline=None)
settings.load_profile("no deadline")


@pytest.fixture
def write_json(tmp_path):
    """Writes a JSON file into the test's folder and returns its path."""

    def write(name, value):
        path = tmp_path / name
        path.write_text(json.dumps(value))
        return path

    return write


@pytest.fixture(scope="session")
def wheel(tmp_path_factory):
    """The wheel, built from a copy of what it is made of, since setuptools leaves files behind."""
    source, output = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("wheel")
    for path in (*ROOT.glob("requirements*.txt"), *map(ROOT.joinpath, TOP)):
        shutil.copy(path, source)
    shutil.copytree(ROOT / "submission", source / "submission")
    subprocess.run(
        [sys.executable, "-c", BUILD, str(output)], cwd=source, check=True, capture_output=True
    )
    (path,) = output.glob("*.whl")
    return path


@pytest.fixture(scope="session")
def site(wheel, tmp_path_factory):
    """A folder to import `stacked_shampoo` from, with what the wheel has and nothing else."""
    folder = tmp_path_factory.mktemp("site")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(folder)
    return folder
