"""Variants of an entry beside the entry."""

import math

import pandas as pd
import pytest

from analysis import methods
from common import files
from common.cli import UserError

VARIANTS = {
    "better": {"changed": "a", "section": "direction", "point": {"nesterov": False}},
    "worse": {"changed": "b", "section": "direction", "note": "c"},
}
BASE = {"mnist_vit": [100.0, 120.0, 110.0], "stdlib_lm": [200.0, 210.0, math.inf]}


def column(steps):
    """Steps by workload, those of studies 1, 2 and so on, as a column of the table."""
    return pd.Series(
        {(name, study): n for name, row in steps.items() for study, n in enumerate(row, start=1)}
    ).rename_axis(["workload", "study"])


def times(factor):
    return {name: [factor * steps for steps in row] for name, row in BASE.items()}


def outcome(steps):
    table = pd.DataFrame({"a": column(steps), "base": column(BASE)})
    return methods.outcome(table["a"], table["base"])


def test_a_variant_earns_its_place_by_median_and_worst_ratio():
    assert outcome(times(0.9)).earns_its_place
    assert not outcome(times(0.96)).earns_its_place
    mixed = {**times(0.5), "stdlib_lm": times(1.1)["stdlib_lm"]}
    assert not outcome(mixed).earns_its_place


def test_misses_are_counted_and_never_averaged():
    missed = {"mnist_vit": [math.inf] * 3}
    found = outcome(missed)
    assert found.ratios["mnist_vit"] == math.inf and math.isnan(found.ratios["stdlib_lm"])
    assert found.pairs == 0
    table = {"base": BASE, "better": times(0.9), "worse": missed}
    steps = pd.DataFrame({name: column(row) for name, row in table.items()})
    page = methods.page([steps], VARIANTS)
    assert "- b: c\n" in page and "|           > |" in page and "|   3 of 3 |" in page
    assert "1.05: better." in page and "an earlier league" not in page


def test_variants_of_an_earlier_league_stand_beside_its_base():
    now = pd.DataFrame({"base": column(BASE), "better": column(times(0.9))})
    doubled = {"base": times(2), "better": times(2), "worse": times(3)}
    before = pd.DataFrame({name: column(row) for name, row in doubled.items()})
    page = methods.page([now, before], VARIANTS)
    assert "| a         |     0.90 |" in page and "| b †       |     1.50 |" in page
    assert "misses 1 of 6" in page and "missed 1 of 6 there" in page


def test_what_the_others_choose_is_shown_on_the_workload_left_out():
    base = column({name: [100.0] * 3 for name in ("a", "b", "c")})
    variants = {name: {**VARIANTS["better"], "changed": name} for name in ("some", "even")}
    steps = {"some": {"a": 50.0, "b": 60.0, "c": 140.0}, "even": dict.fromkeys("abc", 90.0)}
    outcomes = {
        name: methods.outcome(column({w: [n] * 3 for w, n in of_one.items()}), base)
        for name, of_one in steps.items()
    }
    rows = methods._leave_one_out(outcomes, variants)
    shown = [(row["left out"], row["chosen"], row["on the ninth"]) for row in rows]
    expected = [("a", "even", "0.90"), ("b", "some", "0.60"), ("c", "some", "1.40")]
    assert shown[:3] == expected
    assert rows[-1]["on the ninth"] == "0.91"


def test_logs_must_be_a_folder(tmp_path):
    with pytest.raises(UserError, match=r"--logs=.*/nowhere is no folder; give one with"):
        methods.collect(tmp_path / "nowhere")


def test_the_page_is_what_the_committed_table_says():
    variants = files.read_json(methods.FOLDER / "variants.json")
    page = (methods.FOLDER / "methods.md").read_text("utf-8")
    assert page == methods.page(methods.tables(), variants)


def test_the_bases_have_the_committed_studies_steps():
    rows = methods.base_rows()
    for base in methods.BASES:
        of_base = [row for row in rows if row["variant"] == base]
        steps = {(row["workload"], row["study"]): row["steps"] for row in of_base}
        assert methods.tables()[0][base].dropna().to_dict() == pytest.approx(steps)


def test_every_variant_has_a_table_that_shows_it():
    keys = {"changed", "section", "point", "note", "entry", "points_of", "against"}
    for name, variant in files.read_json(methods.FOLDER / "variants.json").items():
        assert variant.keys() <= keys, name
        assert variant["section"] in (*methods.SECTIONS, *methods._OWN_SECTIONS), name
        assert {"changed"} < variant.keys() and {"point", "note"} & variant.keys(), name


def test_variants_are_not_compared_with_a_league_that_ran_later():
    def rows(variant, steps):
        return [{"variant": variant, "workload": "mnist_vit", "study": 1, "steps": steps}]

    kept = [*rows("base", "80.0"), *rows("a", "90.0"), *rows("b", "70.0")]
    assert methods.merged(kept, [*rows("base", 80.0), *rows("a", 60.0)]) == [
        *rows("b", "70.0"),
        *rows("base", 80.0),
        *rows("a", 60.0),
    ]
    with pytest.raises(UserError, match="since these variants: b; run them again"):
        methods.merged(kept, [*rows("base", 100.0), *rows("a", 60.0)])
    everything = [*rows("base", 100.0), *rows("a", 60.0), *rows("b", 50.0)]
    assert methods.merged(kept, everything) == everything
