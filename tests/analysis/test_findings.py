from collections.abc import Sequence
from pathlib import Path

import pytest

from analysis import scoring
from analysis.findings import findings
from analysis.logs import read_logs
from tests.analysis.made_up import FACTS, write_trial


def _sentence(
    root: Path,
    ours: Sequence[int],
    theirs: Sequence[int],
    ours_per_step: float = 0.1,
    theirs_per_step: float = 0.1,
) -> str:
    """The finding on studies that reach the target at these evaluations, 0 standing for never."""
    for entry, hits, cost in (
        ("shampoo", ours, ours_per_step),
        ("adamw", theirs, theirs_per_step),
    ):
        for study, hit in enumerate(hits):
            values = [0.5] * (hit - 1) + [0.95] if hit else [0.5] * 40
            write_trial(root, entry, "mnist_vit", study, 1, values, seconds_per_step=cost)
    table = scoring.score_workloads(scoring.score_trials(read_logs(root).frame), "adamw")
    (line,) = findings(table, "adamw", FACTS)
    assert "wins" not in line
    return line.removeprefix("**mnist_vit**: ")


def test_ranges_apart_give_a_verdict_with_the_ranges(tmp_path: Path) -> None:
    assert _sentence(tmp_path, [10, 11, 12], [20, 21, 25], 0.15) == (
        "Shampoo needs fewer steps (Shampoo 220, studies 200 to 240; AdamW 420, studies 400 to "
        "500; ratio 0.52). A step of Shampoo costs 1.50 times one of AdamW; Shampoo needs fewer "
        "seconds (Shampoo 33.00 s, studies 30.00 to 36.00; AdamW 42.00 s, studies 40.00 to 50.00; "
        "ratio 0.79)."
    )


@pytest.mark.parametrize("theirs", [[12, 21, 25], [8, 9, 10], [11, 11, 11]])
def test_ranges_that_overlap_or_touch_give_none(tmp_path: Path, theirs: list[int]) -> None:
    said = _sentence(tmp_path, [10, 11, 12], theirs)
    assert said.startswith("No clear difference in steps: the studies' ranges overlap (Shampoo")
    assert "; no clear difference in seconds" in said
    assert "needs fewer" not in said


def test_the_baseline_may_need_fewer(tmp_path: Path) -> None:
    said = _sentence(tmp_path, [20, 21, 22], [10, 11, 12])
    assert said.startswith("AdamW needs fewer steps (Shampoo 420")
    assert "; AdamW needs fewer seconds (Shampoo 42.00 s" in said


def test_dear_steps_cost_the_lead(tmp_path: Path) -> None:
    said = _sentence(tmp_path, [10, 11, 12], [20, 21, 22], 0.4)
    assert "A step of Shampoo costs 4.00 times one of AdamW, which costs Shampoo the lead: " in said
    assert ": AdamW needs fewer seconds (Shampoo 88.00 s" in said


def test_dear_steps_use_up_the_lead(tmp_path: Path) -> None:
    said = _sentence(tmp_path, [10, 11, 12], [20, 21, 22], 0.195)
    assert "which uses up Shampoo's lead: no clear difference in seconds" in said


def test_a_lead_that_shrinks_is_not_used_up(tmp_path: Path) -> None:
    said = _sentence(tmp_path, [10, 11, 12], [20, 21, 22], 0.18)
    assert "A step of Shampoo costs 1.80 times one of AdamW; no clear difference in sec" in said
    assert said.endswith("ratio 0.94).")


def test_cheap_steps_cost_the_other_the_lead(tmp_path: Path) -> None:
    said = _sentence(tmp_path, [20, 21, 22], [10, 11, 12], 0.1, 0.4)
    assert "costs 0.25 times one of AdamW, which costs AdamW the lead: Shampoo needs" in said


def test_a_lead_within_one_evaluation_is_doubted(tmp_path: Path) -> None:
    said = _sentence(tmp_path, [10, 10, 10], [11, 11, 11])
    assert "ratio 0.91), though by no more than one evaluation period." in said


def test_a_lone_study_is_called_so(tmp_path: Path) -> None:
    said = _sentence(tmp_path, [10], [20])
    assert "(Shampoo 200 in its only study; AdamW 400 in its only study; ratio 0.50)" in said


def test_missed_studies_take_part_in_the_ranges(tmp_path: Path) -> None:
    said = _sentence(tmp_path, [10, 11, 0], [20, 21, 22])
    assert said.startswith("No clear difference in steps")
    assert "Shampoo 220, studies 200 to not reached" in said
    assert said.endswith("Shampoo reached the target in 2 of 3 studies, AdamW in 3 of 3.")


def test_reaching_in_the_median_is_not_enough_for_a_verdict(tmp_path: Path) -> None:
    said = _sentence(tmp_path, [20, 21, 22], [10, 0, 0])
    assert said.startswith("Only the median study of Shampoo reaches the target. No clear diff")
    assert "AdamW not reached, studies 200 to not reached)" in said


def test_a_target_that_is_never_reached_needs_more(tmp_path: Path) -> None:
    said = _sentence(tmp_path, [0, 0], [10, 11])
    assert "AdamW needs fewer steps (Shampoo not reached in any study; AdamW 210" in said
    assert "ratio" not in said


def test_two_that_miss_are_not_ranked(tmp_path: Path) -> None:
    said = _sentence(tmp_path, [0, 0, 9], [0, 0, 0])
    assert said == (
        "Neither median study of Shampoo and AdamW reaches the target. "
        "Shampoo reached the target in 1 of 3 studies, AdamW in 0 of 3."
    )
