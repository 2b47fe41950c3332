import numpy as np
import pytest

from analysis.curves import median_curve


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
