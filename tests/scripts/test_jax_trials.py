"""Trials of entries in JAX: where their logs go, and what is refused."""

import pytest

from common.cli import UserError
from scripts.local import entries, entry_info
from scripts.local.trial import Trial


def test_logs_are_in_a_folder_of_the_framework(tmp_path):
    trial = Trial("mnist_vit", "adamw_jax", 0, 1, {}, framework="jax")
    assert trial.directory(tmp_path) == tmp_path / "adamw_jax/study_0/mnist_vit_jax/trial_1"


def test_an_entry_says_its_framework_and_has_its_twin_s_points():
    frameworks = entries.frameworks(["shampoo", "shampoo_jax", "nesterov"])
    assert frameworks == {"shampoo": "pytorch", "shampoo_jax": "jax", "nesterov": "pytorch"}
    assert entries.points("shampoo_jax") == entries.points("shampoo")
    assert entry_info.framework(entries.folder("adamw_jax")) == "jax"
    entries.check_frameworks(frameworks, None)
    with pytest.raises(UserError, match=r"--framework=jax: entry 'shampoo' is in pytorch; in jax"):
        entries.check_frameworks({"shampoo": "pytorch"}, "jax")
