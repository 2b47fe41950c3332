"""Made-up facts for every test here."""

from collections.abc import Iterator

import pytest

from tests.analysis.made_up import FACTS
from workloads import registry


@pytest.fixture(autouse=True, scope="module")
def known_facts() -> Iterator[None]:
    """Targets that don't move when the real ones are set anew."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(registry, "_ALL", FACTS)
        yield
