"""Molecular graphs from the SMILES lines of QM9, without a chemistry package.

Of the grammar at opensmiles.org these lines have carbon, nitrogen, oxygen and fluorine, ions among
them, single, double and triple bonds, branches, and ring closures of one digit. Hydrogens are
counted at their atoms.
"""

import dataclasses
import re

_TOKEN = re.compile(
    r"\[(?P<ion>[CNOF])(?P<hydrogens>H\d?)?(?P<sign>[-+])\]|(?P<plain>[CNOF])|[=#()\d]"
)
# Bonds per atom where hydrogens are left out.
_VALENCES = {"C": 4, "N": 3, "O": 2, "F": 1}
SINGLE, DOUBLE, TRIPLE = range(3)


@dataclasses.dataclass(frozen=True)
class Molecule:
    """The atoms other than hydrogen, and the bonds between them.

    Attributes:
      atoms: element, charge and hydrogens of the atoms.
      bonds: two atoms' indices and SINGLE, DOUBLE or TRIPLE.
    """

    atoms: tuple[tuple[str, int, int], ...]
    bonds: tuple[tuple[int, int, int], ...]


def parse(smiles: str) -> Molecule:
    """The graph of a SMILES line; ValueError for a line that is none of QM9's kind.

    >>> parse("C[NH3+]").atoms, parse("C1=CO1").bonds
    ((('C', 0, 3), ('N', 1, 3)), ((0, 1, 1), (1, 2, 0), (0, 2, 0)))
    """
    tokens = list(_TOKEN.finditer(smiles))
    problem = ValueError(f"{smiles!r} is no SMILES line of QM9's kind")
    if "".join(token.group() for token in tokens) != smiles:
        raise problem
    atoms: list[re.Match[str]] = []
    bonds: list[tuple[int, int, int]] = []
    # The atom that the next one is bound to, and the kind of that bond.
    last, kind = -1, SINGLE
    branches: list[int] = []
    rings: dict[str, tuple[int, int]] = {}
    for token in tokens:
        text = token.group()
        if token["plain"] or token["ion"]:
            if atoms:
                bonds.append((last, len(atoms), kind))
            last, kind = len(atoms), SINGLE
            atoms.append(token)
        elif not atoms or (text == ")" and not branches):
            raise problem
        elif text in "=#":
            kind = DOUBLE if text == "=" else TRIPLE
        elif text == "(":
            branches.append(last)
        elif text == ")":
            last = branches.pop()
        else:
            if text in rings:
                other, opened = rings.pop(text)
                bonds.append((other, last, max(kind, opened)))
            else:
                rings[text] = last, kind
            kind = SINGLE
    if rings or branches or kind != SINGLE:
        raise problem
    used = [0] * len(atoms)
    for first, second, bond in bonds:
        used[first] += 1 + bond
        used[second] += 1 + bond
    return Molecule(tuple(map(_atom, atoms, used)), tuple(bonds))


def _atom(token: re.Match[str], used: int) -> tuple[str, int, int]:
    """Element, charge and hydrogens, of an atom with so many electron pairs in its bonds."""
    if token["plain"]:
        # A nitro group's nitrogen has five.
        return token["plain"], 0, max(0, _VALENCES[token["plain"]] - used)
    hydrogens = token["hydrogens"]
    count = int(hydrogens[1:] or 1) if hydrogens else 0
    return token["ion"], 1 if token["sign"] == "+" else -1, count
