import pytest

from common.cli import UserError
from workloads import registry
from workloads.rulesets import ruleset


@pytest.mark.parametrize(
    ("version", "name", "studies", "trials", "factor"),
    [
        ("v0.5", "external", 5, 5, 1.0),
        ("v0.5", "self_tuning", 5, 1, 3.0),
        ("v0.6", "external", 3, 5, 1.0),
        ("v0.6", "self_tuning", 3, 1, 1.5),
        ("standin", "external", 3, 5, 1.0),
    ],
)
def test_rules_of_each_version(version, name, studies, trials, factor):
    rules = ruleset(version, name)
    assert (rules.version, rules.name) == (version, name)
    assert (rules.studies, rules.trials, rules.max_ratio) == (studies, trials, 4.0)
    assert rules.budget_factor == factor
    assert hash(rules) == hash(ruleset(version, name)) and rules == ruleset(version, name)


def test_base_workloads_are_eight_then_nine_and_v05_holds_variants_out():
    assert len(ruleset("v1.0").base_workloads) == 9
    assert set(ruleset("v1.0").base_workloads) - set(ruleset("v0.6").base_workloads) == {
        "finewebedu_lm"
    }
    for version in ("v0.5", "v0.6"):
        rules = ruleset(version)
        assert len(rules.base_workloads) == 8 and "finewebedu_lm" not in rules.base_workloads
        assert all(registry.facts(name, version).base == "" for name in rules.base_workloads)
        for base, variants in rules.held_out.items():
            assert [registry.facts(name, version).base for name in variants] == [base]
    unvaried = {"imagenet_vit", "librispeech_deepspeech"}
    rules = ruleset("v0.5", "self_tuning")
    assert set(rules.held_out) == set(rules.base_workloads) - unvaried
    assert len(rules.workloads) == 14
    assert ruleset("v0.6").held_out == ruleset("standin").held_out == {}
    with pytest.raises(TypeError):
        rules.held_out["ogbg"] = ()


def test_budgets_are_those_of_the_version():
    assert ruleset("v0.5").budget_seconds("fastmri") == 8_859
    assert ruleset("v0.5", "self_tuning").budget_seconds("fastmri_tanh") == 26_577
    assert ruleset("v0.6").budget_seconds("fastmri") == 4_430
    assert ruleset("v0.6", "self_tuning").budget_seconds("criteo1tb") == 11_554.5
    assert ruleset("v1.0").budget_seconds("fastmri") == 2_745
    assert ruleset("v1.0", "self_tuning").budget_seconds("criteo1tb") == 13_372.5
    for version in ("v0.5", "v0.6", "v1.0"):
        for name in registry.names("official", version):
            row = registry.official(name, version)
            rules = ruleset(version, "self_tuning")
            assert rules.budget_seconds(name) == row.self_tuning_max_runtime_seconds


def test_stand_ins_have_their_own_rules():
    rules = ruleset("standin")
    assert rules.base_workloads == tuple(registry.names("standin"))
    assert rules.budget_seconds("mnist_vit") == registry.facts("mnist_vit").max_runtime_seconds


@pytest.mark.parametrize(
    ("version", "name", "facts"),
    [
        ("v0.7", "external", "version 'v0.7'; known: v0.5, v0.6, v1.0, standin"),
        ("v0.6", "open", "no ruleset 'open'; it has external, self_tuning"),
        ("standin", "self_tuning", "standin has no ruleset 'self_tuning'; it has external"),
        ("v0.5", "external", r"unknown workload 'finewebedu_lm' in v0\.5"),
    ],
)
def test_what_is_unknown_is_named(version, name, facts):
    with pytest.raises(UserError, match=facts):
        ruleset(version, name).budget_seconds("finewebedu_lm")
