"""Which of the benchmark's reference tests are run, of which entries, and from where."""

import dataclasses
import hashlib
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType

import yaml

from common.cli import UserError
from scripts.local.environment import ROOT
from scripts.official.entry import INFO, SUBMISSION, OfficialEntry, find_entry
from scripts.package_entry.folder import compose, contents_of
from workloads import registry

TEST = Path("tests/reference_algorithm_tests.py")
# Examples per batch, as in the benchmark's own continuous integration (commit 2c90454f).
BATCH_SIZES: Mapping[str, int] = MappingProxyType(
    {
        "mnist": 2,
        "cifar": 2,
        "criteo1tb": 1,
        "criteo1tb_test": 1,
        "fastmri": 8,
        "imagenet_resnet": 2,
        "imagenet_vit": 2,
        "librispeech_conformer": 2,
        "librispeech_deepspeech": 2,
        "ogbg": 8,
        "wmt": 2,
    }
)
# What else can be said where a test does not fit.
INSTEAD = MappingProxyType({"criteo1tb": "criteo1tb_test is the same model with small tables"})


@dataclasses.dataclass(frozen=True)
class Entry:
    """An entry as it is imported: by the repository's name for it, or out of its package.

    Attributes:
      official: what a runner must be told of it.
      source: "repository" or "package".
      framework: "PyTorch" or "JAX".
      content: hash of the files that run, the same from both sources.
    """

    official: OfficialEntry
    source: str
    framework: str
    content: str

    @property
    def name(self) -> str:
        """For example `shampoo`."""
        return self.official.name


def in_repository(name: str) -> Entry:
    """An entry of this repository; UserError if it says nothing of its ruleset."""
    package = compose(ROOT, name)
    return Entry(
        official=find_entry(name),
        source="repository",
        framework=package.info.framework,
        content=_content(package.contents),
    )


def in_package(name: str, output: Path) -> Entry:
    """An entry that `scripts.package_entry` wrote to `output`; UserError if it is not there."""
    found = sorted(output.glob(f"submissions/*/{name}/{INFO}"))
    if not found:
        raise UserError(
            f"no package of {name!r} in {output}: `make package ENTRY={name} OUTPUT={output}`"
        )
    folder = found[0].parent
    alone = find_entry(str(folder.absolute()))
    path = f"{folder.relative_to(output).as_posix()}/{SUBMISSION}"
    return Entry(
        # Under the name that the organisers import it by.
        official=dataclasses.replace(alone, python_path=output.absolute(), submission_path=path),
        source="package",
        framework=yaml.safe_load(found[0].read_bytes())["framework"],
        content=_content(contents_of(folder)),
    )


def _content(files: Mapping[str, bytes]) -> str:
    running = sorted(files.keys() - {INFO, "README.md"})
    return _hash(*(part for name in running for part in (name.encode(), files[name])))


@dataclasses.dataclass(frozen=True)
class Case:
    """One cell of the table.

    Attributes:
      workload: name.
      entry: what trains it.
      script: the test, the benchmark's own or one in its place.
      why_not: why it cannot be run, empty if it can.
      benchmark_commit: of the checkout.
    """

    workload: str
    entry: Entry
    script: Path
    why_not: str
    benchmark_commit: str

    @property
    def fingerprint(self) -> str:
        """A hash of all that the result follows from but the machine and installed versions."""
        facts = (self.workload, str(BATCH_SIZES.get(self.workload)), self.benchmark_commit)
        script = self.script.read_bytes() if self.script.is_file() else b""
        return _hash(*(fact.encode() for fact in facts), self.entry.content.encode(), script)[:16]

    def command(self, python: Path, scratch: Path) -> list[str]:
        """The test's command line; it leaves its log of metrics in the folder `scratch`.

        It is given a whole search space and takes the first point. Without one it hands the entry
        an empty object where the official runner hands it None.
        """
        return [
            str(python),
            str(self.script),
            f"--workload={self.workload}",
            f"--framework={self.entry.framework.lower()}",
            f"--global_batch_size={BATCH_SIZES[self.workload]}",
            f"--submission_path={self.entry.official.submission_path}",
            f"--tuning_search_space={self.entry.official.space}",
            f"--log_file={scratch / 'metrics.pkl'}",
        ]


def cases(
    workloads: Sequence[str],
    entries: Sequence[Entry],
    checkout: Path,
    scripts: Mapping[str, Path],
) -> list[Case]:
    """One case for each workload and entry; UserError for an unknown workload.

    Args:
      scripts: tests that are run in place of the benchmark's own, by workload.
    """
    known = {*BATCH_SIZES, *registry.names("official", "v0.6")}
    if unknown := [name for name in (*workloads, *scripts) if name not in known]:
        raise UserError(f"unknown workload {unknown[0]!r}; known: {', '.join(sorted(known))}")
    commit = _commit(checkout)
    return [
        Case(
            workload=workload,
            entry=entry,
            script=scripts.get(workload, checkout / TEST).absolute(),
            why_not=_why_not(workload, commit),
            benchmark_commit=commit,
        )
        for workload in workloads
        for entry in entries
    ]


def _why_not(workload: str, commit: str) -> str:
    if workload in BATCH_SIZES:
        return ""
    if any(workload.startswith(f"{name}_") for name in BATCH_SIZES):
        return "the benchmark's test has no batch for variants"
    return f"not in the benchmark at {commit[:8]}"


def _commit(checkout: Path) -> str:
    done = subprocess.run(
        ["git", "rev-parse", "HEAD"], cwd=checkout, capture_output=True, text=True, timeout=30
    )
    return done.stdout.strip() or "unknown"


def _hash(*parts: bytes) -> str:
    digest = hashlib.sha256()
    for part in parts:
        digest.update(len(part).to_bytes(8, "little") + part)
    return digest.hexdigest()
