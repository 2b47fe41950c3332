from pathlib import Path

from matplotlib.figure import Figure
from PIL import Image

from analysis import published, style
from tests.analysis.made_up import FACTS
from workloads import registry


def test_no_two_submissions_of_a_leaderboard_look_alike() -> None:
    for version, rules in published.TRACKS:
        entries = set(published.read_trials(version, rules)["submission"])
        looks = [(look.color, look.line) for look in style.entry_styles(entries).values()]
        assert len(set(looks)) == len(entries), (version, rules)


def test_unknown_entries_get_looks_of_their_own() -> None:
    entries = ["adamw", *(f"entry_{number}" for number in range(12))]
    looks = [(look.color, look.line) for look in style.entry_styles(entries).values()]
    assert len(set(looks)) == len(entries)


def test_a_published_entry_keeps_its_look_unless_it_is_taken() -> None:
    alone = style.entry_styles([style.published_name("shampoo")])
    assert (
        alone[style.published_name("shampoo")].color
        == style.entry_styles(["shampoo"])["shampoo"].color
    )
    both = style.entry_styles([style.published_name("shampoo"), "shampoo"])
    assert len({look.color for look in both.values()}) == 2


def test_variants_look_like_their_base_but_hollow() -> None:
    facts = {name: registry.facts(name) for name in ("ogbg", "ogbg_gelu", "wmt")}
    looks = style.workload_styles(facts)
    assert looks["ogbg"].color == looks["ogbg_gelu"].color != looks["wmt"].color
    assert [look.hollow for look in looks.values()] == [False, True, False]
    assert len({look.marker for look in style.workload_styles(FACTS).values()}) == len(FACTS)


def test_pictures_repeat(tmp_path: Path) -> None:
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
        assert image.mode == "P" and image.size == (220, 110)
