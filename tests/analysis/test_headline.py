"""What the headline says, and that it can be read at every size."""

import json
import re

import pytest

from analysis import style
from analysis.headline import finding, headline, hero_of
from analysis.style import entry_styles
from tests.analysis.conftest import judge_folder, judge_published
from tests.analysis.looks import flaws, strays, texts
from tests.analysis.made_up import write_trial

OFTEN = [0.5, 0.5, 0.95]


def _figure(judged, column="seconds"):
    return headline(judged, column, entry_styles(judged.entries))


def _texts(figure):
    return [text for text, _ in texts(figure)]


@pytest.mark.parametrize(("column", "narrow"), [("steps", False), ("seconds", True)])
def test_no_text_covers_another_at_any_size(league, column, narrow):
    figure = headline(league, column, entry_styles(league.entries), narrow=narrow)
    assert figure.get_size_inches()[0] < (5 if narrow else 10)
    assert flaws(figure) == [] and strays(figure) == []
    shown = _texts(figure)
    assert set(league.facts) <= set(shown)
    missed = 2 if len(league.facts) > 4 else 1
    assert shown.count("✗ AdamW: not reached in its budget") == missed


def test_the_leaderboards_headline_can_be_read():
    judged = judge_published("v0.5")
    figure = _figure(judged)
    assert flaws(figure) == [] and strays(figure) == []
    assert hero_of(judged) == "shampoo_submission"
    assert "Distributed Shampoo 9.19 h" in _texts(figure)


def test_ratio_times_and_misses_are_in_words(tmp_path):
    write_trial(tmp_path, "adamw", "mnist_vit", 0, 1, OFTEN * 2, seconds_per_step=0.1)
    write_trial(tmp_path, "shampoo", "mnist_vit", 0, 1, OFTEN, seconds_per_step=0.05)
    write_trial(tmp_path, "adamw", "flights_dlrm", 0, 1, [0.9] * 5)
    write_trial(tmp_path, "shampoo", "flights_dlrm", 0, 1, [0.9, 0.3])
    write_trial(tmp_path, "nadamw", "flights_dlrm", 0, 1, [0.9])
    judged = judge_folder(tmp_path, "adamw")
    shown = _texts(_figure(judged))
    assert {"Shampoo 3.00 s", "AdamW 6.00 s", "0.50", "≤0.40"} <= set(shown)
    assert {"✗ AdamW: not reached in its budget", "✗ NAdamW: not reached"} <= set(shown)
    said = finding(judged, "shampoo", "seconds")
    assert said.startswith("Shampoo reaches 2 of 2 targets, AdamW 1;")
    assert said.endswith("on the one that both reach, it takes 0.50 × the seconds")
    assert {"Shampoo 60 steps", "1.00"} <= set(_texts(_figure(judged, "steps")))


def test_what_the_baseline_misses_is_no_loss(tmp_path):
    write_trial(tmp_path, "adamw", "mnist_vit", 0, 1, [0.5] * 2)
    write_trial(tmp_path, "shampoo", "mnist_vit", 0, 1, OFTEN)
    write_trial(tmp_path, "nadamw", "mnist_vit", 0, 1, OFTEN)
    figure = _figure(judge_folder(tmp_path, "adamw"))
    shown = _texts(figure)
    assert {"✓ reached, AdamW not", "✓ NAdamW: reached"} <= set(shown)
    assert not any(text.startswith("≤") for text in shown)
    assert not any(line.get_marker() in "os" for line in figure.axes[0].lines)


def test_the_hero_is_a_shampoo_or_the_best(tmp_path):
    for entry, values in (("adamw", OFTEN), ("muon", OFTEN[1:]), ("nadamw", OFTEN * 2)):
        write_trial(tmp_path, entry, "mnist_vit", 0, 1, values)
    assert hero_of(judge_folder(tmp_path, "adamw")) == "muon"
    write_trial(tmp_path, "shampoo", "mnist_vit", 0, 1, [0.5] * 9)
    judged = judge_folder(tmp_path, "adamw")
    assert hero_of(judged) == "shampoo"
    assert "✗ Shampoo: not reached in its budget" in _texts(_figure(judged))


def test_who_was_cut_short_is_not_said_to_miss(tmp_path):
    write_trial(tmp_path, "shampoo", "mnist_vit", 0, 1, OFTEN)
    for entry in ("adamw", "nadamw"):
        folder = write_trial(tmp_path, entry, "mnist_vit", 0, 1, [0.5] * 3, reason="steps")
        (folder / "flags_0.json").write_text(json.dumps({"max_steps": 60, "step_hint": 800}))
    judged = judge_folder(tmp_path, "adamw")
    shown = _texts(_figure(judged))
    assert {"AdamW: cut short by --max_steps", "NAdamW: cut short"} <= set(shown)
    assert not any("not reached" in text or "✗" in text for text in shown)
    assert finding(judged, "shampoo", "steps").endswith("1 of 1 targets, AdamW 0 (1 cut short)")


def test_marks_say_their_values_in_the_vector_version(tmp_path):
    for entry in ("adamw", "shampoo", "a<b"):
        write_trial(tmp_path, entry, "mnist_vit", 0, 1, OFTEN)
    figure = _figure(judge_folder(tmp_path, "adamw"))
    style.save(figure, tmp_path, "x")
    text = (tmp_path / "x.svg").read_text()
    assert "<title>mnist_vit: a&lt;b 1.00</title>" in text
    assert "<title>mnist_vit: Shampoo 3.00 s; AdamW 3.00 s</title>" in text
    names = re.findall(r' id="([^"]*)"', text)
    assert len(names) == len(set(names)) and not any(" " in name for name in names)
