"""torchtitan's container takes the optimizer and its checkpoints go on, bit for bit."""

from pathlib import Path

import pytest

from tests.trainers import problem

pytest.importorskip("torchtitan", reason="no torchtitan here; `make test-trainers` installs it")

from tests.trainers import with_torchtitan

pytestmark = pytest.mark.filterwarnings("default")


@pytest.mark.parametrize("world", [1, 2])
@pytest.mark.parametrize("method", problem.METHODS)
def test_a_resumed_run_ends_where_an_uninterrupted_one_does(
    tmp_path: Path, method: str, world: int
) -> None:
    whole, resumed = problem.launched(
        world, with_torchtitan.ends, method, tmp_path, sharded=world > 1
    )
    assert problem.largest_difference(whole, problem.weights(problem.network())) > 0.01
    assert problem.largest_difference(resumed, whole) == 0
