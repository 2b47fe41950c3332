"""The wheel has the optimizer alone, under one name, and works where nothing else is."""

import importlib
import subprocess
import sys
from email.parser import Parser
from pathlib import Path

import pytest

import submission.shampoo

ROOT = Path(__file__).parents[1]


def test_one_name_and_one_dependency(site):
    names = {path.name for path in site.iterdir() if path.suffix != ".dist-info"}
    assert names == {"stacked_shampoo"}
    (metadata,) = site.glob("*.dist-info/METADATA")
    fields = Parser().parsestr(metadata.read_text())
    requirements = fields.get_all("Requires-Dist")
    assert [text for text in requirements if "extra" not in text] == ["torch>=2.5"]
    # Ours alone are pinned.
    for_jax = [text.partition(";")[0] for text in requirements if 'extra == "jax"' in text]
    assert len(for_jax) == 2 and not any("==" in text for text in for_jax)
    assert set(fields.get_all("Provides-Extra")) == {"harness", "jax"}
    assert (site / "stacked_shampoo" / "py.typed").exists()


def test_every_module_is_in_it(site):
    for installed, folder in (("torch", "shampoo"), ("jax", "shampoo_jax"), ("plan", "plan")):
        modules = {
            path.relative_to(ROOT / "submission" / folder)
            for path in (ROOT / "submission" / folder).rglob("*.py")
        }
        packed = site / "stacked_shampoo" / installed
        assert {path.relative_to(packed) for path in packed.rglob("*.py")} == modules


def run(site, code):
    """What `code` prints in an isolated Python that finds the wheel, and nothing of ours."""
    code = f"import sys; sys.path.insert(0, {str(site)!r})\n{code}"
    command = [sys.executable, "-I", "-c", code]
    return subprocess.run(command, cwd="/", check=True, capture_output=True, text=True).stdout


STEP = """
import torch
torch.manual_seed(0)
torch.set_num_threads(1)
weight = torch.nn.Parameter(torch.randn(6, 4))
optimizer = Shampoo([weight], lr=0.1, refresh_interval=2)
for _ in range(5):
    optimizer.zero_grad()
    weight.square().sum().backward()
    optimizer.step()
print(weight.detach().numpy().tobytes().hex())
"""


def test_takes_the_steps_of_the_repository(site):
    expected = subprocess.run(
        [sys.executable, "-c", "from submission.shampoo import Shampoo" + STEP],
        cwd=ROOT,
        check=True,
        capture_output=True,
        text=True,
    ).stdout
    assert run(site, "from stacked_shampoo import Shampoo" + STEP) == expected


def test_the_name_loads_no_framework_and_the_optimizer_only_torch(site):
    loaded = (
        "print([name for name in ('torch', 'jax', 'numpy', 'submission') if name in sys.modules])"
    )
    assert run(site, f"import stacked_shampoo, stacked_shampoo.plan; {loaded}") == "[]\n"
    frameworks = "print([name for name in ('jax', 'pandas', 'submission') if name in sys.modules])"
    assert run(site, f"from stacked_shampoo import Shampoo; {frameworks}") == "[]\n"


def test_jax_needs_no_torch(site):
    for name in ("jax", "optax"):
        pytest.importorskip(name, reason=f"{name} is not installed: requirements-jax.txt")
    code = """
import jax
import jax.numpy as jnp
from stacked_shampoo.jax import shampoo
params = {"kernel": jnp.ones((6, 4)), "bias": jnp.ones(4)}
optimizer = shampoo(1e-3, weight_decay=0.01)
updates, state = jax.jit(optimizer.update)(params, optimizer.init(params), params)
print(state.count, [name for name in ('torch', 'submission') if name in sys.modules])
"""
    assert run(site, code) == "1 []\n"


def test_exports_the_names_of_the_repository():
    installed = importlib.import_module("submission.installed")
    assert installed.__all__ == submission.shampoo.__all__
    with pytest.raises(AttributeError, match="Shampo'"):
        _ = installed.Shampo
