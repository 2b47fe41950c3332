"""State and work are divided over a mesh, and the trajectory is that of one device."""

import json
import os
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import optax
import pytest

from submission.shampoo_jax import shampoo, static_arguments

ROOT = Path(__file__).parents[3]


@pytest.fixture(scope="module")
def results():
    """Of `divided`, in a process of its own, since devices are made once, and in float64."""
    environment = {
        **os.environ,
        "JAX_NUM_CPU_DEVICES": "8",
        "JAX_PLATFORMS": "cpu",
        "JAX_ENABLE_X64": "1",
    }
    command = [sys.executable, "-m", "tests.submission.shampoo_jax.divided"]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.mark.slow
@pytest.mark.parametrize("devices", [1, 2, 4, 8])
def test_the_same_steps_on_any_number_of_devices(results, devices):
    """And all state is born where it stays."""
    figures = results[str(devices)]
    assert figures["difference"] <= 1e-9
    assert figures["born divided"]
    assert figures["bytes"] * devices == results["1"]["bytes"]


@pytest.mark.slow
@pytest.mark.parametrize("devices", [2, 4, 8])
def test_all_stacks_share_one_gather(results, devices):
    """The other is that of the table."""
    assert results[str(devices)]["collectives"] == ["all-gather"] * 2


@pytest.mark.slow
def test_state_goes_on_on_fewer_devices(results):
    assert results["after moving"] <= 1e-9


@pytest.mark.slow
def test_grafted_steps_are_the_same_on_several_devices(results):
    assert results["grafted"] <= 1e-9


@pytest.mark.slow
def test_axes_of_a_mesh_may_be_explicit(results):
    """Updates and averages then lie where the parameters do."""
    assert results["explicit"] <= 1e-9
    assert results["explicit, automatic"] <= 1e-9
    average, update, factor = results["places"]
    assert average[0] == update[0] == factor[0] == "data"


def test_what_does_not_fit_a_mesh_is_refused():
    mesh = jax.sharding.Mesh(jax.devices()[:1], ("data",))
    with pytest.raises(ValueError, match=r"^axis must be one of the mesh's \('data',\)"):
        shampoo(0.1, mesh=mesh, axis="model")
    for axis in (0, (), ("data", "data")):
        with pytest.raises(ValueError, match=r"^axis must be one of .* or a tuple of several, got"):
            shampoo(0.1, mesh=mesh, axis=axis)
    with pytest.raises(ValueError, match=r"^axis must be None without a mesh"):
        shampoo(0.1, axis="data")
    with pytest.raises(ValueError, match=r"^mesh must be None or a jax.sharding.Mesh"):
        shampoo(0.1, mesh=8)
    manual = jax.make_mesh((1,), ("data",), axis_types=(jax.sharding.AxisType.Manual,))
    with pytest.raises(ValueError, match=r"^mesh must be a mesh whose axis_types are"):
        shampoo(0.1, mesh=manual)


def explicit_mesh():
    return jax.make_mesh((1,), ("data",), axis_types=(jax.sharding.AxisType.Explicit,))


def test_injected_numbers_and_explicit_axes_go_together():
    injected = optax.inject_hyperparams(shampoo, static_args=static_arguments(shampoo))
    options = {"averaging": "schedule_free", "decay_mode": "independent", "weight_decay": 0.1}
    optimizer = injected(learning_rate=0.1, mesh=explicit_mesh(), **options)
    everywhere = jax.sharding.NamedSharding(explicit_mesh(), jax.sharding.PartitionSpec())
    params = jax.device_put({"kernel": jnp.ones((4, 3)), "bias": jnp.ones(3)}, everywhere)
    state = jax.jit(optimizer.init)(params)
    updates, after = jax.jit(optimizer.update).trace(params, state, params).out_info
    assert jax.tree.structure(after) == jax.tree.structure(state)
    assert updates["kernel"].sharding.spec == jax.sharding.PartitionSpec(None, None)


def test_explicit_axes_want_their_mesh():
    everywhere = jax.sharding.NamedSharding(explicit_mesh(), jax.sharding.PartitionSpec())
    params = {"bias": jnp.ones(3), "kernel": jax.device_put(jnp.ones((4, 3)), everywhere)}
    optimizer = shampoo(0.1)
    message = r"^mesh must be the one with explicit axes \('data',\) that 'kernel' lies on, got No"
    with pytest.raises(ValueError, match=message):
        optimizer.init(params)
