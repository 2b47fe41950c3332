"""Molecular graphs from SMILES lines, without a chemistry package.

Understands what the grammar at opensmiles.org calls atoms, bonds, branches and ring closures; what
says how a molecule lies in space is skipped. Hydrogens are counted at their atoms.
"""

import dataclasses
import re

_TOKEN = re.compile(
    r"\[\d*(?P<element>[A-Z][a-z]?|[a-z]{1,2})@*(?P<hydrogens>H\d*)?(?P<charge>[-+]+\d*)?(?::\d+)?\]"
    r"|(?P<plain>Br|Cl|[BCNOPSFIbcnops])"
    r"|(?P<bond>[-=#:/\\])|(?P<ring>\d|%\d\d)|(?P<other>[().])"
)
# Bonds per atom where hydrogens are left out, of which the least that suffices holds.
_VALENCES = {
    "B": (3,), "C": (4,), "N": (3, 5), "O": (2,), "P": (3, 5), "S": (2, 4, 6),
    "F": (1,), "Cl": (1,), "Br": (1,), "I": (1,),
}  # fmt: skip
# Kinds of bonds, and the electron pairs that they take of an atom's valence.
SINGLE, DOUBLE, TRIPLE, AROMATIC = range(4)
_ORDERS = (1, 2, 3, 1)
_KINDS = {"-": SINGLE, "/": SINGLE, "\\": SINGLE, "=": DOUBLE, "#": TRIPLE, ":": AROMATIC}


@dataclasses.dataclass(frozen=True)
class Molecule:
    """The atoms other than hydrogen, and the bonds between them.

    Attributes:
      atoms: element, charge and hydrogens of the atoms.
      bonds: two atoms' indices and SINGLE, DOUBLE, TRIPLE or AROMATIC.
    """

    atoms: tuple[tuple[str, int, int], ...]
    bonds: tuple[tuple[int, int, int], ...]


class _Reader:
    """A molecule as far as it was read."""

    def __init__(self) -> None:
        self.elements: list[str] = []
        self.aromatic: list[bool] = []
        self.charges: list[int] = []
        # None where the valence says how many.
        self.hydrogens: list[int | None] = []
        self.bonds: list[tuple[int, int, int]] = []
        # The atom that the next one is bound to, and the kind of that bond where it is written.
        self.last: int | None = None
        self.kind: int | None = None
        self.branches: list[int] = []
        self.rings: dict[str, tuple[int, int | None]] = {}

    def take(self, token: re.Match[str]) -> None:
        """Reads one token on; ValueError where it cannot stand."""
        text = token.group()
        if token["plain"] or token["element"]:
            self._atom(token)
        elif self.last is None:
            raise ValueError(f"{text} follows no atom")
        elif token["bond"]:
            self.kind = _KINDS[text]
        elif token["ring"]:
            self._ring(text, self.last)
        elif text == "(":
            self.branches.append(self.last)
        elif text == ")":
            if not self.branches:
                raise ValueError("a branch ends before it begins")
            self.last = self.branches.pop()
        else:
            self.last = None

    def _atom(self, token: re.Match[str]) -> None:
        name = token["plain"] or token["element"]
        self.elements.append(name.capitalize())
        self.aromatic.append(name.islower())
        self.charges.append(_charge(token["charge"]))
        self.hydrogens.append(None if token["plain"] else _count(token["hydrogens"]))
        atom = len(self.elements) - 1
        if self.last is not None:
            self._join(self.last, atom, self.kind)
        self.last, self.kind = atom, None

    def _ring(self, label: str, atom: int) -> None:
        if label in self.rings:
            other, kind = self.rings.pop(label)
            self._join(other, atom, kind if self.kind is None else self.kind)
        else:
            self.rings[label] = atom, self.kind
        self.kind = None

    def _join(self, first: int, second: int, kind: int | None) -> None:
        implied = AROMATIC if self.aromatic[first] and self.aromatic[second] else SINGLE
        self.bonds.append((first, second, implied if kind is None else kind))

    def molecule(self) -> Molecule:
        """What was read; ValueError if it breaks off."""
        if self.rings or self.branches or self.kind is not None:
            raise ValueError("a ring, a branch or a bond is left open")
        used = [int(flag) for flag in self.aromatic]
        for first, second, kind in self.bonds:
            used[first] += _ORDERS[kind]
            used[second] += _ORDERS[kind]
        hydrogens = [
            _missing(element, bound) if count is None else count
            for element, count, bound in zip(self.elements, self.hydrogens, used, strict=True)
        ]
        atoms = zip(self.elements, self.charges, hydrogens, strict=True)
        return Molecule(tuple(atoms), tuple(self.bonds))


def parse(smiles: str) -> Molecule:
    """The graph of a SMILES line; ValueError for a line that is none.

    >>> parse("C[NH3+]").atoms, parse("C1=CO1").bonds
    ((('C', 0, 3), ('N', 1, 3)), ((0, 1, 1), (1, 2, 0), (0, 2, 0)))
    """
    reader = _Reader()
    position = 0
    try:
        while position < len(smiles):
            token = _TOKEN.match(smiles, position)
            if token is None:
                raise ValueError(f"character {position + 1} begins no atom or bond")
            reader.take(token)
            position = token.end()
        return reader.molecule()
    except ValueError as error:
        raise ValueError(f"{smiles!r} is no SMILES line: {error}") from None


def _missing(element: str, used: int) -> int:
    return next((v - used for v in _VALENCES[element] if v >= used), 0)


def _count(text: str | None) -> int:
    return int(text[1:] or 1) if text else 0


def _charge(text: str | None) -> int:
    if not text:
        return 0
    sign = 1 if text[0] == "+" else -1
    return sign * (int(text.lstrip("+-")) if text[-1].isdigit() else len(text))
