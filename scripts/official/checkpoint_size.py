"""How much disk the official runner's checkpoints of a trial take."""

import functools
import math
from collections.abc import Iterable

from scripts.benchmark import model_shapes
from scripts.official.trial import OfficialTrial
from workloads import registry


def trial_gb(trial: OfficialTrial) -> float:
    """About what one checkpoint of a trial takes under Shampoo, the entry with the most state."""
    return checkpoint_gb(
        trial.trial.workload, momentum=trial.trial.hyperparameters.get("momentum", 0.0) > 0
    )


@functools.cache
def checkpoint_gb(workload: str, momentum: bool) -> float:
    """About what one checkpoint takes on disk, in units of 1e9 bytes, from above.

    Weights, two moments, the buffer of heavy-ball momentum if there is one, and Shampoo's factors
    with their roots, all as float32. Where the registry has no shapes, twelve numbers per weight.
    """
    facts = registry.official(workload)
    if facts.base_name not in model_shapes.MODELS:
        return 4 * 12 * facts.model.parameters / 1e9
    shapes = model_shapes.shapes(facts.base_name).values()
    factors = _factor_numbers(shapes) / sum(map(math.prod, shapes))
    return 4 * (3 + momentum + factors) * facts.model.parameters / 1e9


def _factor_numbers(shapes: Iterable[tuple[int, ...]]) -> int:
    """Elements of all factors and of their roots, as the entry cuts parameters into blocks."""
    # PyTorch takes seconds to import, which a dry run does not need.
    from submission.entries.shampoo.submission import MAX_DIM
    from submission.shampoo.blocking import plan
    from submission.shampoo.config import BlockingConfig

    config, count = BlockingConfig(max_dim=MAX_DIM), 0
    for tile in (tile for shape in shapes for tile in plan(shape, config).tiles):
        left, right = tile.sides
        count += tile.blocks * (left * tile.height**2 + right * tile.width**2)
    return 2 * count
