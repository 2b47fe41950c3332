"""Ways to move a tied table: what is varied is the table alone, and the best rate is the lowest."""

import csv

import pytest
import torch

from scripts.benchmark import tied_table
from scripts.benchmark.tied_table import WAYS, WIDTH, WORDS, TiedModel
from scripts.local.environment import ROOT

ADAMW = "AdamW's step"


@pytest.mark.parametrize(
    ("way", "expected"),
    [
        ("preconditioned", "Shampoo, 32 x [128, 96]"),
        ("right side alone", "Shampoo, 1 x [4096, 96] right only"),
        ("AdamW's step", "AdamW (table: over max_dim=1000 and 8 times its other side)"),
    ],
)
def test_ways_differ_in_the_table_alone(way, expected):
    model = TiedModel()
    lines = repr(tied_table.make_optimizer(model, way, 0.01)).splitlines()
    others = repr(tied_table.make_optimizer(model, "preconditioned", 0.01)).splitlines()
    name = "    embedding.weight [4096, 96]: "
    (own,) = (line for line in lines if line.startswith(name))
    assert own == name + expected
    layers = [line for line in lines if " x " in line and not line.startswith(name)]
    assert len(layers) >= 3
    assert set(layers) <= set(others)


def test_the_output_layer_is_the_embedding():
    model = TiedModel()
    windows = torch.arange(2 * (tied_table.CONTEXT + 1)).view(2, -1)
    model.loss(windows).backward()
    grad = model.embedding.weight.grad
    assert grad.shape == (WORDS, WIDTH)
    assert (grad != 0).any(dim=1).all(), "words that are not in the batch have a gradient, too"


def test_rows_become_a_table_with_each_way_s_best_rate():
    rows = [
        {"way": way, "rate": rate, "seed": 0, "loss": 3.0 + number + abs(rate - 0.01), "ms": 50.0}
        for number, way in enumerate(WAYS)
        for rate in (0.003, 0.01, 0.03)
    ]
    rows.append({"way": "preconditioned", "rate": 0.01, "seed": 1, "loss": 3.125, "ms": 52.0})
    assert tied_table.best_rate(rows, "right side alone") == 0.01
    lines = tied_table.table(rows).splitlines()
    assert [cell.strip() for cell in lines[2].split("|")[1:-1]] == [
        *("preconditioned", "3.007", "3.000", "3.020", "3.000 3.125", "50"),
    ]
    rows[2]["loss"] = 1.0
    assert "1.000*" in tied_table.table(rows), "at the edge of the grid"


def test_what_the_entry_s_readme_says_of_the_committed_table():
    with (ROOT / "results/tied_table/tied_table.csv").open() as stream:
        rows = list(csv.DictReader(stream))
    numbers = [
        {**row, "rate": float(row["rate"]), "seed": int(row["seed"]), "loss": float(row["loss"])}
        for row in rows
    ]
    spans = {}
    for way in WAYS:
        best = tied_table.best_rate(numbers, way)
        losses = [row["loss"] for row in numbers if row["way"] == way and row["rate"] == best]
        assert len(losses) == tied_table.SEEDS
        assert 0.003 < best < 0.03, "not at the edge of the grid"
        spans[way] = f"{min(losses):.2f} to {max(losses):.2f}"
    text = " ".join((ROOT / "submission/entries/shampoo/README.md").read_text("utf-8").split())
    assert f"{spans['preconditioned']} with a preconditioned table" in text
    assert f"and {spans[ADAMW]} with AdamW's step for it" in text
    assert f"it was {spans['right side alone']}:" in text
