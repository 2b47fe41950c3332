"""`molecules_gnn` stands in for ogbg: a graph network that tells 66 properties of small molecules.

The molecules are 7,000 of the 130,831 in QM9 (Ramakrishnan et al., doi:10.1038/sdata.2014.22),
as qm9pack ships them: up to nine atoms of carbon, nitrogen, oxygen and fluorine besides hydrogen,
with what density functional theory computed of them. A label says whether one of eleven quantities
is among the lowest or the highest 5, 10 or 20% of the training molecules. Molecules are split at
random, one of each InChI, so that no two spatial forms of one are in different splits; the official
split is by scaffolds. As no official compound was tried in all assays, a random fifth of the labels
is left out in all splits. The network is the official one with three rounds of messages in place of
five, and without biases in what embeds atoms and bonds, whose features have constant sums.
"""

import functools
import mmap
from collections.abc import Iterable
from pathlib import Path
from typing import ClassVar

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import nn

from submission.algoperf_api import spec
from workloads.standin.average_precision import mean_average_precision
from workloads.standin.base import SPLIT_SEED, StandinWorkload
from workloads.standin.batches import Batch, Table
from workloads.standin.graph_network import GraphNetworkStep
from workloads.standin.packaged_data import locate
from workloads.standin.smiles import Molecule, parse

SIZES = {"train": 5000, "validation": 1000, "test": 1000}
PARTS = tuple(f"data/qm9_part{part}.csv" for part in (1, 2, 3))
# Rows looked at; the splits take the first of them, in random order, that have new InChIs.
CANDIDATES = 7200
QUANTITIES = (
    "RotA_GHz", "RotB_GHz", "RotC_GHz", "Dipole_debye", "Polarizability_bohr3", "HOMO_au",
    "LUMO_au", "HOMO_LUMO_gap_au", "R2_bohr2", "ZPVE_au", "Heatcapacity_Cv_cal_mol_K",
)  # fmt: skip
SHARES = (0.05, 0.1, 0.2)
LABELS = 2 * len(SHARES) * len(QUANTITIES)
MISSING = 0.2

ELEMENTS = ("C", "N", "O", "F")
# Features of an atom: its element as 0 and 1, charge, hydrogens, bonds.
FEATURES = len(ELEMENTS) + 3
MAX_ATOMS = 9
MAX_BONDS = 13
BOND_KINDS = 3
# Size of all vectors, and rounds of messages.
WIDTH, ROUNDS = 64, 3


def spread_rows(path: Path, count: int) -> tuple[list[str], list[str]]:
    """The header's names, and the lines after `count` evenly spaced bytes of a CSV file."""
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        header = content.readline().decode().strip().split(",")
        begin, end = content.tell() - 1, content.rfind(b"\n", 0, len(content) - 1)
        rows = []
        for position in np.linspace(begin, end, count, dtype=np.int64).tolist():
            start = content.find(b"\n", position) + 1
            rows.append(content[start : content.find(b"\n", start)].decode())
    return header, rows


def read_row(header: list[str], row: str) -> tuple[str, str, list[float]]:
    """SMILES, InChI and the QUANTITIES of a row, whose texts are quoted and come before them."""
    _, _, _, smiles, _, inchi, _ = row.split('"', 6)
    numbers = row.rpartition('"')[2].split(",")
    return smiles, inchi, [float(numbers[header.index(q) - len(header)]) for q in QUANTITIES]


def graph_tables(molecules: list[Molecule]) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Atoms [molecules, 9, FEATURES], and bonds [molecules, 26, 3] in both directions.

    A bond is its kind from 1, the atom that it leaves and the one that it enters; 0 is padding.
    """
    atoms = np.zeros((len(molecules), MAX_ATOMS, FEATURES), dtype=np.float32)
    bonds = np.zeros((len(molecules), 2 * MAX_BONDS, 3), dtype=np.int64)
    for index, molecule in enumerate(molecules):
        degrees = [0] * len(molecule.atoms)
        directed = []
        for first, second, kind in molecule.bonds:
            directed += [(kind + 1, first, second), (kind + 1, second, first)]
            degrees[first] += 1
            degrees[second] += 1
        bonds[index, : len(directed)] = np.reshape(directed, (-1, 3))
        atoms[index, : len(degrees)] = [
            [*(element == name for name in ELEMENTS), charge, hydrogens, degree]
            for (element, charge, hydrogens), degree in zip(molecule.atoms, degrees, strict=True)
        ]
    return atoms, bonds


def extremes(values: NDArray[np.float64], reference: NDArray[np.float64]) -> NDArray[np.float32]:
    """Whether [rows, quantities] are among the lowest and highest SHARES of reference rows.

    Returns 0 or 1 [rows, LABELS].
    """
    low = np.quantile(reference, SHARES, axis=0)[:, None] >= values
    high = np.quantile(reference, [1 - share for share in SHARES], axis=0)[:, None] <= values
    labels = np.concatenate([low, high]).transpose(1, 0, 2)
    return labels.reshape(len(values), -1).astype(np.float32)


class GraphNetwork(nn.Module):
    """Linear embeddings of atoms and bonds, rounds of messages, a linear head on the globals."""

    def __init__(self) -> None:
        super().__init__()
        self.node_embedding = nn.Linear(FEATURES, WIDTH, bias=False)
        self.edge_embedding = nn.Linear(BOND_KINDS, WIDTH, bias=False)
        self.rounds = nn.ModuleList(
            GraphNetworkStep(WIDTH, WIDTH, WIDTH if index else 0, WIDTH) for index in range(ROUNDS)
        )
        self.head = nn.Linear(WIDTH, LABELS)

    def forward(
        self, inputs: torch.Tensor, bonds: torch.Tensor, dropout_rate: float = 0.0
    ) -> torch.Tensor:
        """Atoms and bonds as from `graph_tables` to logits [batch, LABELS]."""
        kinds = F.one_hot(bonds[..., 0], BOND_KINDS + 1)[..., 1:].to(inputs.dtype)
        nodes, edges = self.node_embedding(inputs), self.edge_embedding(kinds)
        graphs = nodes.new_zeros(len(nodes), 0)
        present = inputs[..., : len(ELEMENTS)].sum(-1, keepdim=True)
        real = kinds.sum(-1, keepdim=True)
        leaves, enters = (F.one_hot(bonds[..., end], MAX_ATOMS) * real for end in (1, 2))
        for update in self.rounds:
            nodes, edges, graphs = update(
                nodes, edges, graphs, (leaves, enters), present, dropout_rate
            )
        logits: torch.Tensor = self.head(graphs)
        return logits


class MoleculesGnnWorkload(StandinWorkload):
    """Many binary labels of a graph; metrics mean_average_precision, loss per known label."""

    name: ClassVar[str] = "molecules_gnn"
    loss_type = spec.LossType.SIGMOID_CROSS_ENTROPY
    eval_batch_size = 250

    @functools.cached_property
    def _raw(self) -> dict[str, tuple[list[str], NDArray[np.float64]]]:
        """SMILES and QUANTITIES [rows, 11] per split."""
        by_inchi: dict[str, tuple[str, list[float]]] = {}
        for part in PARTS:
            header, rows = spread_rows(locate("qm9pack", part), CANDIDATES // len(PARTS))
            for row in rows:
                smiles, inchi, quantities = read_row(header, row)
                by_inchi.setdefault(inchi, (smiles, quantities))
        molecules = list(by_inchi.values())
        order = np.random.default_rng(SPLIT_SEED).permutation(len(molecules))
        split = {}
        start = 0
        for name, count in SIZES.items():
            chosen = [molecules[row] for row in order[start : start + count]]
            split[name] = [smiles for smiles, _ in chosen], np.array([q for _, q in chosen])
            start += count
        return split

    def load_tables(self) -> dict[str, Table]:
        generator = np.random.default_rng(SPLIT_SEED)
        reference = self._raw["train"][1]
        tables = {}
        for split, (smiles, quantities) in self._raw.items():
            atoms, bonds = graph_tables([parse(line) for line in smiles])
            known = (generator.random((len(smiles), LABELS)) >= MISSING).astype(np.float32)
            tables[split] = {
                "inputs": torch.from_numpy(atoms),
                "bonds": torch.from_numpy(bonds),
                "targets": torch.from_numpy(extremes(quantities, reference) * known),
                "weights": torch.from_numpy(known),
            }
        return tables

    def build_model(self) -> nn.Module:
        return GraphNetwork()

    def forward(self, model: nn.Module, batch: Batch, dropout_rate: float) -> torch.Tensor:
        logits: torch.Tensor = model(batch["inputs"], batch["bonds"], dropout_rate=dropout_rate)
        return logits

    def summed_metrics(self, logits: torch.Tensor, batch: Batch) -> dict[str, torch.Tensor]:
        return {"loss": self.loss_fn(batch["targets"], logits, batch["weights"])["summed"]}

    def metrics(self, outputs: Iterable[tuple[torch.Tensor, Batch]]) -> dict[str, float]:
        """Loss per known label, and average precision averaged over labels with both classes."""
        kept = list(outputs)
        scores = torch.cat([logits for logits, _ in kept]).cpu().numpy()
        targets = torch.cat([batch["targets"] for _, batch in kept]).cpu().numpy()
        known = torch.cat([batch["weights"] for _, batch in kept]).cpu().numpy() > 0
        precision = mean_average_precision(targets, scores, known)
        return super().metrics(kept) | {"mean_average_precision": precision}
