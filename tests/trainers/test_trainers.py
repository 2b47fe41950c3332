"""accelerate, Hugging Face's Trainer and torchtitan train and resume, bit for bit."""

import importlib

import pytest

from tests.trainers import problem

pytestmark = pytest.mark.filterwarnings("default")

PACKAGES = {
    "accelerate": ("accelerate",),
    "hugging_face": ("transformers", "accelerate"),
    "torchtitan": ("torchtitan",),
}
# Trainer, processes (of DDP, for torchtitan of FSDP2) and what its `ends` is given.
CASES = [
    ("accelerate", 1, {"clip": 0.5}),
    ("accelerate", 1, {"mixed_precision": "bf16", "clip": 0.5}),
    ("accelerate", 1, {"gradient_accumulation_steps": 2}),
    ("accelerate", 2, {"clip": 0.5}),
    ("hugging_face", 1, {"max_grad_norm": 0.5}),
    ("hugging_face", 1, {"bf16": True, "max_grad_norm": 0.5}),
    ("hugging_face", 1, {"gradient_accumulation_steps": 2}),
    ("hugging_face", 2, {"ddp_backend": "gloo"}),
    ("hugging_face", 1, {"options": {"averaging": "ema"}}),
    ("hugging_face", 2, {"options": {"averaging": "ema"}, "ddp_backend": "gloo"}),
    ("torchtitan", 1, {}),
    ("torchtitan", 2, {"sharded": True}),
]


@pytest.mark.parametrize(("trainer", "world", "settings"), CASES, ids=str)
@pytest.mark.parametrize("method", problem.METHODS)
def test_a_resumed_run_ends_where_an_uninterrupted_one_does(
    tmp_path, method, trainer, world, settings
):
    for package in PACKAGES[trainer]:
        pytest.importorskip(package, reason=f"no {package} here; `make test-trainers` installs it")
    adapter = importlib.import_module(f"tests.trainers.with_{trainer}")
    whole, resumed = problem.launched(world, adapter.ends, method, tmp_path, **settings)
    assert problem.largest_difference(whole, problem.weights(problem.network())) > 0.01
    assert problem.largest_difference(resumed, whole) == 0
