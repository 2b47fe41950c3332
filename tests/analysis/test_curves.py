import dataclasses
from pathlib import Path

import numpy as np
import pytest
from matplotlib.figure import Figure

from analysis.curves import learning_curves, median_curve
from analysis.style import entry_styles
from tests.analysis.conftest import judge_folder
from tests.analysis.made_up import write_trial


def test_median_of_one_curve_is_itself() -> None:
    x, y = np.array([20.0, 40.0, 60.0]), np.array([0.5, 0.7, 0.6])
    grid, median = median_curve([(x, y)])
    assert grid.tolist() == x.tolist() and median.tolist() == y.tolist()


def test_median_meets_the_target_where_the_median_study_does() -> None:
    # Each curve rises to 0.9 and stops; the middle one does so at 60.
    curves = [(np.array([20.0, end]), np.array([0.1, 0.9])) for end in (40.0, 60.0, 100.0)]
    grid, median = median_curve(curves)
    assert grid.tolist() == [20, 40, 60]
    assert median[-1] == pytest.approx(0.9) and (median[:-1] < 0.9).all()


def test_median_ignores_a_diverged_study() -> None:
    good = (np.array([20.0, 40.0]), np.array([2.0, 1.0]))
    bad = (np.array([20.0, 40.0]), np.array([2.0, 1e9]))
    assert median_curve([good, good, bad])[1].tolist() == [2.0, 1.0]


def test_a_single_evaluation_gives_one_point() -> None:
    grid, median = median_curve([(np.array([20.0]), np.array([0.1]))])
    assert grid.tolist() == [20] and median.tolist() == [0.1]


def test_median_goes_as_far_as_it_is_asked_to() -> None:
    # Two studies stop early, of which one met the target; the last one decides the median.
    curves = [
        (np.array([20.0, end]), np.array([0.1, last]))
        for end, last in ((40.0, 0.9), (40.0, 0.2), (100.0, 0.9))
    ]
    assert median_curve(curves)[0].tolist() == [20, 40]
    grid, median = median_curve(curves, 100.0)
    assert grid.tolist() == [20, 40, 100] and median[-1] == pytest.approx(0.9)


def _figure(root: Path, workload: str = "mnist_vit") -> Figure:
    judged = judge_folder(root, "adamw")
    figure = learning_curves(judged, workload, entry_styles(judged.entries))
    assert figure is not None
    return figure


def test_the_crossing_is_where_the_median_study_meets_the_target(tmp_path: Path) -> None:
    for study, hit in enumerate((2, 3, 4)):
        write_trial(tmp_path, "adamw", "mnist_vit", study, 1, [0.5] * (hit - 1) + [0.95])
    steps, seconds = _figure(tmp_path).axes
    for axes, crossing in ((steps, 60), (seconds, 3)):
        marks = [line for line in axes.lines if line.get_marker() == "s"]
        assert [(line.get_xdata()[0], line.get_ydata()[0]) for line in marks] == [
            (pytest.approx(crossing), 0.9)
        ]


def test_the_start_and_a_divergence_do_not_flatten_the_rest(tmp_path: Path) -> None:
    write_trial(tmp_path, "adamw", "mnist_vit", 0, 1, [0.0] * 2 + [0.7] * 6 + [0.8, 0.95])
    write_trial(tmp_path, "shampoo", "mnist_vit", 0, 1, [0.6, 0.0, 0.0])
    low, high = _figure(tmp_path).axes[0].get_ylim()
    assert 0.5 < low < 0.6 and 0.95 < high < 1


def test_what_is_long_after_the_last_crossing_is_left_out(tmp_path: Path) -> None:
    write_trial(tmp_path, "adamw", "mnist_vit", 0, 1, [0.5, 0.95])
    write_trial(tmp_path, "shampoo", "mnist_vit", 0, 1, [0.5] * 30)
    assert _figure(tmp_path).axes[0].get_xlim() == (0, 2.5 * 40)


def test_a_metric_that_spans_much_is_on_a_logarithmic_axis(tmp_path: Path) -> None:
    write_trial(tmp_path, "adamw", "stdlib_lm", 0, 1, [90.0, 60.0, 30.0, 10.0, 5.0])
    assert _figure(tmp_path, "stdlib_lm").axes[0].get_yscale() == "log"


def test_an_entry_without_evaluations_still_has_its_crossing(tmp_path: Path) -> None:
    for entry in ("adamw", "shampoo"):
        write_trial(tmp_path, entry, "mnist_vit", 0, 1, [0.5, 0.95])
    judged = judge_folder(tmp_path, "adamw")
    rival = judged.frame[judged.frame["submission"] == "adamw"]
    judged = dataclasses.replace(judged, frame=rival)
    figure = learning_curves(judged, "mnist_vit", entry_styles(judged.entries))
    assert figure is not None
    assert sum(line.get_marker() in ("o", "s") for line in figure.axes[0].lines) == 2
