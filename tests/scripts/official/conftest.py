"""The pretended benchmark's checkout and a trial of it."""

from pathlib import Path

import pytest

from scripts.official.trial import OfficialTrial
from tests.scripts.official.fakes import GOOD, Place, make_checkout, make_entry, make_trial


@pytest.fixture
def place(tmp_path: Path) -> Place:
    make_checkout(tmp_path / "checkout")
    return Place(tmp_path)


@pytest.fixture
def trial(tmp_path: Path) -> OfficialTrial:
    return make_trial(make_entry(tmp_path / "toy", [GOOD]))
