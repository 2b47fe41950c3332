"""Every figure of a small pool, and those of eleven submissions that are most crowded."""

import math

import numpy as np
import pytest
from matplotlib.figure import Figure
from PIL import Image

from analysis import curves, factors, figures, heat, profile_figure, published, sheet, style
from analysis.headline import headline
from analysis.style import entry_styles
from tests.analysis.conftest import judge_folder, judge_published
from tests.analysis.looks import flaws, strays, texts
from tests.analysis.made_up import FACTS, LEAGUE, write_trial
from workloads import registry


def _draw(judged):
    styles = entry_styles(judged.entries)
    return {
        "sheet": sheet.summary_sheet(judged, styles),
        "factors": factors.factor_plot(judged),
        "step_cost": heat.step_cost(judged),
        "profiles": profile_figure.performance_profiles(judged, styles),
        **{name: curves.learning_curves(judged, name, styles) for name in judged.facts},
    }


@pytest.fixture(scope="module")
def drawn(small):
    return _draw(small)


@pytest.fixture(scope="module")
def large_sheet():
    judged = judge_published("v0.5")
    return sheet.summary_sheet(judged, entry_styles(judged.entries))


def _texts(figure):
    return [text for text, _ in texts(figure)]


def test_no_text_covers_another(drawn):
    for name, figure in drawn.items():
        assert figure is not None and flaws(figure) == [], name
    crowded = Figure(figsize=(3, 2))
    crowded.text(0.1, 0.5, "one text here")
    crowded.text(0.15, 0.52, "another")
    assert flaws(crowded) == ["'one text here' covers 'another'"]


def test_a_crowds_figures_can_be_read(league):
    if len(league.facts) > 2:
        pytest.skip("two workloads have as crowded panels as nine")
    for name, figure in _draw(league).items():
        assert figure is not None, name
        assert flaws(figure) == [] and strays(figure) == [], name


def test_the_sheet_is_full_and_no_text_leaves_its_frame(league, drawn, large_sheet):
    sheets = [sheet.summary_sheet(league, entry_styles(league.entries)), large_sheet]
    for figure in (*sheets, drawn["sheet"]):
        assert flaws(figure) == [] and strays(figure) == []
        # All panels end where the page does, and together cover most of it.
        width, height = figure.bbox.max
        boxes = [axes.get_tightbbox().frozen() for axes in figure.axes]
        assert max(box.x1 for box in boxes) > 0.9 * width
        assert sum(box.width * box.height for box in boxes) > 0.6 * width * height
    crowded = Figure(figsize=(3, 2))
    crowded.add_axes((0.5, 0.2, 0.4, 0.6), title="panel").set_axis_off()
    crowded.text(0.4, 0.5, "a text that is too long for the page")
    assert any("reaches into" in text for text in strays(crowded))
    assert any("leaves the page" in text for text in strays(crowded))


def test_sheet_has_scores_ratios_and_the_names_of_suite_and_baseline(drawn, large_sheet):
    assert any("not AlgoPerf results" in text for text in _texts(drawn["sheet"]))
    shown = _texts(large_sheet)
    assert "AlgoPerf v0.5, external tuning ruleset" in shown
    assert "0.778  (7 reached)" in shown and "time to target / Baseline NAdamW's" in shown


def test_published_trials_have_no_curves_and_no_step_cost_of_lone_workloads():
    judged = judge_published("v0.5")
    styles = entry_styles(judged.entries)
    assert curves.learning_curves(judged, "wmt", styles) is None
    figure = heat.step_cost(judged)
    cells = judged.cells.set_index(["submission", "workload"])["steady_cost_ratio"]
    shown = _texts(figure)
    assert f"{cells['shampoo_submission', 'wmt']:.2f}" in shown
    rows = [text.split()[0] for text in shown if text.endswith(" ms")]
    assert "ogbg" in rows and "ogbg_gelu" not in rows
    # Dark cells have light text.
    inks = {text.get_text(): text.get_color() for text in figure.axes[0].texts}
    assert inks["610"] == heat.ON_DARK and inks["1.00"] == heat.ON_LIGHT


def test_misses_are_marked_in_the_ratios():
    ratios, cells = heat.time_ratios(judge_published("v0.5"))
    assert cells.loc["imagenet_resnet", "shampoo_submission"] == "✗"
    assert cells.loc["imagenet_resnet", "generalized_adam"] == "✓"
    assert cells.loc["criteo1tb", "caspr_adaptive"] == "–"
    assert cells.loc["imagenet_vit", "shampoo_submission"] == "0.47"
    assert np.isinf(ratios.loc["criteo1tb", "amos"])
    assert "ogbg_gelu" not in ratios.index


def test_a_factor_is_drawn_where_its_ratios_are(small, drawn):
    figure = drawn["factors"]
    ratios = small.intervals.ratios.set_index(["submission", "workload"])
    row = ratios.loc[("shampoo", "mnist_vit")]
    titles = [axes.get_title(loc="left") for axes in figure.axes]
    lines = figure.axes[titles.index("Shampoo")].lines
    points = {tuple(np.ravel(line.get_xydata())) for line in lines if len(line.get_xdata()) == 1}
    assert (row["steps_ratio"], row["step_cost_ratio"]) in points


def test_without_a_comparison_there_is_no_figure(tmp_path):
    write_trial(tmp_path, "adamw", "mnist_vit", 0, 1, [0.5, 0.95])
    alone = judge_folder(tmp_path, "adamw")
    assert headline(alone, "steps", entry_styles(["adamw"])) is None
    assert factors.factor_plot(alone) is None and heat.step_cost(alone) is None


def test_without_a_baseline_the_rest_is_drawn(tmp_path):
    for entry in ("shampoo", "muon"):
        write_trial(tmp_path, entry, "mnist_vit", 0, 1, [0.5, 0.95])
    judged = judge_folder(tmp_path)
    assert judged.baseline is None
    made = {name for name, figure in _draw(judged).items() if figure is not None}
    assert made == {"sheet", "profiles", "mnist_vit"}


def test_profiles_are_the_judgements(small, drawn):
    figure = drawn["profiles"]
    first = small.intervals.profiles.query("submission == @small.entries[0]")
    assert figure.axes[0].lines[0].get_ydata().tolist() == first["rho"].tolist()
    assert math.isclose(figure.axes[0].get_xlim()[1], 4)
    # One panel for all, and one with a band for each.
    assert len(figure.axes) == 1 + len(small.entries)


def test_draws_what_there_is_and_removes_stale_figures(tmp_path):
    write_trial(tmp_path / "logs", "adamw", "mnist_vit", 0, 1, [0.5, 0.95])
    for stale in ("learning_curves_gone.png", "factors.svg", "notes.txt"):
        (tmp_path / stale).touch()
    paths = figures.draw(judge_folder(tmp_path / "logs", "adamw"), tmp_path)
    names = {path.name for path in tmp_path.iterdir()}
    assert names == {path.name for path in paths} | {"logs", "notes.txt"}
    stems = ["summary", "performance_profiles", "learning_curves_mnist_vit"]
    assert [path.stem for path in paths if path.suffix == ".svg"] == stems


def test_no_two_entries_look_alike():
    pools = [published.read_trials(*track)["submission"].unique() for track in published.TRACKS]
    pools.append(np.array([*LEAGUE, "meta_kl_shampoo", "shampoo_jax"]))
    pools.append(np.array(["adamw", *(f"entry_{number}" for number in range(12))]))
    for entries in pools:
        looks = [(look.color, look.line) for look in entry_styles(entries).values()]
        assert len(set(looks)) == len(entries)


def test_a_published_entry_has_its_usual_look_unless_it_is_taken():
    name = style.published_name("shampoo")
    assert entry_styles([name])[name].color == entry_styles(["shampoo"])["shampoo"].color
    assert len({look.color for look in entry_styles([name, "shampoo"]).values()}) == 2


def test_variants_look_like_their_base_but_hollow():
    facts = {name: registry.facts(name) for name in ("ogbg", "ogbg_gelu", "wmt")}
    looks = style.workload_styles(facts)
    assert looks["ogbg"].color == looks["ogbg_gelu"].color != looks["wmt"].color
    assert [look.hollow for look in looks.values()] == [False, True, False]
    assert len({look.marker for look in style.workload_styles(FACTS).values()}) == len(FACTS)


def test_pictures_repeat(tmp_path):
    figure = Figure(figsize=(2, 1))
    figure.text(0.1, 0.5, "x")
    paths = style.save(figure, tmp_path, "x")
    first = [path.read_bytes() for path in paths]
    assert [path.suffix for path in paths] == [".png", ".svg"]
    style.save(figure, tmp_path, "x")
    assert [path.read_bytes() for path in paths] == first
    assert style.png(figure) == style.png(figure)
    (tmp_path / "small.png").write_bytes(style.png(figure))
    with Image.open(tmp_path / "small.png") as image:
        assert image.mode == "P"
