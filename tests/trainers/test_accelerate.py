"""accelerate trains, clips and resumes with the optimizer, bit for bit."""

from pathlib import Path
from typing import Any

import pytest

from tests.trainers import problem

pytest.importorskip("accelerate", reason="no accelerate here; see `make test-trainers`")

from tests.trainers import with_accelerate

pytestmark = pytest.mark.filterwarnings("default")

SETTINGS: dict[str, dict[str, Any]] = {
    "clipped": {"clip": 0.5},
    "bf16 clipped": {"mixed_precision": "bf16", "clip": 0.5},
    "accumulated": {"gradient_accumulation_steps": 2},
}


@pytest.mark.parametrize("settings", SETTINGS.values(), ids=SETTINGS.keys())
@pytest.mark.parametrize("method", problem.METHODS)
def test_a_resumed_run_ends_where_an_uninterrupted_one_does(
    tmp_path: Path, method: str, settings: dict[str, Any]
) -> None:
    whole, resumed = with_accelerate.ends(method, tmp_path, **settings)
    assert problem.largest_difference(whole, problem.weights(problem.network())) > 0.01
    assert problem.largest_difference(resumed, whole) == 0


@pytest.mark.parametrize("method", problem.METHODS)
def test_under_ddp(tmp_path: Path, method: str) -> None:
    whole, resumed = problem.launched(2, with_accelerate.ends, method, tmp_path, clip=0.5)
    assert problem.largest_difference(resumed, whole) == 0
