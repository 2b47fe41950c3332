"""The official rows of the registry, against each other and against figures known by heart."""

import pytest

from common.cli import UserError
from workloads import registry
from workloads.official.facts import OFFICIAL, VERSIONS, Model
from workloads.official.rows import row

V06_ONLY = {"finewebedu_lm"}


def test_versions_hold_the_same_workloads_but_the_announced_one():
    assert VERSIONS == ("v0.5", "v0.6")
    assert set(OFFICIAL["v0.6"]) - set(OFFICIAL["v0.5"]) == V06_ONLY
    assert set(OFFICIAL["v0.5"]) < set(OFFICIAL["v0.6"])
    assert len(OFFICIAL["v0.6"]) == 11 + 3 * 4 + 3 * 4


@pytest.mark.parametrize("version", VERSIONS)
def test_variants_share_their_base_s_budget_data_and_metric(version):
    for name in registry.names("official", version):
        row = registry.official(name, version)
        assert row.name == name and row.version == version and row.suite == "official"
        base = registry.official(row.base_name, version)
        assert base.base == "" and base.base_name == base.name
        assert name == base.name or name.startswith(f"{base.name}_")
        for field in (
            *("metric", "direction", "step_hint", "max_runtime_seconds", "data"),
            *("eval_period_seconds", "self_tuning_max_runtime_seconds"),
        ):
            assert getattr(row, field) == getattr(base, field)
        assert row.model.loss == base.model.loss
        assert 0.5 < row.model.parameters / base.model.parameters < 2.5
        assert len(row.sources) >= 4


@pytest.mark.parametrize("version", VERSIONS)
def test_figures_are_of_a_possible_size(version):
    for name in registry.names("official", version):
        row = registry.official(name, version)
        assert row.step_hint > 1000 and row.max_runtime_seconds >= 60
        assert 6 <= row.max_runtime_seconds / row.eval_period_seconds <= 200
        factor = {"v0.5": 3, "v0.6": 1.5}[version]
        assert row.self_tuning_max_runtime_seconds == factor * row.max_runtime_seconds
        assert row.data.train_examples > row.data.validation_examples > 0
        assert row.model.dropout_rate in (None, 0.0, 0.1)
        assert row.model.batch_size <= row.data.train_examples
        assert row.validation_target is not None
        if row.metric in ("accuracy", "ssim", "mean_average_precision", "bleu"):
            assert row.direction == "max"
        else:
            assert row.metric in ("loss", "wer", "ppl") and row.direction == "min"


def test_known_figures_of_both_versions():
    old, new = (registry.official("wmt", version) for version in VERSIONS)
    assert (old.step_hint, new.step_hint) == (133_333, 120_000)
    assert (old.max_runtime_seconds, new.max_runtime_seconds) == (48_151, 43_336)
    assert old.validation_target == new.validation_target == 30.8491
    assert registry.facts("wmt") is new
    assert registry.facts("imagenet_resnet").validation_target == pytest.approx(0.77431)
    assert registry.facts("wmt_attention_temp").test_target < 100


def test_the_announced_workload_has_no_test_target_and_is_not_in_v05():
    row = registry.official("finewebedu_lm")
    assert row.test_target is None and not row.meets(1.0, row.test_target)
    assert any("announced" in source for source in row.sources)
    with pytest.raises(UserError, match=r"unknown workload 'finewebedu_lm' in v0\.5; known: "):
        registry.facts("finewebedu_lm", "v0.5")


def test_data_sets_agree_with_what_is_counted():
    data = {name: registry.official(name).data for name in registry.names("official")}
    trees = {name: data[name].trees["pytorch"].files for name in ("fastmri", "criteo1tb")}
    assert trees["criteo1tb"] == {"day_*_*": data["criteo1tb"].files}
    assert sum(trees["fastmri"].values()) + 108 == data["fastmri"].files
    speech = data["librispeech_conformer"]
    assert speech is data["librispeech_deepspeech"]
    counts = [count for count in speech.trees["jax"].files.values() if isinstance(count, list)]
    splits = (speech.train_examples, speech.validation_examples, speech.test_examples)
    assert [sum(count) for count in counts] == [4 * examples for examples in splits]
    assert sum(least for least, _ in counts) <= speech.files - 7 <= sum(most for _, most in counts)
    for name, one in data.items():
        assert set(one.setups) == set(one.trees)
        assert bool(one.setups) == (name != "finewebedu_lm")


MODEL = {
    "title": "MLP", "loss": "CTC_LOSS", "parameters": 3, "tensors": 1, "dropout_rate": None,
    "smooths_labels": True, "batch_size": 16, "eval_batch_size": 8, "source": "for people",
}  # fmt: skip


def test_rows_are_checked():
    assert row(Model, MODEL, "here") == row(Model, MODEL, "there")
    for change, fact in (
        ({"layers": 3}, "unknown key 'layers'"),
        ({"parameters": 3.0}, "parameters is 3.0"),
        ({"smooths_labels": 1}, "smooths_labels is 1"),
        ({"dropout_rate": "0"}, "dropout_rate is '0'"),
    ):
        with pytest.raises(UserError, match=rf"here: {fact}"):
            row(Model, MODEL | change, "here")
    with pytest.raises(UserError, match="here: title is missing"):
        row(Model, {key: value for key, value in MODEL.items() if key != "title"}, "here")


def test_unknown_versions_are_named_but_stand_ins_have_none():
    for look_up in (registry.facts, registry.official):
        with pytest.raises(UserError, match=r"version 'v0.7'; known: v0.5, v0.6"):
            look_up("wmt", "v0.7")
    with pytest.raises(UserError, match=r"version 'v0.7'"):
        registry.names(version="v0.7")
    assert registry.facts("mnist_vit", "v0.5") is registry.facts("mnist_vit")
    assert registry.facts("mnist_vit").version == ""


def test_a_stand_in_has_no_official_facts():
    with pytest.raises(UserError, match="mnist_vit is no official workload; those are: criteo1tb,"):
        registry.official("mnist_vit")


def test_official_workloads_do_not_train_here():
    for ask in (registry.load, registry.caveat):
        with pytest.raises(UserError, match=r"wmt is an official workload.*those that train here"):
            ask("wmt")


def test_names_come_by_suite_and_version():
    assert registry.names() == [*registry.names("standin"), *registry.names("official")]
    assert "finewebedu_lm" not in registry.names("official", "v0.5")
    assert registry.names("official")[0] == "criteo1tb"
    assert registry.names("other") == []
