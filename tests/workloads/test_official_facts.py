"""The official rows of the registry, against each other and against figures known by heart."""

import pytest

from common.cli import UserError
from workloads import registry
from workloads.official.facts import NEWEST, OFFICIAL, RULES, VERSIONS, Model
from workloads.rows import row

LARGER_IS_BETTER = ("accuracy", "ssim", "mean_average_precision", "bleu")
ROWS = [row for rows in OFFICIAL.values() for row in rows.values()]


def test_versions_hold_the_same_workloads_but_the_language_model():
    assert VERSIONS == ("v0.5", "v0.6", "v1.0") and VERSIONS[-1] == NEWEST
    assert set(OFFICIAL["v0.5"]) == set(OFFICIAL["v0.6"])
    assert set(OFFICIAL["v1.0"]) == set(OFFICIAL["v0.6"]) | {"finewebedu_lm"}
    assert len(OFFICIAL["v0.6"]) == 10 + 3 * 4 + 3 * 4
    hardware = [(RULES[version].gpus, RULES[version].gpu) for version in VERSIONS]
    assert hardware == [(8, "V100"), (8, "V100"), (4, "A100")]


@pytest.mark.parametrize("facts", ROWS, ids=lambda facts: f"{facts.name}-{facts.version}")
def test_rows_are_those_of_their_base_and_of_a_possible_size(facts):
    base = registry.official(facts.base_name, facts.version)
    assert base.base == "" and base.base_name == base.name and facts.suite == "official"
    assert facts.name == base.name or facts.name.startswith(f"{base.name}_")
    for field in (
        *("metric", "direction", "step_hint", "max_runtime_seconds", "data"),
        *("eval_period_seconds", "self_tuning_max_runtime_seconds"),
    ):
        assert getattr(facts, field) == getattr(base, field)
    assert facts.model.loss == base.model.loss
    assert 0.5 < facts.model.parameters / base.model.parameters < 2.5
    assert len(facts.sources) >= 4
    assert facts.step_hint > 1000 and facts.max_runtime_seconds >= 60
    assert 6 <= facts.max_runtime_seconds / facts.eval_period_seconds <= 200
    factor = RULES[facts.version].self_tuning_factor
    assert facts.self_tuning_max_runtime_seconds == factor * facts.max_runtime_seconds
    assert facts.data.train_examples > facts.data.validation_examples > 0
    assert facts.model.dropout_rate in (None, 0.0, 0.1)
    assert facts.model.batch_size <= facts.data.train_examples
    assert facts.validation_target is not None
    assert facts.direction == ("max" if facts.metric in LARGER_IS_BETTER else "min")


def test_known_figures_of_all_versions():
    rows = [registry.official("wmt", version) for version in VERSIONS]
    assert [row.step_hint for row in rows] == [133_333, 120_000, 120_000]
    assert [row.max_runtime_seconds for row in rows] == [48_151, 43_336, 16_114]
    assert [row.eval_period_seconds for row in rows] == [840, 840, 644]
    assert rows[0].self_tuning_max_runtime_seconds == 3 * 48_151
    assert {row.validation_target for row in rows} == {30.8491}
    assert registry.facts("wmt") is registry.official("wmt", NEWEST)
    assert registry.facts("imagenet_resnet").validation_target == pytest.approx(0.77431)
    assert registry.facts("wmt_attention_temp").test_target < 100
    newest = registry.official("finewebedu_lm")
    assert newest.test_target is None and not newest.meets(1.0, newest.test_target)
    assert any("22.432" in source for source in newest.sources)


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
    for name, facts in data.items():
        assert set(facts.setups) == set(facts.trees) == {"pytorch", "jax"}, name


MODEL = {
    "title": "MLP", "loss": "CTC_LOSS", "parameters": 3, "tensors": 1, "dropout_rate": None,
    "smooths_labels": True, "batch_size": 16, "eval_batch_size": 8, "source": "for people",
}  # fmt: skip


@pytest.mark.parametrize(
    ("change", "fact"),
    [
        ({"layers": 3}, "unknown key 'layers'"),
        ({"parameters": 3.0}, r"parameters is 3\.0"),
        ({"smooths_labels": 1}, "smooths_labels is 1"),
        ({"dropout_rate": "0"}, "dropout_rate is '0'"),
        ({"title": None}, "title is None"),
        ("title", "title is missing"),
    ],
)
def test_rows_are_checked(change, fact):
    assert row(Model, MODEL, "here").tensors == 1
    values = MODEL | change if isinstance(change, dict) else {**MODEL}
    values.pop(change if isinstance(change, str) else "", None)
    with pytest.raises(UserError, match=rf"here: {fact}"):
        row(Model, values, "here")


@pytest.mark.parametrize(
    ("ask", "facts"),
    [
        (lambda: registry.facts("wmt", "v0.7"), "version 'v0.7'; known: v0.5, v0.6, v1.0"),
        (lambda: registry.official("wmt", "v0.7"), "version 'v0.7'; known: v0.5, v0.6, v1.0"),
        (lambda: registry.names(version="v0.7"), "version 'v0.7'"),
        (lambda: registry.facts("finewebedu_lm", "v0.5"), r"'finewebedu_lm' in v0\.5; known: "),
        (lambda: registry.official("mnist_vit"), "no official workload; those are: criteo1tb,"),
        (lambda: registry.official("wmd"), "'wmd'; official ones: criteo1tb,.*did you mean wmt"),
        (lambda: registry.load("wmt"), "wmt is an official workload.*those that train here"),
        (lambda: registry.caveat("wmt"), "wmt is an official workload.*those that train here"),
    ],
)
def test_what_is_unknown_is_named(ask, facts):
    with pytest.raises(UserError, match=facts):
        ask()


def test_names_come_by_suite_and_version_and_stand_ins_have_none():
    assert registry.names() == [*registry.names("standin"), *registry.names("official")]
    assert "finewebedu_lm" not in registry.names("official", "v0.5")
    assert registry.names("official")[0] == "criteo1tb" and registry.names("other") == []
    assert registry.facts("mnist_vit", "v0.5") is registry.facts("mnist_vit")
    assert registry.facts("mnist_vit").version == ""
