from matplotlib.figure import Figure

from tests.analysis.looks import flaws, texts


def test_texts_over_each_other_and_over_the_edge_are_found() -> None:
    figure = Figure(figsize=(3, 2))
    figure.text(0.1, 0.5, "one text here")
    figure.text(0.15, 0.52, "another")
    figure.text(0.9, 0.1, "too long for the page")
    figure.text(0.1, 0.9, "alone")
    assert flaws(figure) == [
        "'one text here' covers 'another'",
        "'too long for the page' is cut off",
    ]


def test_ticks_outside_of_the_axes_do_not_show() -> None:
    figure = Figure(figsize=(3, 2))
    axes = figure.add_axes((0.2, 0.2, 0.6, 0.6))
    axes.set_xticks([0, 1, 5], ["in", "also in", "out"])
    axes.set_xlim(0, 2)
    shown = [text for text, _ in texts(figure)]
    assert "in" in shown and "also in" in shown and "out" not in shown
