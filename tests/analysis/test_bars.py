from pathlib import Path

import pytest
from matplotlib.figure import Figure

from analysis import bars
from analysis.style import entry_styles
from tests.analysis.judging import judge_folder
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


def test_bars_show_the_tables_ratios(tmp_path: Path) -> None:
    write_trial(tmp_path, "adamw", "mnist_vit", 0, 1, [0.5, 0.95], seconds_per_step=0.3)
    write_trial(tmp_path, "shampoo", "mnist_vit", 0, 1, [0.5, 0.5, 0.95], seconds_per_step=0.1)
    assert _labels(_figure(tmp_path)) == ["1.50", "1.00"]
    figure = _figure(tmp_path, "seconds")
    assert _labels(figure) == ["0.50", "1.00"]
    bar = figure.axes[0].patches[0]
    assert (bar.get_x(), bar.get_width()) == pytest.approx((1, -0.5))


def test_a_bound_has_an_end_but_no_length(tmp_path: Path) -> None:
    write_trial(tmp_path, "adamw", "mnist_vit", 0, 1, [0.5] * 5)
    write_trial(tmp_path, "shampoo", "mnist_vit", 0, 1, [0.5, 0.5, 0.95])
    write_trial(tmp_path, "nadamw", "mnist_vit", 0, 1, [0.5] * 7 + [0.95])
    figure = _figure(tmp_path)
    # Longer than AdamW ran says nothing about who is faster.
    assert _labels(figure) == ["≤0.60", "reached", "missed"]
    assert [patch.get_hatch() for patch in figure.axes[0].patches] == ["////"]
    (legend,) = figure.legends
    said = [text.get_text() for text in legend.get_texts()]
    assert any(text.startswith("≤, an upper bound: AdamW's median study misses") for text in said)
    assert "reached, where AdamW's median study misses" in said


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
