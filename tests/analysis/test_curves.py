import dataclasses

import numpy as np
import pytest

from analysis.curves import learning_curves, median_curve
from analysis.style import entry_styles
from tests.analysis.conftest import judge_folder
from tests.analysis.made_up import write_trial


def _curve(*points):
    x, y = np.array(points, dtype=float).T
    return x, y


@pytest.mark.parametrize(
    ("curves", "reach", "grid", "last"),
    [
        ([_curve((20, 0.5), (40, 0.7), (60, 0.6))], 0.0, [20, 40, 60], 0.6),
        ([_curve((20, 0.1))], 0.0, [20], 0.1),
        # Each curve rises to 0.9 and stops; the middle one does so at 60.
        ([_curve((20, 0.1), (end, 0.9)) for end in (40, 60, 100)], 0.0, [20, 40, 60], 0.9),
        # Two studies stop early, of which one met the target; the last one decides the median.
        (
            [_curve((20, 0.1), point) for point in ((40, 0.9), (40, 0.2), (100, 0.9))],
            *(100.0, [20, 40, 100], 0.9),
        ),
    ],
)
def test_median_meets_the_target_where_the_median_study_does(curves, reach, grid, last):
    x, y = median_curve(curves, reach)
    assert x.tolist() == grid and y[-1] == pytest.approx(last)
    assert len(curves) == 1 or (y[:-1] < last).all()


def test_median_ignores_a_diverged_study():
    good = (np.array([20.0, 40.0]), np.array([2.0, 1.0]))
    bad = (np.array([20.0, 40.0]), np.array([2.0, 1e9]))
    assert median_curve([good, good, bad])[1].tolist() == [2.0, 1.0]


def _figure(root, workload="mnist_vit"):
    judged = judge_folder(root, "adamw")
    return learning_curves(judged, workload, entry_styles(judged.entries))


def test_the_crossing_is_where_the_median_study_meets_the_target(tmp_path):
    for study, hit in enumerate((2, 3, 4)):
        write_trial(tmp_path, "adamw", "mnist_vit", study, 1, [0.5] * (hit - 1) + [0.95])
    steps, seconds = _figure(tmp_path).axes
    for axes, crossing in ((steps, 60), (seconds, 3)):
        marks = [line for line in axes.lines if line.get_marker() == "s"]
        assert [(line.get_xdata()[0], line.get_ydata()[0]) for line in marks] == [
            (pytest.approx(crossing), 0.9)
        ]


def test_the_start_and_a_divergence_do_not_flatten_the_rest(tmp_path):
    write_trial(tmp_path, "adamw", "mnist_vit", 0, 1, [0.0] * 2 + [0.7] * 6 + [0.8, 0.95])
    write_trial(tmp_path, "shampoo", "mnist_vit", 0, 1, [0.6, 0.0, 0.0])
    low, high = _figure(tmp_path).axes[0].get_ylim()
    assert 0.5 < low < 0.6 and 0.95 < high < 1


def test_every_curve_is_drawn_to_its_end(tmp_path):
    write_trial(tmp_path, "adamw", "mnist_vit", 0, 1, [0.5] * 40)
    for study in range(3):
        write_trial(tmp_path, "adamw", "mnist_vit", 1 + study, 1, [0.5] * 30)
    write_trial(tmp_path, "shampoo", "mnist_vit", 0, 1, [0.5, 0.95])
    for axes, end in zip(_figure(tmp_path).axes, (800, 40.0), strict=True):
        left, right = axes.get_xlim()
        assert left == 0 and end <= right < 1.2 * end
        assert max(line.get_xdata().max() for line in axes.lines[:5]) == end


def test_a_dot_marks_a_trial_that_stopped_at_the_target(tmp_path):
    # Met and stopped at 40; met and trained on to the last step, 800; missed.
    write_trial(tmp_path, "shampoo", "mnist_vit", 0, 1, [0.5, 0.95])
    write_trial(tmp_path, "shampoo", "mnist_vit", 1, 1, [0.5, 0.95] + [0.97] * 38)
    write_trial(tmp_path, "adamw", "mnist_vit", 0, 1, [0.5] * 30)
    figure = _figure(tmp_path)
    for axes, end in zip(figure.axes, (40, 2.0), strict=True):
        dots = [line for line in axes.lines if line.get_marker() == "o" and line.get_alpha()]
        assert [(line.get_xdata()[0], line.get_ydata()[0]) for line in dots] == [(end, 0.95)]
        low, high = axes.get_ylim()
        assert low < 0.95 < high
    texts = [text.get_text() for text in figure.legends[0].get_texts()]
    assert "stopped, as it had met the target" in texts


def test_a_metric_that_spans_much_is_on_a_logarithmic_axis(tmp_path):
    write_trial(tmp_path, "adamw", "stdlib_lm", 0, 1, [90.0, 60.0, 30.0, 10.0, 5.0])
    assert _figure(tmp_path, "stdlib_lm").axes[0].get_yscale() == "log"


def test_an_entry_without_evaluations_still_has_its_crossing(tmp_path):
    for entry in ("adamw", "shampoo"):
        write_trial(tmp_path, entry, "mnist_vit", 0, 1, [0.5, 0.95])
    judged = judge_folder(tmp_path, "adamw")
    rival = judged.frame[judged.frame["submission"] == "adamw"]
    judged = dataclasses.replace(judged, frame=rival)
    figure = learning_curves(judged, "mnist_vit", entry_styles(judged.entries))
    large = [line for line in figure.axes[0].lines if line.get_markersize() > 6.1]
    assert sorted(line.get_marker() for line in large) == ["o", "s"]
