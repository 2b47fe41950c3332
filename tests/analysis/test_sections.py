import pytest

from analysis.sections import compare_times, overview
from analysis.tables import places_table
from tests.analysis.conftest import judge_folder, judge_published, rows_of
from tests.analysis.made_up import write_trial


def _judge(root, shampoo, adamw):
    """Studies that reach the target at these evaluations, 0 standing for never."""
    for entry, hits in (("shampoo", shampoo), ("adamw", adamw)):
        for study, hit in enumerate(hits):
            values = [0.5] * (hit - 1) + [0.95] if hit else [0.5] * 40
            write_trial(root, entry, "mnist_vit", study, 1, values)
    return judge_folder(root, "adamw")


@pytest.mark.parametrize(
    ("shampoo", "adamw", "kind"),
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
def test_times_are_compared_by_their_intervals(tmp_path, shampoo, adamw, kind):
    groups = compare_times(_judge(tmp_path, shampoo, adamw), "shampoo")
    assert groups == {name: ["mnist_vit"] if name == kind else [] for name in groups}


def test_the_overview_ranks_and_compares(tmp_path):
    first, second = overview(_judge(tmp_path, [10, 11, 12], [20, 21, 22]))
    assert first.startswith("**Shampoo**: score 1.000 [1.000, 1.000], place 1 of 2. ")
    assert "Against AdamW: faster on 1 (mnist_vit)." in first
    assert "Geometric mean of the time ratios: 0.52 over 1 of 1 workloads." in first
    assert "Its score is above AdamW's in 100% of resamples." in first
    assert second.startswith("**AdamW**: score ") and second.endswith("place 2 of 2.")


def test_places_among_the_published():
    rows = {}
    for version, name in (("v0.5", "shampoo_submission"), ("v0.6", "shampoo")):
        cells = rows_of(places_table(judge_published(version), name))[1:]
        rows |= {(version, row[0]): row[1:] for row in cells}
    assert len(rows) == 16
    assert rows["v0.5", "imagenet_vit"][0] == "1 of 11"
    assert rows["v0.5", "imagenet_vit"][-2:] == ["1.00", "1.33"]
    assert rows["v0.5", "wmt"] == ["7 of 11", "10 of 11", "Schedule-Free AdamW", "2.41", "–"]
    assert rows["v0.5", "imagenet_resnet"][:3] == ["missed", "1 of 11", "Generalized Adam"]
    assert rows["v0.6", "imagenet_vit"] == ["1 of 2", "1 of 2", "Shampoo", "1.00", "not reached"]
    assert rows["v0.6", "imagenet_resnet"] == ["missed", "0 of 2", "–", "–", "–"]
