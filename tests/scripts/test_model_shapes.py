"""Shapes of models against the numbers of parameters that are known of them."""

import math

import pytest

from scripts.benchmark import model_shapes
from workloads import registry
from workloads.rulesets import ruleset

MODELS = {name: registry.official(name).model for name in model_shapes.ALGOPERF}
# (tensors, parameters): of the Llamas as published with the weights, of other networks as their
# papers and libraries give them; None where no tensor count was published.
KNOWN = {
    "llama3.2-1b": (None, 1_235_814_400),
    "llama3.2-3b": (None, 3_212_749_824),
    "llama3-8b": (None, 8_030_261_248),
    "llama3-70b": (None, 70_553_706_496),
    "resnet50": (161, 25_557_032),
    "vit_s16": (152, 22_050_664),
    "gpt2_small": (148, 124_439_808),
    "small_200k": (10, 188_810),
    **{name: (MODELS[name].tensors, MODELS[name].parameters) for name in model_shapes.ALGOPERF},
}


@pytest.mark.parametrize("model", model_shapes.MODELS)
def test_models_have_their_known_sizes(model):
    tensors, parameters = KNOWN[model]
    shapes = model_shapes.shapes(model).values()
    assert sum(map(math.prod, shapes)) == parameters
    assert tensors in (None, len(shapes))


def test_unknown_models_are_refused():
    assert ruleset("v1.0").base_workloads == model_shapes.ALGOPERF
    with pytest.raises(KeyError):
        model_shapes.shapes("alexnet")
