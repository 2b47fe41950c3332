import pytest

from workloads.standin.smiles import DOUBLE, SINGLE, TRIPLE, parse


def formula(smiles):
    """Atoms by element, hydrogen among them, and the molecule's charge."""
    counts = {}
    total = 0
    for element, charge, hydrogens in parse(smiles).atoms:
        counts[element] = counts.get(element, 0) + 1
        counts["H"] = counts.get("H", 0) + hydrogens
        total += charge
    return {element: count for element, count in counts.items() if count}, total


@pytest.mark.parametrize(
    ("smiles", "expected", "charge"),
    [
        ("C", {"C": 1, "H": 4}, 0),
        ("C#N", {"C": 1, "N": 1, "H": 1}, 0),
        ("CC(=O)O", {"C": 2, "O": 2, "H": 4}, 0),
        ("C1=CC=CC=C1O", {"C": 6, "O": 1, "H": 6}, 0),
        ("FC1CN1", {"C": 2, "F": 1, "N": 1, "H": 4}, 0),
        ("[NH3+]CC([O-])=O", {"C": 2, "N": 1, "O": 2, "H": 5}, 0),
        ("[NH2+]=CC#[C-]", {"C": 3, "N": 1, "H": 3}, 0),
        ("CN(=O)=O", {"C": 1, "N": 1, "O": 2, "H": 3}, 0),
        ("C[NH2+]C", {"C": 2, "N": 1, "H": 8}, 1),
    ],
)
def test_atoms_and_hydrogens_make_the_known_formula(smiles, expected, charge):
    assert formula(smiles) == (expected, charge)


def test_bonds_join_the_atoms_of_branches_and_rings():
    assert parse("CC(=O)C#N").bonds == (
        (0, 1, SINGLE), (1, 2, DOUBLE), (1, 3, SINGLE), (3, 4, TRIPLE),
    )  # fmt: skip
    assert parse("C1=CC2CC12").bonds[-2:] == ((0, 4, SINGLE), (2, 4, SINGLE))
    assert parse("C=1CC1").bonds[-1] == (0, 2, DOUBLE)


@pytest.mark.parametrize(
    "smiles", ["C1CC", "C(C", "CC)", "C?C", "[C", "c1ccccc1", "C=", "=C", "1C"]
)
def test_a_line_that_is_no_molecule_is_refused(smiles):
    with pytest.raises(ValueError, match="is no SMILES line"):
        parse(smiles)
