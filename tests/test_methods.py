"""Variants of an entry beside the entry."""

import math

import pytest

from analysis import methods
from common import files

VARIANTS = {
    "better": {"changed": "a", "section": "direction", "point": {"nesterov": False}},
    "worse": {"changed": "b", "section": "direction", "note": "c"},
}
BASE = {"mnist_vit": {1: 100.0, 2: 120.0, 3: 110.0}, "stdlib_lm": {1: 200.0, 2: 210.0, 3: math.inf}}


def times(factor):
    return {
        workload: {study: factor * steps for study, steps in studies.items()}
        for workload, studies in BASE.items()
    }


def test_a_variant_earns_its_place_by_median_and_worst_ratio():
    assert methods.outcome(times(0.9), BASE).earns_its_place
    assert not methods.outcome(times(0.96), BASE).earns_its_place
    mixed = {**times(0.5), "stdlib_lm": times(1.1)["stdlib_lm"]}
    assert not methods.outcome(mixed, BASE).earns_its_place


def test_misses_are_counted_and_never_averaged():
    missed = {"mnist_vit": dict.fromkeys((1, 2, 3), math.inf)}
    found = methods.outcome(missed, BASE)
    assert found.ratios == {"mnist_vit": math.inf, "stdlib_lm": None}
    assert (found.pairs, found.missed) == (0, 3)
    page = methods.page({"base": BASE, "better": times(0.9), "worse": missed}, VARIANTS)
    assert "- b: c\n" in page and "|           > |" in page
    assert "1.05: better." in page


def test_what_the_others_choose_is_shown_on_the_workload_left_out():
    base = {name: dict.fromkeys((1, 2, 3), 100.0) for name in ("a", "b", "c")}
    variants = {name: {**VARIANTS["better"], "changed": name} for name in ("some", "even")}
    steps = {"some": {"a": 50.0, "b": 60.0, "c": 140.0}, "even": dict.fromkeys("abc", 90.0)}
    outcomes = {
        name: methods.outcome({w: dict.fromkeys((1, 2, 3), n) for w, n in of_one.items()}, base)
        for name, of_one in steps.items()
    }
    rows = methods._leave_one_out(outcomes, variants)
    shown = [(row["left out"], row["chosen"], row["on the ninth"]) for row in rows]
    expected = [("a", "even", "0.90"), ("b", "some", "0.60"), ("c", "some", "1.40")]
    assert shown[:3] == expected
    assert rows[-1]["on the ninth"] == "0.91"


def test_the_page_is_what_the_committed_table_says():
    variants = files.read_json(methods.FOLDER / "variants.json")
    page = (methods.FOLDER / "methods.md").read_text("utf-8")
    assert page == methods.page(methods.read(), variants)


def test_the_base_has_the_committed_study_s_steps():
    """What the variants are held against is the league's own entry."""
    rows = methods.base_rows()
    for base in methods.BASES:
        of_base = [row for row in rows if row["variant"] == base]
        steps = {(row["workload"], row["study"]): row["steps"] for row in of_base}
        committed = methods.read()[base].items()
        flat = {(workload, study): n for workload, row in committed for study, n in row.items()}
        assert flat == pytest.approx(steps)
