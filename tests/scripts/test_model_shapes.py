"""Shapes of models against the numbers of parameters that are known of them."""

import math

import pytest

from scripts.plan_scale import model_shapes
from workloads import registry

MODELS = {name: registry.official(name).model for name in registry.names("official")}
# As published with the weights.
PUBLISHED = {
    "llama3.2-1b": 1_235_814_400,
    "llama3.2-3b": 3_212_749_824,
    "llama3-8b": 8_030_261_248,
    "llama3-70b": 70_553_706_496,
}


@pytest.mark.parametrize("model", PUBLISHED)
def test_llamas_have_their_published_sizes(model: str) -> None:
    assert sum(map(math.prod, model_shapes.shapes(model).values())) == PUBLISHED[model]


@pytest.mark.parametrize("model", sorted(MODELS.keys() & set(model_shapes.MODELS)))
def test_models_of_workloads_are_those_the_registry_counts(model: str) -> None:
    shapes = model_shapes.shapes(model).values()
    assert len(shapes) == MODELS[model].tensors
    assert sum(map(math.prod, shapes)) == MODELS[model].parameters


def test_every_scored_workload_is_there() -> None:
    assert len(MODELS.keys() & set(model_shapes.MODELS)) == 8
    with pytest.raises(KeyError):
        model_shapes.shapes("alexnet")
