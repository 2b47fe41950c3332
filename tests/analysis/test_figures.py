"""Every figure, of a small pool and of eleven submissions on eighteen workloads."""

import math
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure

from analysis import bars, curves, factors, figures, heat, profile_figure, published, sheet
from analysis.judgement import Judgement, judge_trials
from analysis.style import entry_styles, published_name
from tests.analysis.judging import judge_folder, judge_published
from tests.analysis.looks import flaws, texts
from tests.analysis.made_up import write_study, write_trial
from workloads.rulesets import ruleset


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Judgement:
    root = write_study(tmp_path_factory.mktemp("small"), trials=2)
    write_trial(root, "a_rather_long_name_of_an_entry", "mnist_vit", 0, 1, [0.5, 0.95])
    return judge_folder(root, "adamw")


@pytest.fixture(scope="module")
def large() -> Judgement:
    return judge_published("v0.5")


@pytest.fixture(scope="module")
def drawn_small(small: Judgement) -> dict[str, Figure | None]:
    return dict(_drawn(small))


@pytest.fixture(scope="module")
def drawn_large(large: Judgement) -> dict[str, Figure | None]:
    return dict(_drawn(large))


def _drawn(judged: Judgement) -> Iterator[tuple[str, Figure | None]]:
    styles = entry_styles(judged.entries)
    yield "sheet", sheet.summary_sheet(judged, styles)
    yield "seconds", bars.time_to_target_bars(judged, "seconds", styles)
    yield "steps", bars.time_to_target_bars(judged, "steps", styles)
    yield "factors", factors.factor_plot(judged)
    yield "step_cost", heat.step_cost(judged)
    yield "profiles", profile_figure.performance_profiles(judged, styles)
    for workload in judged.facts:
        yield workload, curves.learning_curves(judged, workload, styles)


@pytest.mark.parametrize("pool", ["small", "large"])
def test_no_text_covers_another_or_is_cut_off(pool: str, request: pytest.FixtureRequest) -> None:
    made = request.getfixturevalue(f"drawn_{pool}")
    drawn = {name: figure for name, figure in made.items() if figure is not None}
    assert set(drawn) >= {"sheet", "seconds", "steps", "step_cost", "profiles"}
    for name, figure in drawn.items():
        assert flaws(figure) == [], name


def test_published_submissions_fit_beside_ones_own() -> None:
    theirs = published.read_trials("v0.5")
    ours = theirs[theirs["submission"] == "shampoo_submission"].assign(submission="shampoo")
    theirs = theirs.assign(submission=theirs["submission"].map(published_name))
    pool = pd.concat([ours, theirs], ignore_index=True)
    judged = judge_trials(pool, ruleset("v0.5"), published_name("baseline"), resamples=10)
    styles = entry_styles(judged.entries)
    figure = sheet.summary_sheet(judged, styles)
    assert flaws(figure) == []
    said = [text for text, _ in texts(figure)]
    assert any(text.endswith("† published runs of the leaderboard.") for text in said)
    assert styles["shampoo"].color != styles[published_name("shampoo_submission")].color


def test_published_trials_have_no_curves(drawn_large: dict[str, Figure | None]) -> None:
    assert drawn_large["wmt"] is None


def _said(figure: Figure | None) -> list[str]:
    assert figure is not None
    return [text for text, _ in texts(figure)]


def test_sheet_has_the_scores_and_the_baselines_name(
    drawn_large: dict[str, Figure | None],
) -> None:
    said = _said(drawn_large["sheet"])
    assert "AlgoPerf v0.5, external tuning ruleset" in said
    assert "0.778  (7 reached)" in said and "time to target / Baseline NAdamW's" in said


def test_standins_are_called_so(drawn_small: dict[str, Figure | None]) -> None:
    said = _said(drawn_small["sheet"])
    assert any("not AlgoPerf results" in text for text in said)


def test_the_heat_map_has_every_cost_ratio(
    large: Judgement, drawn_large: dict[str, Figure | None]
) -> None:
    said = _said(drawn_large["step_cost"])
    rows = large.cells[
        (large.cells["submission"] == "shampoo_submission") & (large.cells["workload"] == "wmt")
    ]
    assert f"{rows['steady_cost_ratio'].iloc[0]:.2f}" in said
    # Of workloads that only the baseline has run there is nothing to compare.
    assert "ogbg" in said and "ogbg_gelu" not in said


def test_dark_cells_have_light_text(drawn_large: dict[str, Figure | None]) -> None:
    figure = drawn_large["step_cost"]
    assert figure is not None
    cells = {text.get_text(): text.get_color() for text in figure.axes[0].texts}
    assert cells["610"] == "white" and cells["1.00"] != "white"


def test_misses_are_marked_in_the_ratios(small: Judgement, large: Judgement) -> None:
    ratios, said = heat.time_ratios(large)
    assert said.loc["imagenet_resnet", "shampoo_submission"] == "✗"
    assert said.loc["imagenet_resnet", "generalized_adam"] == "✓"
    assert said.loc["criteo1tb", "caspr_adaptive"] == "–"
    assert said.loc["imagenet_vit", "shampoo_submission"] == "0.47"
    assert np.isinf(ratios.loc["criteo1tb", "amos"])
    assert "ogbg_gelu" not in ratios.index


def test_a_factor_is_drawn_where_its_ratios_are(
    large: Judgement, drawn_large: dict[str, Figure | None]
) -> None:
    figure = drawn_large["factors"]
    assert figure is not None
    ratios = large.intervals.ratios.set_index(["submission", "workload"])
    row = ratios.loc[("shampoo_submission", "imagenet_vit")]
    drawn = {
        (line.get_xdata()[0], line.get_ydata()[0])
        for line in figure.axes[0].lines
        if len(line.get_xdata()) == 1
    }
    assert (row["steps_ratio"], row["step_cost_ratio"]) in drawn
    # Those that count a hundred steps as one are left out.
    titles = [text.get_text() for axes in figure.axes for text in axes.texts]
    assert "Distributed Shampoo" in titles and "LAWA Queue" not in titles


def test_without_a_comparison_there_is_no_figure(tmp_path: Path) -> None:
    write_trial(tmp_path, "adamw", "mnist_vit", 0, 1, [0.5, 0.95])
    alone = judge_folder(tmp_path, "adamw")
    styles = entry_styles(["adamw"])
    nothing: list[Callable[[], Figure | None]] = [
        lambda: bars.time_to_target_bars(alone, "steps", styles),
        lambda: factors.factor_plot(alone),
        lambda: heat.step_cost(alone),
    ]
    assert [make() for make in nothing] == [None] * 3


def test_without_a_baseline_the_rest_is_drawn(tmp_path: Path) -> None:
    for entry in ("shampoo", "muon"):
        write_trial(tmp_path, entry, "mnist_vit", 0, 1, [0.5, 0.95])
    judged = judge_folder(tmp_path)
    assert judged.baseline is None
    drawn = {name for name, figure in _drawn(judged) if figure is not None}
    assert drawn == {"sheet", "profiles", "mnist_vit"}


def test_profiles_are_the_judgements(
    small: Judgement, drawn_small: dict[str, Figure | None]
) -> None:
    figure = drawn_small["profiles"]
    assert figure is not None
    main = figure.axes[-1]
    first = small.intervals.profiles.query("submission == @small.entries[0]")
    assert main.lines[0].get_ydata().tolist() == first["rho"].tolist()
    assert math.isclose(main.get_xlim()[1], 4)
    # One panel for all, and one with a band for each.
    assert len(figure.axes) == 1 + len(small.entries)


def test_draws_what_there_is_and_removes_what_is_not(tmp_path: Path) -> None:
    write_trial(tmp_path / "logs", "adamw", "mnist_vit", 0, 1, [0.5, 0.95])
    for stale in ("learning_curves_gone.png", "factors.svg", "notes.txt"):
        (tmp_path / stale).touch()
    paths = figures.draw(judge_folder(tmp_path / "logs", "adamw"), tmp_path)
    found = {path.name for path in tmp_path.iterdir()}
    assert found == {path.name for path in paths} | {"logs", "notes.txt"}
    stems = ["summary", "performance_profiles", "learning_curves_mnist_vit"]
    assert [path.stem for path in paths if path.suffix == ".svg"] == stems
