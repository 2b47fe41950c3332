import dataclasses
import json
import math
import platform

import pytest

from common.cli import UserError
from scripts.local.curve import Curve
from workloads import registry
from workloads.standin import facts as standin_facts


def test_better_values_sort_first_and_meet_what_worse_ones_meet():
    facts = registry.facts("mnist_vit")
    for direction, best, worst in (("max", 0.9, 0.1), ("min", 0.1, 0.9)):
        row = dataclasses.replace(facts, direction=direction)
        assert sorted([0.1, 0.9, 0.5], key=row.sort_key) == [best, 0.5, worst]
        assert row.meets(best, 0.5) and row.meets(0.5, 0.5) and not row.meets(worst, 0.5)
        assert not row.meets(math.nan, 0.5) and not row.meets(best, None)


@pytest.mark.parametrize("name", [*registry.names("standin"), *registry.names("official")])
def test_an_impossible_value_meets_no_target(name):
    facts = registry.facts(name)
    sign = 1 if facts.direction == "max" else -1
    # A target that all values but worse ones meet.
    target = facts.sort_key(facts.best_sort_key) - sign * 1e-3
    assert facts.meets(target, target)
    for value in (math.inf, -math.inf, 1e308, -1e308, sign * 1e3, target + sign, math.nan):
        assert not facts.meets(value, target)
    curve = Curve(facts, [(1, sign * math.inf), (2, sign * 1e308), (3, target), (4, -sign * 1e308)])
    assert curve.best() == (3, target) and curve.steps_to(target) == 3


@pytest.fixture
def targets(tmp_path, monkeypatch):
    """Another targets.json, which is not there yet."""
    path = tmp_path / "targets.json"
    monkeypatch.setattr(standin_facts, "TARGETS_FILE", path)
    return path


def test_targets_are_read_at_the_first_look_up(targets):
    targets.write_text("{")
    assert {"mnist_vit", "flights_dlrm", "stdlib_lm"} <= set(registry.names("standin"))
    with pytest.raises(UserError, match=r"targets\.json is not valid JSON"):
        registry.facts("mnist_vit")
    targets.write_text(json.dumps({"mnist_vit": {"validation_target": 0.25}}))
    assert registry.facts("mnist_vit").validation_target == 0.25
    assert registry.facts("mnist_vit").test_target is None
    assert registry.facts("stdlib_lm").validation_target is None


def test_without_a_file_no_target_is_set(targets):
    assert registry.facts("flights_dlrm").validation_target is None
    assert registry.caveat("stdlib_lm") is None


def test_only_targets_of_another_python_s_own_text_are_caveats(targets):
    version = platform.python_version()
    rows = {name: {"python_version": "3.10.1"} for name in ("mnist_vit", "stdlib_lm")}
    targets.write_text(json.dumps(rows))
    assert registry.caveat("mnist_vit") is None
    caveat = registry.caveat("stdlib_lm")
    assert "Python 3.10.1" in caveat and version in caveat
    for target in ({"python_version": version}, {}):
        targets.write_text(json.dumps({"stdlib_lm": target}))
        assert registry.caveat("stdlib_lm") is None
    with pytest.raises(UserError, match="unknown workload"):
        registry.caveat("mnst")
