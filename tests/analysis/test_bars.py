from pathlib import Path

import pandas as pd
import pytest
from matplotlib.figure import Figure

from analysis import bars
from analysis.bars import relative
from analysis.style import entry_styles
from tests.analysis.conftest import judge_folder, judge_published
from tests.analysis.made_up import write_trial


def _figure(root: Path, column: str = "steps") -> Figure:
    judged = judge_folder(root, "adamw")
    figure = bars.time_to_target_bars(judged, column, entry_styles(judged.entries))
    assert figure is not None
    return figure


def _labels(figure: Figure) -> list[str]:
    """What stands beside the bars of the first panel, from top to bottom."""
    texts = [text for text in figure.axes[0].texts if text.xy[0] == 1]
    return [text.get_text() for text in sorted(texts, key=lambda text: text.xy[1])]


def test_a_bound_has_an_end_but_no_length(tmp_path: Path) -> None:
    write_trial(tmp_path, "adamw", "mnist_vit", 0, 1, [0.5] * 5)
    write_trial(tmp_path, "shampoo", "mnist_vit", 0, 1, [0.5, 0.5, 0.95])
    write_trial(tmp_path, "nadamw", "mnist_vit", 0, 1, [0.5] * 7 + [0.95])
    figure = _figure(tmp_path)
    # Longer than AdamW ran says nothing about who is faster.
    assert _labels(figure) == ["≤0.60", "reached", "missed"]
    assert not figure.axes[0].patches
    (legend,) = figure.legends
    message = [text.get_text() for text in legend.get_texts()]
    assert {text.split(":")[0] for text in message} >= {"≤", "reached", "missed"}


@pytest.mark.parametrize("studies", [1, 2])
def test_every_study_has_a_dot(tmp_path: Path, studies: int) -> None:
    for study in range(studies):
        for entry in ("adamw", "shampoo"):
            write_trial(tmp_path, entry, "mnist_vit", study, 1, [0.5, 0.95])
    dots = [line for line in _figure(tmp_path).axes[0].lines if line.get_marker() == "o"]
    assert sum(len(line.get_xdata()) for line in dots) == 2 * studies


def test_intervals_beyond_the_panel_end_in_an_arrow(tmp_path: Path) -> None:
    for study, hit in enumerate((2, 2, 0)):
        values = [0.5] * (hit - 1) + [0.95] if hit else [0.5] * 9
        write_trial(tmp_path, "shampoo", "mnist_vit", study, 1, values)
        write_trial(tmp_path, "adamw", "mnist_vit", study, 1, [0.5, 0.95])
    axes = _figure(tmp_path).axes[0]
    assert [line.get_marker() for line in axes.lines if line.get_marker() in "<>"] == [">"]


def _rows(root: Path, column: str) -> pd.DataFrame:
    table = relative(judge_folder(root, "adamw"), column)
    return table.set_index(["workload", "submission"])


def test_ratios_are_to_the_baselines_median(tmp_path: Path) -> None:
    # AdamW: trial 1 meets the target at the earliest evaluation, so both its numbers count.
    write_trial(tmp_path, "adamw", "mnist_vit", 0, 1, [0.5, 0.95], seconds_per_step=0.3)
    write_trial(tmp_path, "adamw", "mnist_vit", 0, 2, [0.5, 0.5, 0.95], seconds_per_step=0.1)
    write_trial(tmp_path, "shampoo", "mnist_vit", 0, 1, [0.5, 0.5, 0.95], seconds_per_step=0.1)
    for column, ratio in (("steps", 1.5), ("seconds", 0.5)):
        row = _rows(tmp_path, column).loc[("mnist_vit", "shampoo")]
        assert (row["kind"], row["ratio"]) == ("ratio", pytest.approx(ratio))
        assert row["points"].tolist() == pytest.approx([ratio])
        # One study has no interval.
        assert pd.isna(row["low"]) and row["studies"] == 1
        figure = _figure(tmp_path, column)
        assert _labels(figure) == [f"{ratio:.2f}", "1.00"]
        bar = figure.axes[0].patches[0]
        assert (bar.get_x(), bar.get_width()) == pytest.approx((1, ratio - 1))


def test_evaluation_periods_are_an_interval_of_seconds(tmp_path: Path) -> None:
    write_trial(tmp_path, "adamw", "mnist_vit", 0, 1, [0.5, 0.5, 0.5, 0.95], seconds_per_step=0.1)
    write_trial(tmp_path, "shampoo", "mnist_vit", 0, 1, [0.5, 0.95], seconds_per_step=0.1)
    row = _rows(tmp_path, "seconds").loc[("mnist_vit", "shampoo")]
    # Between 1 and 2 evaluations of Shampoo, between 3 and 4 of AdamW.
    assert (row["earliest"], row["latest"]) == pytest.approx((1 / 4, 2 / 3))
    assert pd.isna(_rows(tmp_path, "steps").loc[("mnist_vit", "shampoo"), "earliest"])


def test_a_baseline_that_misses_bounds_the_ratio_by_what_it_surely_needed(tmp_path: Path) -> None:
    # One study of AdamW reaches the target at 40 of its 100 steps, one stops at 100 without it.
    write_trial(tmp_path, "adamw", "mnist_vit", 0, 1, [0.5, 0.95, 0.5, 0.5, 0.5])
    write_trial(tmp_path, "adamw", "mnist_vit", 1, 1, [0.5] * 8)
    write_trial(tmp_path, "adamw", "mnist_vit", 1, 2, [0.5] * 5)
    write_trial(tmp_path, "shampoo", "mnist_vit", 0, 1, [0.5, 0.5, 0.95])
    rows = _rows(tmp_path, "steps")
    assert rows["kind"].to_dict() == {
        ("mnist_vit", "shampoo"): "bound",
        ("mnist_vit", "adamw"): "missed",
    }
    assert rows.loc[("mnist_vit", "shampoo"), "ratio"] == pytest.approx(60 / 70)


def test_only_workloads_that_the_baseline_and_others_have_run(tmp_path: Path) -> None:
    write_trial(tmp_path, "adamw", "mnist_vit", 0, 1, [0.95])
    write_trial(tmp_path, "shampoo", "mnist_vit", 0, 1, [0.95])
    write_trial(tmp_path, "adamw", "stdlib_lm", 0, 1, [5.0])
    write_trial(tmp_path, "shampoo", "flights_dlrm", 0, 1, [0.3])
    assert set(_rows(tmp_path, "steps").index.get_level_values(0)) == {"mnist_vit"}


def test_steps_that_are_counted_otherwise_are_not_compared() -> None:
    judged = judge_published("v0.5")
    assert sorted(judged.other_steps) == ["lawa_ema", "lawa_queue"]
    steps = relative(judged, "steps").set_index(["workload", "submission"])["kind"]
    seconds = relative(judged, "seconds").set_index(["workload", "submission"])["kind"]
    assert steps["fastmri", "lawa_queue"] == "other"
    assert seconds["fastmri", "lawa_queue"] == "ratio"
