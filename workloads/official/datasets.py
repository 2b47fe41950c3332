"""The official data sets: sizes, the benchmark's set-up of them, and the files that it leaves.

All facts are in `datasets.json` beside this file, which names the source of each row.
"""

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

from common import files
from workloads.rows import row

FRAMEWORKS = ("pytorch", "jax")


@dataclasses.dataclass(frozen=True)
class SetUp:
    """One run of the benchmark's set-up script.

    Attributes:
      flag: the script's flag for this data set, without dashes.
      owner: from whom the data come.
      download_gib: the size of the download; None where no source gives it.
      data_gib: the most that the data directory holds on the way, leftovers included.
      licence: the data's terms.
      leftovers: files that no workload reads, and a person may delete.
      temp_gib: the most that the directory for temporary files holds; 0 if it is not used.
      accept: steps that a person must have taken before, and where; empty if none.
      urls: addresses that a person must bring: the script's flag, and the file that the address
        must lead to; the script derives names from it.
      tools: programs that the script calls.
      prompts: questions of the script on the way.
      takes_framework: whether the script must be told the framework.
    """

    flag: str
    owner: str
    download_gib: float | None
    data_gib: float
    licence: str
    leftovers: str
    temp_gib: float = 0
    accept: str = ""
    urls: Mapping[str, str] = dataclasses.field(default_factory=dict)
    tools: tuple[str, ...] = ()
    prompts: str = ""
    takes_framework: bool = False


@dataclasses.dataclass(frozen=True)
class Tree:
    """The files of a data set that a workload reads.

    Attributes:
      folder: the runner's `--data_dir`, below the root of all data sets.
      files: by pattern below `folder`, how many files match: a number, or the least and the most.
      least_gib: no complete copy of these files is smaller, in units of 2**30 bytes.
      otherwise: a second place for `folder`, taken if the first is not there and all files are in
        the second.
    """

    folder: str
    files: Mapping[str, int | list[int]]
    least_gib: float = 0
    otherwise: str | None = None


@dataclasses.dataclass(frozen=True)
class DataSet:
    """One data set.

    Attributes:
      title: its name in prose.
      size_gib: its size on disk after set-up, in units of 2**30 bytes to the precision that the
        source gives; None where no source gives it.
      files: the number of files; None likewise.
      train_examples, validation_examples, test_examples: sizes of the splits.
      setups, trees: by framework.
    """

    title: str
    size_gib: float | None
    files: int | None
    train_examples: int
    validation_examples: int
    test_examples: int
    setups: Mapping[str, SetUp] = dataclasses.field(hash=False, repr=False)
    trees: Mapping[str, Tree] = dataclasses.field(hash=False, repr=False)


def _dataset(values: Mapping[str, Any], where: str) -> DataSet:
    """A row of the file; what it says under a framework's name holds for that framework alone."""
    setups, trees = {}, {}
    for framework in FRAMEWORKS:
        place, other = f"{where}, {framework}", values.get(framework, {})
        setups[framework] = row(SetUp, values["setup"] | other.get("setup", {}), place)
        trees[framework] = row(Tree, other.get("tree", values["tree"]), place)
    parts = ("setup", "tree", *FRAMEWORKS)
    plain = {name: value for name, value in values.items() if name not in parts}
    return row(DataSet, {**plain, "setups": setups, "trees": trees}, where)


def load(path: Path) -> tuple[Mapping[str, DataSet], str]:
    """Data sets by name, and the source of them all; UserError naming a damaged row."""
    content = files.read_json(path)
    rows = {name: _dataset(values, name) for name, values in content["datasets"].items()}
    return MappingProxyType(rows), content["source"]


DATASETS, SOURCE = load(Path(__file__).with_name("datasets.json"))
