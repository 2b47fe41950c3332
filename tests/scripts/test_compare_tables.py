"""Comparisons: variant files, tables, and the document of heuristics."""

import dataclasses
import json
import math
from pathlib import Path
from typing import Any

import pytest

from common import documents
from common.cli import UserError
from scripts.compare import __main__ as compare
from scripts.compare import heuristics, worker
from scripts.compare import table as compare_table
from scripts.compare.chain import Chain
from scripts.compare.plan import Variant, read_variants
from scripts.local import environment, rivals
from scripts.local.metrics_log import read_csv
from submission.shampoo import ShampooConfig
from tests.scripts.tiny_comparison import (
    GOOD,
    TINY,
    WORKLOAD,
    Write,
    chain_of,
    comparison,
    following,
    pretend,
)
from workloads import registry

VARIANTS = environment.ROOT / "scripts" / "variants"


@pytest.fixture(autouse=True)
def tiny(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(registry._ALL.maps[0], WORKLOAD, TINY)  # type: ignore[attr-defined]


# Files.


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"more": 1}, "settings and variants"),
        ({"settings": {"betas": [0.9, 0.99]}}, "lacks 'eps'"),
        ({"settings": GOOD["settings"] | {"momentum": 1}}, "unknown key 'momentum'"),
        ({"variants": {}}, "at least one"),
        ({"variants": {"a": {}}}, "a: lacks 'optimizer'"),
        ({"variants": {"a/b": {"optimizer": "adamw"}}}, "cannot be a variant's name"),
        ({"variants": {"a": {"optimizer": "adamw", "options": []}}}, "so must its options"),
        ({"variants": {"a": {"optimizer": "adamw", "baseline": "b"}}}, "'b' is no variant"),
        (
            {"variants": {"a": {"optimizer": "adamw", "schedule": "constnat"}}},
            "a: schedule 'constnat'; cosine, constant; did you mean constant",
        ),
        ({"variants": {"a": {"optimizer": "adamw", "schedule": 1}}}, "a: schedule 1; cosine"),
    ],
)
def test_malformed_variants_are_refused(
    write_json: Write, change: dict[str, Any], message: str
) -> None:
    path = write_json("variants.json", GOOD | change)
    with pytest.raises(UserError, match=message):
        read_variants(path)


def test_only_some_variants(write_json: Write) -> None:
    two = {"a": {"optimizer": "adamw"}, "b": {"optimizer": "nadamw"}}
    path = write_json("variants.json", GOOD | {"variants": two})
    assert [variant.name for variant in read_variants(path, ["b"])[1]] == ["b"]
    with pytest.raises(UserError, match="unknown variant 'c'"):
        read_variants(path, ["c"])


def test_peers_are_known_and_share_the_ablations_settings() -> None:
    settings, peers = read_variants(VARIANTS / "peers.json")
    assert {peer.optimizer for peer in peers} <= {*rivals.available(), *rivals.absent()}
    assert settings == read_variants(VARIANTS / "ablations.json")[0]


def test_ablations_change_options_that_exist() -> None:
    settings, variants = read_variants(VARIANTS / "ablations.json")
    defaults = ShampooConfig()
    shared = dataclasses.asdict(settings)
    del shared["warmup_factor"]
    seen = set()
    for variant in variants:
        method = heuristics.METHODS.get(variant.optimizer, "shampoo")
        options = worker.with_dtypes(shared | dict(variant.options))
        config = ShampooConfig(method=method, **options)  # type: ignore[arg-type]
        for name, value in variant.options.items():
            assert value != shared.get(name, getattr(defaults, name)), (variant.name, name)
        seen.add(config.method)
        assert json.dumps([variant.optimizer, *sorted(variant.options.items())]) not in seen
        seen.add(json.dumps([variant.optimizer, *sorted(variant.options.items())]))
    assert {"shampoo", "soap", "kl_shampoo"} <= seen


# Tables.


def chosen_chains(folder: Path) -> list[Chain]:
    """Three variants; steps to the target [10, -, 20], [15, 15, 15] and [-, -, -]."""
    names = ("base", "other", "never")
    plan = comparison(
        *(Variant(name, "adamw") for name in names), learning_rates=(0.1,), baseline="base"
    )
    chains = [Chain(plan, variant, WORKLOAD, folder) for variant in plan.variants]
    curves: tuple[tuple[dict[int, float], ...], ...] = (
        ({5: 0.454, 10: 0.44}, {10: 0.454, 40: 0.453}, {20: 0.44}),
        ({15: 0.45},) * 3,
        ({40: 0.6}, {40: 0.7}, {40: 0.8}),
    )
    for chain, of in zip(chains, curves, strict=True):
        for curve in of:
            pretend(chain, following(chain), curve)
        assert chain.progress().following is None
    return chains


def test_rows_are_medians_and_ratios(tmp_path: Path) -> None:
    base, other, never = compare_table.rows_of(chosen_chains(tmp_path))
    assert (base.steps, base.reached, base.median_steps, base.ratio) == ("10 - 20", 2, 20, 1.0)
    assert (base.near_median_steps, base.best_validation) == (10, 0.44)
    assert (other.median_steps, other.ratio, other.ratio_bound) == (15, 0.75, "")
    assert (other.near_ratio, other.near_ratio_bound) == (1.5, "")
    assert (never.median_steps, never.ratio, never.ratio_bound) == (math.inf, 2.0, ">")
    assert (never.best_validation, never.learning_rate, never.at_edge) == (0.7, 0.1, False)
    assert base.milliseconds_per_step == pytest.approx(10)


def test_tables_are_written_and_read_back(tmp_path: Path) -> None:
    chains = chosen_chains(tmp_path / "logs")
    rows = compare_table.rows_of(chains)
    compare.write_tables(chains[0].comparison, chains, rows, tmp_path)
    back = read_csv(tmp_path / "compare.csv", compare_table.COLUMNS)
    assert back == [
        {name: str(cell) for name, cell in compare_table.as_cells(row).items()} for row in rows
    ]
    content = json.loads((tmp_path / "compare.json").read_text())
    assert len(content["trials"]) == 9
    assert [row["steps_to_target"] for row in content["trials"][:3]] == [10, None, 20]
    assert content["comparison"] == json.loads(json.dumps(dataclasses.asdict(chains[0].comparison)))
    text = (tmp_path / "compare.md").read_text()
    assert "| 20 (1.00) " in text and "| not reached (> 2.00) " in text


def test_edges_of_the_grid_are_marked(tmp_path: Path) -> None:
    chain = chain_of(tmp_path, seeds=1, learning_rates=(0.1, 0.01, 1.0))
    for curve in ({40: 0.9}, {40: 0.8}, {40: 0.95}):
        pretend(chain, following(chain), curve)
    (row,) = compare_table.rows_of([chain])
    assert row.at_edge and "| 0.01*" in compare_table.markdown([row])


def test_a_line_per_variant_names_best_rates_at_the_edge(tmp_path: Path) -> None:
    chains = chosen_chains(tmp_path)
    rows = compare_table.rows_of(chains)
    assert compare_table.edges(rows, (0.1,)) == []
    moved = [
        dataclasses.replace(rows[0], at_edge=True, learning_rate=0.01),
        dataclasses.replace(rows[0], at_edge=True, workload="stdlib_lm"),
        rows[1],
    ]
    (line,) = compare_table.edges(moved, (0.1, 0.01, 0.03))
    assert line.startswith("base: the best learning rate is at the edge of the grid (0.01 to 0.1)")
    assert f" on {WORKLOAD} (0.01), stdlib_lm (0.1);" in line
    plan = dataclasses.replace(chains[0].comparison, seeds=1)
    one_rate, one_seed = compare.caveats(plan, rows)
    assert one_rate.startswith("one learning rate") and one_seed.startswith("one seed")
    wide = dataclasses.replace(plan, learning_rates=(0.1, 0.01), seeds=3)
    assert len(compare.caveats(wide, moved)) == 1


def test_a_row_under_another_schedule_is_none_of_a_variants(tmp_path: Path) -> None:
    cosine, constant = Variant("a", "adamw"), Variant("a", "adamw", schedule="constant")
    chain = chain_of(tmp_path, cosine, seeds=1, learning_rates=(0.1,))
    pretend(chain, following(chain), {20: 0.4})
    (row,) = compare_table.rows_of([chain])
    cells = [{name: str(cell) for name, cell in compare_table.as_cells(row).items()}]
    assert heuristics.measured(cosine, cells) == "`` | 1.00 (1.00)"
    assert heuristics.measured(constant, cells) == "``, constant learning rate | –"
    assert constant.changes == {"schedule": "constant"} and cosine.changes == {}


# The document.


def test_the_document_says_what_was_measured() -> None:
    text = heuristics.DOCUMENT.read_text("utf-8")
    _, variants = read_variants(heuristics.VARIANTS)
    committed = heuristics.committed_rows()
    assert text == heuristics.filled(text, variants, committed)
    assert sorted(documents.named(text)) == sorted(
        variant.name for variant in variants if variant.name != "default"
    )
    header = f"| changed | {' | '.join(heuristics.workloads(committed))} |\n"
    rows = text.split(header)[1:]
    assert sum(row.split("\n\n")[0].count("<!--table: ") for row in rows) == len(variants) - 1


def test_the_document_names_every_option() -> None:
    text = heuristics.DOCUMENT.read_text("utf-8")
    options = [field.name for field in dataclasses.fields(ShampooConfig)]
    missing = [name for name in options if f"`{name}`" not in text and f"`{name}=" not in text]
    assert missing == ["lr", "maximize", "fused", "capturable"], "torch's own"


def test_measured_figures_are_filled_in(tmp_path: Path) -> None:
    rows = [
        {name: str(cell) for name, cell in compare_table.as_cells(row).items()}
        for row in compare_table.rows_of(chosen_chains(tmp_path))
    ]
    variants = [Variant("other", "adamw"), Variant("never", "adamw")]
    text = "| <!--table: other-->old<!--/--><br><!--table: never--><!--/--> |"
    full = heuristics.filled(text, variants, rows)
    assert full == (
        "| <!--table: other-->`` | 0.75 (1.50)<!--/--><br>"
        "<!--table: never-->`` | > 2.00 (> 4.00)<!--/--> |"
    )
    assert heuristics.filled(full, variants, rows) == full
    changed = dataclasses.replace(variants[0], options={"eps": 1.0})
    assert heuristics.measured(changed, rows) == "`eps=1` | –"
    with pytest.raises(UserError, match="'never'"):
        heuristics.filled(text, variants[:1], rows)
