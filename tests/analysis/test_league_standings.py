"""The league's tables of entries and of workloads, of made-up logs."""

from analysis.league_standings import beside, beside_best_rival, leader, standings
from tests.analysis.conftest import judge_folder, rows_of
from tests.analysis.made_up import write_trial

# The value that meets mnist_vit's made-up target, stdlib_lm's, and one that meets neither.
MEETS = {"mnist_vit": (0.5, 0.95), "stdlib_lm": (9.0, 5.0)}


def judged(root):
    """Shampoo after 40 and 60 steps; Muon after 80 and never; AdamW after 60 and 60, dearer."""
    late = {
        "shampoo": {"mnist_vit": 2, "stdlib_lm": 3},
        "muon_adamw": {"mnist_vit": 4, "stdlib_lm": 0},
        "adamw": {"mnist_vit": 3, "stdlib_lm": 3},
    }
    for entry, evaluations in late.items():
        for workload, number in evaluations.items():
            misses, meets = MEETS[workload]
            values = [misses] * max(number - 1, 0) + ([meets] if number else [misses] * 4)
            cost = 0.1 if entry == "adamw" else 0.05
            for study in range(2):
                write_trial(root, entry, workload, study, 1, values, seconds_per_step=cost)
    return judge_folder(root)


def test_standings_have_ratios_over_the_targets_that_both_reach(tmp_path):
    rows = {row[1]: row for row in rows_of(standings(judged(tmp_path), "shampoo"))}
    assert rows["Shampoo"][0] == "1" and rows["Shampoo"][2] == "2"
    assert rows["Shampoo"][4:] == ["–", "–"]
    assert rows["Muon with AdamW"][2] == "1"
    assert rows["Muon with AdamW"][4:] == ["0.50 over 1", "0.50 over 1"]
    # The geometric mean of 40 / 60 and 60 / 60; a step costs half of AdamW's.
    assert rows["AdamW"][4:] == ["0.82 over 2", "0.41 over 2"]


def test_a_workload_names_the_rival_that_is_nearest_in_steps_and_in_seconds(tmp_path):
    rows = {row[0]: row for row in rows_of(beside_best_rival(judged(tmp_path), "shampoo"))}
    assert rows["mnist_vit"][1:] == ["40", "60 (AdamW)", "2.0", "4.0 (Muon with AdamW)"]
    assert rows["stdlib_lm"][1:] == ["60", "60 (AdamW)", "3.0", "6.0 (AdamW)"]


def test_the_leader_is_told_also_where_it_is_a_rival(tmp_path):
    made_up = judged(tmp_path)
    assert leader(made_up, "shampoo").startswith(
        "Of 3 entries the benchmark's score puts first Shampoo with 1.00 ["
    )
    assert "; AdamW with 0." in leader(made_up, "adamw")


def test_a_rival_is_compared_in_a_sentence(tmp_path):
    made_up = judged(tmp_path)
    assert beside(made_up, "shampoo", "muon_adamw") == (
        "Muon with AdamW reaches 1 of 2 targets, Shampoo 2, which on the 1 that both reach takes "
        "0.50 of its steps and 0.50 of its time"
    )


def test_who_misses_the_target_is_told(tmp_path):
    for entry, value in (("shampoo", 0.5), ("adamw", 0.5)):
        for study in range(2):
            write_trial(tmp_path, entry, "mnist_vit", study, 1, [value])
    judged_misses = judge_folder(tmp_path)
    _, row = rows_of(beside_best_rival(judged_misses, "shampoo"))
    assert row[1:] == ["missed"] * 4
    assert beside(judged_misses, "shampoo", "adamw") == "AdamW reaches 0 of 1 targets, Shampoo 0"
    assert all(row[4:] == ["–", "–"] for row in rows_of(standings(judged_misses, "shampoo"))[1:])
