import csv
import itertools

import numpy as np
import pytest
import torch

from common.cli import UserError
from submission.algoperf_api import spec
from workloads import prng
from workloads.standin import molecules_gnn
from workloads.standin.average_precision import average_precision, mean_average_precision
from workloads.standin.molecules_gnn import (
    ELEMENTS,
    LABELS,
    MAX_ATOMS,
    QUANTITIES,
    SIZES,
    MoleculesGnnWorkload,
    extremes,
    graph_tables,
    read_row,
    spread_rows,
)
from workloads.standin.packaged_data import locate
from workloads.standin.smiles import parse

KEY = prng.key(3)


@pytest.fixture(scope="module")
def molecules():
    return MoleculesGnnWorkload()


@pytest.fixture(scope="module")
def model(molecules):
    return molecules.init_model_fn(KEY)[0]


def evaluate(molecules, model, smiles):
    atoms, bonds = (torch.from_numpy(table) for table in graph_tables(smiles))
    batch = {"inputs": atoms, "bonds": bonds}
    return molecules.model_fn(model, batch, None, spec.ForwardPassMode.EVAL, None, False)[0]


def naive_average_precision(positive, scores):
    """Precision times the recall gained, threshold by threshold, from the definition."""
    total, recall = 0.0, 0.0
    for threshold in sorted(set(scores), reverse=True):
        taken = [hit for hit, score in zip(positive, scores, strict=True) if score >= threshold]
        total += (sum(taken) / sum(positive) - recall) * sum(taken) / len(taken)
        recall = sum(taken) / sum(positive)
    return total


@pytest.mark.parametrize("levels", [3, 10_000])
def test_average_precision_is_that_of_its_definition(levels):
    generator = np.random.default_rng(0)
    for examples in (2, 7, 60):
        positive = generator.random(examples) < 0.3
        positive[:2] = True, False
        scores = generator.integers(0, levels, examples).astype(np.float32)
        expected = naive_average_precision(positive.tolist(), scores.tolist())
        assert average_precision(positive, scores) == pytest.approx(expected, rel=1e-12)


def test_only_labels_with_both_classes_among_known_entries_count():
    targets = np.array([[1, 0, 1, 0], [0, 0, 1, 1], [1, 0, 1, 1]], dtype=np.float32)
    scores = np.array([[1, 9, 9, 1], [2, 8, 8, 2], [3, 7, 7, 3]], dtype=np.float32)
    known = np.array([[True] * 4, [True] * 4, [True, True, True, False]])
    by_hand = ((1 + 2 / 3) / 2 + 1) / 2
    assert mean_average_precision(targets, scores, known) == pytest.approx(by_hand)
    known[:, 0] = [True, False, True]
    assert mean_average_precision(targets, scores, known) == 1
    assert np.isnan(mean_average_precision(targets, scores, np.zeros_like(known)))


def test_the_metric_is_that_of_all_batches_together(molecules, model):
    result = molecules._eval_model_on_split("test", 200, 64, model, None, KEY, "")
    table = {key: values[:200] for key, values in molecules.tables["test"].items()}
    logits = molecules.model_fn(model, table, None, spec.ForwardPassMode.EVAL, None, False)[0]
    values = []
    for label in range(LABELS):
        rows = table["weights"][:, label] == 1
        positive = (table["targets"][rows, label] == 1).tolist()
        if 0 < sum(positive) < len(positive):
            values.append(naive_average_precision(positive, logits[rows, label].tolist()))
    assert len(values) > LABELS / 2
    assert result["mean_average_precision"] == pytest.approx(np.mean(values), abs=1e-3)


def test_rows_are_spread_over_the_file_and_read_as_a_csv_reader_does():
    path = locate("qm9pack", molecules_gnn.PARTS[0])
    with path.open(newline="") as file:
        first = list(itertools.islice(csv.DictReader(file), 3))
    header, rows = spread_rows(path, 50)
    assert header == list(first[0]) and len(set(rows)) == 50
    smiles, inchi, values = read_row(header, rows[0])
    assert (smiles, inchi) == (first[0]["SMILES"], first[0]["InChi"])
    assert values == [float(first[0][name]) for name in QUANTITIES]
    indices = np.array([int(row.split(",")[1]) for row in rows])
    assert (np.diff(indices) > 0).all() and np.diff(indices).max() < 0.05 * indices[-1]


def test_splits_share_no_molecule(molecules):
    lines_of = {split: set(lines) for split, (lines, _) in molecules._raw.items()}
    graphs = {
        split: {
            (atoms.numpy().tobytes(), bonds.numpy().tobytes())
            for atoms, bonds in zip(table["inputs"], table["bonds"], strict=True)
        }
        for split, table in molecules.load_tables().items()
    }
    for sets in (lines_of, graphs):
        assert {split: len(rows) for split, rows in sets.items()} == SIZES
        assert len(set.union(*sets.values())) == sum(SIZES.values())


def test_a_molecule_s_tables_by_hand():
    atoms, bonds = graph_tables([parse("C"), parse("C[NH2+]C=O")])
    carbon, nitrogen = ([float(e == element) for element in ELEMENTS] for e in ("C", "N"))
    assert atoms[0, 0].tolist() == [*carbon, 0, 4, 0] and not bonds[0].any()
    assert atoms[1, 1].tolist() == [*nitrogen, 1, 2, 2]
    assert bonds[1, :6].tolist() == [
        [1, 0, 1], [1, 1, 0], [1, 1, 2], [1, 2, 1], [2, 2, 3], [2, 3, 2],
    ]  # fmt: skip
    assert not atoms[1, 4:].any() and not bonds[1, 6:].any()


def test_labels_are_the_extremes_of_the_training_rows(molecules):
    reference = np.arange(1000, dtype=float)[:, None]
    labels = extremes(np.array([[0.0], [70.0], [500.0], [820.0], [2000.0]]), reference)
    assert labels.tolist() == [
        [1, 1, 1, 0, 0, 0],
        [0, 1, 1, 0, 0, 0],
        [0, 0, 0, 0, 0, 0],
        [0, 0, 0, 0, 0, 1],
        [0, 0, 0, 1, 1, 1],
    ]
    train = molecules.tables["train"]
    shares = train["targets"].sum(0) / train["weights"].sum(0)
    expected = np.repeat([*molecules_gnn.SHARES] * 2, len(QUANTITIES))
    np.testing.assert_allclose(shares.numpy(), expected, atol=0.02)


def test_a_fifth_of_the_labels_is_missing_and_moves_neither_loss_nor_gradient(molecules, model):
    batch = next(molecules._build_input_queue(KEY, "train", "", 64))
    missing = batch["weights"] == 0
    assert missing.float().mean().item() == pytest.approx(molecules_gnn.MISSING, abs=0.03)
    assert not batch["targets"][missing].any()
    logits = torch.zeros(64, LABELS, requires_grad=True)
    loss = molecules.loss_fn(batch["targets"], logits, batch["weights"])
    loss["summed"].backward()
    assert loss["n_valid_examples"] == (~missing).sum()
    assert torch.equal(logits.grad == 0, missing)


def test_logits_do_not_depend_on_padding_or_on_the_order_of_atoms_and_bonds(molecules, model):
    for first, second in (("OCC#N", "N#CCO"), ("CC1CO1", "C1(C)OC1"), ("CC(=O)N", "NC(C)=O")):
        logits = evaluate(molecules, model, [parse(first), parse(second)])
        torch.testing.assert_close(logits[0], logits[1])
    apart = evaluate(molecules, model, [parse("CCO"), parse("COC")])
    assert not torch.allclose(apart[0], apart[1], atol=1e-3)
    whole = evaluate(molecules, model, [parse("CCO"), parse("C" * MAX_ATOMS)])
    torch.testing.assert_close(whole[0], apart[0])


def test_missing_data_is_named(monkeypatch):
    monkeypatch.setattr(molecules_gnn, "PARTS", ("data/none.csv",))
    with pytest.raises(UserError, match=r"qm9pack.*none\.csv"):
        MoleculesGnnWorkload().load_tables()
