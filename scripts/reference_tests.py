"""Runs the benchmark's own test of a submission on every workload with every entry, as a table.

    python -m scripts.reference_tests --workloads=mnist,ogbg --entries=shampoo,nadamw
    python -m scripts.reference_tests --entries=shampoo --packaged=dist

Needs the benchmark (`make algoperf`). Takes the entries from this repository, or with --packaged
from folders that `scripts.package_entry` wrote. A test that has passed is run again only when the
entry, the benchmark or the test has changed. Writes reference_tests.csv and .md to the output.
"""

import dataclasses
import hashlib
import itertools
import json
import os
import shlex
import signal
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType

import yaml
from absl import flags

from common import cli, documents, files, progress
from common.cli import UserError
from scripts.local import entries, manifest, supervisor
from scripts.local.entry_info import INFO, SUBMISSION
from scripts.local.environment import ROOT
from scripts.local.metrics_log import read_csv, write_csv
from scripts.local.supervisor import GIB
from scripts.official import installation
from scripts.official.entry import OfficialEntry, find_entry
from scripts.package_entry import compose, contents_of, packable
from workloads import registry

FLAGS = flags.FLAGS

NAME = "reference_tests"
TEST = Path("tests/reference_algorithm_tests.py")
# For the workload that the benchmark's own test leaves out.
TESTS_OF_OURS = {"finewebedu_lm": ROOT / "scripts/official/reference_test_lm.py"}
# Examples per batch, as in the benchmark's own continuous integration (commits 2c90454f, 58491177);
# the language model is not in it.
BATCH_SIZES = MappingProxyType(
    {"mnist": 2, "cifar": 2}
    | {"criteo1tb": 1, "criteo1tb_test": 1, "fastmri": 8, "imagenet_resnet": 2, "imagenet_vit": 2}
    | {"librispeech_conformer": 2, "librispeech_deepspeech": 2, "ogbg": 8, "wmt": 2}
    | {"finewebedu_lm": 1}
)
_TITLES = {"repository": "Entries of this repository", "package": "Entries as packaged"}
_TOO_LARGE = {"criteo1tb": "; criteo1tb_test is the same model with small tables"}
# Run by the benchmark's Python.
_DESCRIBE = (
    "from scripts.local import environment as e; import json; print(json.dumps(e.describe()))"
)
_COLUMNS = (
    *("workload", "entry", "source", "verdict", "seconds", "peak_gib", "batch_size", "test"),
    *("reason", "log", "fingerprint"),
)

# Text by column; the `verdict` is "passed", "failed", "stopped" (at a limit) or "not run". The
# first three columns are the key: a later row takes the place of an earlier one.
Row = dict[str, str]
Key = tuple[str, str, str]


def define_flags() -> None:
    """Declares the command line."""
    known = packable(ROOT)
    flags.DEFINE_list("workloads", list(BATCH_SIZES), "official workloads")
    flags.DEFINE_list("entries", known, f"of {', '.join(known)}")
    flags.DEFINE_string("packaged", None, "take the entries from the packages in this folder")
    flags.DEFINE_enum("device", "cpu", ["cpu", "cuda"], "device that the test sees")
    flags.DEFINE_float("timeout", 1800, "seconds for one test", lower_bound=1)
    flags.DEFINE_float(
        "memory", None, "GiB for one test; default: four fifths of what is free", lower_bound=0
    )
    flags.DEFINE_bool("overwrite", False, "run again what has passed")
    flags.DEFINE_string("logs", "runs/reference_tests", "folder for what the tests print")
    flags.DEFINE_string("output", "runs/reference_tests", "folder for the table")


def main(argv: Sequence[str]) -> int:
    """Runs what is missing, row by row, and prints the table; 1 if a test has failed."""
    del argv
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # ends a running test, too
    checkout, python = installation.find()
    known = {*BATCH_SIZES, *registry.names("official")}
    if unknown := [name for name in FLAGS.workloads if name not in known]:
        listed = f"known: {', '.join(sorted(known))}{cli.near(known, unknown[0])}"
        raise UserError(f"unknown workload {unknown[0]!r}; {listed}")
    packages = Path(FLAGS.packaged) if FLAGS.packaged else None
    chosen = [(name, *find(name, packages)) for name in FLAGS.entries]
    if not chosen or not FLAGS.workloads:
        raise UserError("--entries and --workloads must name at least one each")
    output = files.make_directory(Path(FLAGS.output))
    rows = read(output)
    commit = _printed(["git", "rev-parse", "HEAD"], checkout) or "unknown"
    environment = _printed([str(python), "-c", _DESCRIBE], ROOT)
    if not environment:
        raise UserError(f"{python} does not run")
    settings = {"benchmark_commit": commit, "benchmark_environment": json.loads(environment)}
    cases = [(workload, *entry) for workload in FLAGS.workloads for entry in chosen]
    failed = False
    with (
        manifest.recorded(output, **settings),
        progress.bar(len(cases), "reference tests", "test") as bar,
    ):
        for workload, name, entry, contents in cases:
            script = TESTS_OF_OURS.get(workload, checkout / TEST)
            key = (workload, name, "package" if packages else "repository")
            identity = fingerprint(workload, contents, script, commit)
            row = rows.get(key, dict.fromkeys(_COLUMNS, ""))
            passed = row["verdict"] == "passed" and row["fingerprint"] == identity
            if FLAGS.overwrite or not passed:
                framework = yaml.safe_load(contents[INFO])["framework"].lower()
                reason = _why_not(workload, checkout, commit)
                result = {"verdict": "not run", "reason": reason}
                if not reason:
                    result = _tested(key, entry, framework, script, python, checkout)
                row = dict(zip(_COLUMNS, (*key, *[""] * len(_COLUMNS)), strict=False))
                rows[key] = row = {**row, **result, "fingerprint": identity}
                write(output, rows)
            failed |= row["verdict"] == "failed"
            bar.set_postfix_str(f"({workload}, {name}: {row['verdict']})")
            bar.update(1)
    print((output / f"{NAME}.md").read_text("utf-8"))
    return int(failed)


def find(name: str, packages: Path | None) -> tuple[OfficialEntry, Mapping[str, bytes]]:
    """An entry and the files of its package, which give the same results from either source.

    Args:
      packages: the folder that packages were written to; None for an entry of this repository.

    Raises:
      UserError: if the entry cannot be packaged, or there is no package of it.
    """
    if packages is None:
        contents = compose(ROOT, name).contents
        return find_entry(name), contents
    infos = sorted(packages.glob(f"submissions/*/{find_entry(name).name}/{INFO}"))
    if not infos:
        remedy = f"`make package ENTRY={name} OUTPUT={packages}`"
        raise UserError(f"no package of {name!r} in {packages}: {remedy}")
    folder = infos[0].parent
    entry = dataclasses.replace(
        find_entry(str(folder.absolute())),
        # Under the name that the organisers import it by.
        python_path=packages.absolute(),
        submission_path=(folder / SUBMISSION).relative_to(packages).as_posix(),
    )
    return entry, contents_of(folder)


def _printed(command: Sequence[str], folder: Path) -> str:
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=120)
    return done.stdout.strip()


def fingerprint(workload: str, contents: Mapping[str, bytes], script: Path, commit: str) -> str:
    """A hash of all that a result follows from but the machine and installed versions."""
    facts = [workload, str(BATCH_SIZES.get(workload)), commit]
    parts = [fact.encode() for fact in facts]
    for path in sorted(contents.keys() - {INFO, "README.md"}):
        parts += [path.encode(), contents[path]]
    parts.append(script.read_bytes() if script.is_file() else b"")
    digest = hashlib.sha256()
    for part in parts:
        digest.update(len(part).to_bytes(8, "little") + part)
    return digest.hexdigest()[:16]


def _why_not(workload: str, checkout: Path, commit: str) -> str:
    """Why a workload cannot be tested; empty if it can."""
    if workload not in BATCH_SIZES:
        return "the benchmark's test has no batch for variants"
    version = installation.version_of(checkout)
    is_there = workload == "criteo1tb_test" or workload in registry.names("official", version)
    return "" if is_there else f"not in the benchmark at {commit[:8]}"


def _tested(
    key: Key, entry: OfficialEntry, framework: str, script: Path, python: Path, checkout: Path
) -> Row:
    """Runs the test; the columns that follow from its end."""
    workload = key[0]
    log = Path(FLAGS.logs) / f"{'_'.join(key)}.log"
    variables = {
        # Of this repository only what the entry is imported from.
        "PYTHONPATH": os.pathsep.join(map(str, [checkout, *entry.import_paths])),
        **entry.variables,
        "PYTHONDONTWRITEBYTECODE": "1",  # into the checkout or a package
        "TF_CPP_MIN_LOG_LEVEL": "2",
    }
    if FLAGS.device == "cpu":
        variables |= {"CUDA_VISIBLE_DEVICES": "", "JAX_PLATFORMS": "cpu"}
    memory = supervisor.most_memory() if FLAGS.memory is None else FLAGS.memory * GIB
    with tempfile.TemporaryDirectory() as scratch:
        # The test takes the first point of the search space. Without one it hands the entry an
        # empty object where the official runner hands it None.
        command = [
            *(str(python), str(script)),
            f"--workload={workload}",
            f"--framework={framework}",
            f"--global_batch_size={BATCH_SIZES[workload]}",
            f"--submission_path={entry.runner_path}",
            f"--tuning_search_space={entry.space}",
            f"--log_file={scratch}/metrics.pkl",
        ]
        log.parent.mkdir(parents=True, exist_ok=True)
        log.write_text(f"{shlex.join(command)}\n", "utf-8")
        done = supervisor.run(
            command,
            log,
            folder=checkout,
            environment={**os.environ, **variables},
            limits=supervisor.Limits(FLAGS.timeout, memory),
        )
    return {
        "verdict": "stopped" if done.limited else "failed" if done.problem else "passed",
        "seconds": f"{done.seconds:.0f}",
        "peak_gib": f"{done.peak / GIB:.2f}",
        "batch_size": str(BATCH_SIZES[workload]),
        "test": script.name,
        "reason": done.problem + (_TOO_LARGE.get(workload, "") if done.limited else ""),
        "log": str(log),
    }


def read(output: Path) -> dict[Key, Row]:
    """The rows of earlier invocations, none if there were none; UserError for another table."""
    path = output / f"{NAME}.csv"
    if not path.exists():
        return {}
    rows = read_csv(path, [])
    if any(tuple(row) != _COLUMNS for row in rows):
        raise UserError(f"{path} has other columns than {','.join(_COLUMNS)}; move it away")
    return {(row["workload"], row["entry"], row["source"]): row for row in rows}


def write(output: Path, rows: Mapping[Key, Row]) -> None:
    """Writes both files, workloads in the default order, variants after them by name."""
    rank = {name: number for number, name in enumerate(BATCH_SIZES)}
    ordered = sorted(
        rows.values(),
        key=lambda row: (
            *(rank.get(row["workload"], len(rank)), row["workload"]),
            *(row["source"], row["entry"]),
        ),
    )
    write_csv(output / f"{NAME}.csv", ordered, _COLUMNS)
    files.write_text(output / f"{NAME}.md", _page(ordered))


def _page(rows: Sequence[Row]) -> str:
    notes: list[str] = []
    tables = []
    for source, is_jax in itertools.product(_TITLES, (False, True)):
        of_source = [row for row in rows if (row["source"], _is_jax(row)) == (source, is_jax)]
        if not of_source:
            continue
        names = sorted({row["entry"] for row in of_source})
        lines: dict[str, dict[str, str]] = {}
        for row in of_source:
            start = {"workload": row["workload"], "batch": row["batch_size"]}
            line = lines.setdefault(row["workload"], start | dict.fromkeys(names, ""))
            line[row["entry"]] = _cell(row, notes)
        tables += [f"## {_TITLES[source]}{', in JAX' if is_jax else ''}", ""]
        tables += [documents.table(lines.values()), ""]
    text = (
        "# The benchmark's reference tests\n\n"
        "Each runs the real model on made-up data: one training step and two evaluations. Seconds "
        "from the process's start, imports among them; memory is the peak of the process and all "
        "that it starts. Made by `python -m scripts.reference_tests`; manifest.json says where.\n"
    )
    numbered = [f"{number}. {note}" for number, note in enumerate(notes, start=1)]
    return "\n".join([text, *tables, *([*numbered, ""] if numbered else [])])


def _is_jax(row: Row) -> bool:
    """Whether an entry is the twin in JAX of another."""
    return entries.twin(row["entry"]) != row["entry"]


def _cell(row: Row, notes: list[str]) -> str:
    """A cell of the table; appends what it refers to by number to `notes`."""
    remarks = [row["reason"]] if row["reason"] else []
    if row["test"] not in ("", TEST.name):
        remarks.append(f"Run through {row['test']} in place of the benchmark's own file.")
    notes += [remark for remark in remarks if remark not in notes]
    marks = "".join(f" [{notes.index(remark) + 1}]" for remark in remarks)
    if row["verdict"] == "passed":
        return f"OK {row['seconds']} s, {row['peak_gib']} GiB{marks}"
    return f"{row['verdict']}{marks}"


if __name__ == "__main__":
    define_flags()
    cli.run(main)
