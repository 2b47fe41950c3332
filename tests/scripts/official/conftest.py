"""The pretended benchmark's checkout and a trial of it."""

import pytest

from tests.scripts.official.fakes import GOOD, Place, make_checkout, make_entry, make_trial


@pytest.fixture
def place(tmp_path):
    make_checkout(tmp_path / "checkout")
    return Place(tmp_path)


@pytest.fixture
def trial(tmp_path):
    return make_trial(make_entry(tmp_path / "toy", [GOOD]))
