import pytest

from workloads.standin.smiles import AROMATIC, DOUBLE, SINGLE, TRIPLE, parse


def formula(smiles):
    """Atoms by element, hydrogen among them, and the molecule's charge."""
    counts: dict[str, int] = {}
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
        ("c1ccccc1O", {"C": 6, "O": 1, "H": 6}, 0),
        ("c1cc[nH]c1", {"C": 4, "N": 1, "H": 5}, 0),
        ("[O-][N+](=O)c1ccccc1", {"C": 6, "N": 1, "O": 2, "H": 5}, 0),
        ("[NH3+]CC([O-])=O", {"C": 2, "N": 1, "O": 2, "H": 5}, 0),
        ("CS(=O)(=O)Cl", {"C": 1, "S": 1, "O": 2, "Cl": 1, "H": 3}, 0),
        ("C[N+](C)(C)C.[Cl-]", {"C": 4, "N": 1, "Cl": 1, "H": 12}, 0),
        ("[Ca+2]", {"Ca": 1}, 2),
        ("N[C@@H](C)C(=O)O", {"C": 3, "N": 1, "O": 2, "H": 7}, 0),
        ("C%12CC%12", {"C": 3, "H": 6}, 0),
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
    assert {kind for *_, kind in parse("c1ccccc1").bonds} == {AROMATIC}
    assert parse("c1ccccc1-c1ccccc1").bonds[6] == (5, 6, SINGLE)
    assert parse("C.C").bonds == ()


@pytest.mark.parametrize("smiles", ["C1CC", "C(C", "CC)", "C?C", "[C", "n(H)c", "C=", "=C", "1C"])
def test_a_line_that_is_no_molecule_is_refused(smiles):
    with pytest.raises(ValueError, match="is no SMILES line"):
        parse(smiles)
