from collections.abc import Sequence
from pathlib import Path

import pytest

from analysis import scoring
from analysis.findings import compare_times, findings, losses, overview, places
from analysis.judgement import Judgement
from analysis.logs import read_logs
from tests.analysis.judging import judge_folder, judge_published
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


def _judge(root: Path, ours: Sequence[int], theirs: Sequence[int]) -> Judgement:
    """Studies that reach the target at these evaluations, 0 standing for never."""
    for entry, hits in (("shampoo", ours), ("adamw", theirs)):
        for study, hit in enumerate(hits):
            values = [0.5] * (hit - 1) + [0.95] if hit else [0.5] * 40
            write_trial(root, entry, "mnist_vit", study, 1, values)
    return judge_folder(root, "adamw")


@pytest.mark.parametrize(
    ("ours", "theirs", "kind"),
    [
        ([10, 11, 12], [20, 21, 22], "faster"),
        ([20, 21, 22], [10, 11, 12], "slower"),
        ([10, 11, 12], [11, 12, 13], "unclear"),
        # Apart, but by no more than the evaluation periods.
        ([10, 10, 10], [11, 11, 11], "unclear"),
        # A single study has no interval.
        ([10], [20], "unclear"),
        ([10, 11, 12], [0, 0, 0], "alone"),
        ([0, 0, 9], [10, 11, 12], "missed"),
        ([0, 0, 9], [0, 0, 9], "neither"),
    ],
)
def test_times_are_compared_by_their_intervals(
    tmp_path: Path, ours: list[int], theirs: list[int], kind: str
) -> None:
    groups = compare_times(_judge(tmp_path, ours, theirs), "shampoo")
    assert groups == {name: ["mnist_vit"] if name == kind else [] for name in groups}


def test_the_overview_ranks_and_compares(tmp_path: Path) -> None:
    first, second = overview(_judge(tmp_path, [10, 11, 12], [20, 21, 22]))
    assert first.startswith("**Shampoo**: score 0.333 [0.333, 0.333], place 1 of 2. ")
    assert "Against AdamW: faster on 1 (mnist_vit)." in first
    assert "Geometric mean of the time ratios: 0.52 over 1 of 1 workloads." in first
    assert "Its score is above AdamW's in 100% of resamples." in first
    assert second.startswith("**AdamW**: score ") and second.endswith("place 2 of 2.")


def test_losses_are_named(tmp_path: Path) -> None:
    said = losses(_judge(tmp_path, [20, 21, 0], [10, 11, 12]), "shampoo")
    assert said[0] == "Shampoo is clearly slower than AdamW on 1: mnist_vit."
    assert said[-1] == "Shampoo misses the target in some studies: mnist_vit (1 of 3)."


def test_without_losses_that_is_said(tmp_path: Path) -> None:
    said = losses(_judge(tmp_path, [10, 11, 12], [20, 21, 22]), "shampoo")
    assert said == ["On no workload is Shampoo anything but clearly faster than AdamW."]


def test_places_among_the_published() -> None:
    judged = judge_published("v0.5")
    said = places(judged, "shampoo_submission")
    assert said[0].startswith("First on 2 (criteo1tb, imagenet_vit) and beaten on 6 (")
    lines = {line.split("**")[1]: line for line in said[1:]}
    assert len(lines) == 8
    told = "first; Schedule-Free AdamW comes next with 1.33 times its time."
    assert lines["imagenet_vit"].endswith(told)
    assert lines["wmt"].endswith("place 7 of 11, 2.41 times the time of Schedule-Free AdamW.")
    assert lines["imagenet_resnet"].endswith(
        "misses the target, which 1 of 11 reach, Generalized Adam first."
    )
    alone = places(judge_published("v0.6"), "shampoo")
    assert "**imagenet_vit**: first, and the only one to reach the target." in alone
    assert "**imagenet_resnet**: nobody's median study reaches the target." in alone
