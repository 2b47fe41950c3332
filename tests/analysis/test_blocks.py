"""A report's tables fit GitHub's column at every size."""

import itertools
import re

import pytest

from analysis import blocks, sections
from analysis.blocks import WIDEST, rendered_width
from analysis.league_tables import study_table
from tests.analysis.conftest import judge_folder, judge_published, rows_of
from tests.analysis.made_up import write_study, write_trial


def _tables(text):
    return re.findall(r"(?:^\|.*\n)+", f"{text}\n", re.MULTILINE)


def _fits(judged, widest=WIDEST):
    text = sections.report(judged, "", [], [])
    widths = [rendered_width(table) for table in _tables(text)]
    assert widths and max(widths) <= widest
    open_text = re.sub("<details>.*?</details>", "", text, flags=re.DOTALL)
    assert max(table.count("\n") for table in _tables(open_text)) < 45
    return text


def test_tables_of_the_league_fit(league):
    folded = re.findall(r"<summary>(\w+): Shampoo", _fits(league))
    assert folded == (list(league.facts) if len(league.entries) > 4 else [])


def test_the_readmes_table_fits_and_has_the_entries_that_readers_know(league):
    table = study_table(league)
    assert rendered_width(table) <= WIDEST
    head, *rows = rows_of(table)
    assert head[:3] == ["workload", "entry", "reached"]
    entries = {"Shampoo", "AdamW"} | ({"NAdamW"} if len(league.entries) > 4 else set())
    expected = itertools.product(league.facts, entries)
    assert {(row[0], row[1]) for row in rows} == set(expected)


@pytest.mark.parametrize("version", ["v0.5", "v0.6"])
def test_tables_of_the_leaderboard_fit(version):
    # Its seconds have up to seven digits, and its submissions' trials differ in number.
    text = _fits(judge_published(version), WIDEST + 5)
    assert "<summary>imagenet_vit: " in text


def test_a_small_study_has_one_table_of_times(tmp_path):
    text = blocks.times(judge_folder(write_study(tmp_path, trials=2), "adamw"))
    assert "<details>" not in text and text.count("mnist_vit") == 2
    assert text.count(" 2 x 3 |") == 6


def test_trials_have_a_column_where_they_differ(league, tmp_path):
    if len(league.entries) > 4:
        text = blocks.times(league)
        assert "; 1 x 2 trials for all</summary>" in text and "| trials" not in text
    for number, entry in enumerate(("adamw", "shampoo", "soap", "nadamw", "muon"), start=1):
        for trial in range(number):
            write_trial(tmp_path, entry, "mnist_vit", 0, trial + 1, [0.5, 0.95])
    text = blocks.times(judge_folder(tmp_path, "adamw"))
    assert "| 5 x 1 " in re.sub(" +", " ", text) and "for all" not in text


def test_a_blocks_summary_names_the_pair_and_the_fastest(tmp_path):
    for entry, values in {
        "adamw": [0.5] * 4, "shampoo": [0.5, 0.5, 0.95], "soap": [0.5, 0.95], "nadamw": [0.5],
        "a<b": [0.5],
    }.items():  # fmt: skip
        write_trial(tmp_path, entry, "mnist_vit", 0, 1, values)
    text = blocks.times(judge_folder(tmp_path, "adamw"))
    line = "mnist_vit: Shampoo 3.00 s, AdamW not reached, fastest SOAP 2.00 s; 1 x 1 trials for all"
    assert f"<summary>{line}</summary>" in text
    assert "| a&lt;b " in text


def test_the_widest_cells_count():
    table = "| workload | best point per study |\n|:--|--:|\n| a | 1 |\n| abcdefghijk | 4 5 |\n"
    assert rendered_width(table) == 11 + 5 + 2 * 3
