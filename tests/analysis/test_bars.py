from pathlib import Path

import pytest

from analysis import bars, scoring
from analysis.logs import read_logs
from analysis.style import entry_styles
from tests.analysis.made_up import write_trial


def _labels(root: Path) -> list[list[str]]:
    trials = scoring.score_trials(read_logs(root).frame)
    figure = bars.time_to_target_bars(trials, "adamw", entry_styles(["adamw", "shampoo"]))
    return [[text.get_text() for text in axes.texts] for axes in figure.axes]


def test_bars_show_the_tables_ratios(tmp_path: Path) -> None:
    # AdamW: fewest steps in trial 1, least seconds in trial 2.
    write_trial(tmp_path, "adamw", "mnist_vit", 0, 1, [0.5, 0.95], seconds_per_step=0.3)
    write_trial(tmp_path, "adamw", "mnist_vit", 0, 2, [0.5, 0.5, 0.95], seconds_per_step=0.1)
    write_trial(tmp_path, "shampoo", "mnist_vit", 0, 1, [0.5, 0.5, 0.95], seconds_per_step=0.1)
    assert _labels(tmp_path) == [["1.00", "1.50"], ["1.00", "1.00"]]


def test_a_baseline_that_misses_bounds_the_ratio_by_what_it_surely_needed(tmp_path: Path) -> None:
    # One study of AdamW reaches the target at 40 of its 100 steps, one stops at 100 without it.
    write_trial(tmp_path, "adamw", "mnist_vit", 0, 1, [0.5, 0.95, 0.5, 0.5, 0.5])
    write_trial(tmp_path, "adamw", "mnist_vit", 1, 1, [0.5] * 8)
    write_trial(tmp_path, "adamw", "mnist_vit", 1, 2, [0.5] * 5)
    write_trial(tmp_path, "shampoo", "mnist_vit", 0, 1, [0.5, 0.5, 0.95])
    steps, _ = _labels(tmp_path)
    assert steps == ["not reached", "≤0.86"]


@pytest.mark.parametrize("studies", [1, 2])
def test_every_study_has_a_dot(tmp_path: Path, studies: int) -> None:
    for study in range(studies):
        write_trial(tmp_path, "adamw", "mnist_vit", study, 1, [0.5, 0.95])
    trials = scoring.score_trials(read_logs(tmp_path).frame)
    figure = bars.time_to_target_bars(trials, "adamw", entry_styles(["adamw"]))
    dots = [line for line in figure.axes[0].lines if line.get_marker() == "o"]
    assert sum(len(line.get_xdata()) for line in dots) == studies
