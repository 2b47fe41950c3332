"""Lightning trains, clips, scales and resumes with the optimizer, bit for bit."""

import functools

import pytest
import torch

from tests.trainers import problem

pytest.importorskip("lightning", reason="no Lightning here; `make test-trainers` installs it")

from lightning.pytorch.plugins import MixedPrecision
from lightning.pytorch.strategies import ModelParallelStrategy

from tests.trainers import with_lightning

pytestmark = pytest.mark.filterwarnings("default")


def half_precision(init_scale=2.0**24):
    """What `precision="16-mixed"` is on a GPU; this scale overflows in the first steps."""
    scaler = torch.amp.GradScaler("cpu", init_scale=init_scale, growth_interval=100)
    return MixedPrecision("16-mixed", device="cpu", scaler=scaler)


SETTINGS = {
    "32-true": {"precision": "32-true"},
    "32-true clipped": {"precision": "32-true", "gradient_clip_val": 0.5},
    "bf16-mixed clipped": {"precision": "bf16-mixed", "gradient_clip_val": 0.5},
    "16-mixed": {"plugins": half_precision},
    "16-mixed clipped": {"plugins": half_precision, "gradient_clip_val": 0.5},
    "accumulated": {"accumulate_grad_batches": 2, "gradient_clip_val": 0.5},
}


@pytest.mark.parametrize("settings", SETTINGS.values(), ids=SETTINGS.keys())
@pytest.mark.parametrize("method", problem.METHODS)
def test_a_resumed_run_ends_where_an_uninterrupted_one_does(tmp_path, method, settings):
    whole, resumed = with_lightning.ends(method, tmp_path, **settings)
    assert problem.largest_difference(whole, problem.weights(problem.network())) > 0.01
    assert problem.largest_difference(resumed, whole) == 0


@pytest.mark.parametrize(
    "options",
    [{"averaging": "ema"}, {"averaging": "schedule_free"}, {"overlap": True}],
    ids=["ema", "schedule_free", "overlap"],
)
def test_averages_and_refreshes_beside_training_resume(tmp_path, options):
    settings = SETTINGS["bf16-mixed clipped"]
    whole, resumed = with_lightning.ends("shampoo", tmp_path, options, **settings)
    assert problem.largest_difference(resumed, whole) == 0


def fsdp2(save_distributed_checkpoint):
    return ModelParallelStrategy(save_distributed_checkpoint=save_distributed_checkpoint)


# Of two processes.
STRATEGIES = {
    "DDP": {"strategy": "ddp", "gradient_clip_val": 0.5},
    "FSDP2": {
        "strategy": functools.partial(fsdp2, True),
        "kind": with_lightning.ShardedModule,
    },
    "FSDP2, full": {
        "strategy": functools.partial(fsdp2, False),
        "kind": with_lightning.ShardedModule,
    },
}


@pytest.mark.parametrize("settings", STRATEGIES.values(), ids=STRATEGIES.keys())
@pytest.mark.parametrize("method", problem.METHODS)
def test_on_two_processes(tmp_path, method, settings):
    settings = {"devices": 2, **settings}
    whole, resumed = problem.launched(2, with_lightning.ends, method, tmp_path, **settings)
    assert problem.largest_difference(resumed, whole) == 0


def test_fused_leaves_unscaling_to_the_step_and_hence_no_clipping(tmp_path):
    """As torch's fused AdamW does; without an overflow its results are those without `fused`."""
    fused = {"fused": True}
    whole, resumed = with_lightning.ends("shampoo", tmp_path, fused, plugins=half_precision)
    assert problem.largest_difference(resumed, whole) == 0
    small = functools.partial(half_precision, 2.0**10)
    weights, _ = with_lightning.ends("shampoo", tmp_path, fused, plugins=small)
    plain, _ = with_lightning.ends("shampoo", tmp_path, plugins=small)
    assert problem.largest_difference(weights, plain) < 1e-5
    with pytest.raises(RuntimeError, match="does not allow for gradient clipping"):
        with_lightning.ends("shampoo", tmp_path, fused, plugins=small, gradient_clip_val=0.5)
