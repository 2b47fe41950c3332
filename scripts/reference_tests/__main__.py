"""Runs the benchmark's own test of a submission on every workload with every entry.

    python -m scripts.reference_tests --workloads=mnist,ogbg --entries=shampoo,nadamw
    python -m scripts.reference_tests --entries=shampoo --packaged=dist

Needs the benchmark (`make algoperf`). Takes the entries from this repository, or with --packaged
from folders that `scripts.package_entry` wrote. What has passed is not run again until the entry,
the benchmark or the test changes. Writes reference_tests.csv and .md to the output.
"""

import json
import os
import signal
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from absl import flags

from common import cli, files, progress
from common.cli import UserError
from scripts.local import manifest
from scripts.local.environment import ROOT
from scripts.official import installation
from scripts.package_entry.folder import packable
from scripts.reference_tests import table
from scripts.reference_tests.plan import (
    BATCH_SIZES,
    INSTEAD,
    Case,
    Entry,
    cases,
    in_package,
    in_repository,
)
from scripts.reference_tests.run import GIB, Limits, most_memory, watched
from scripts.reference_tests.table import Row

FLAGS = flags.FLAGS

_WORKLOADS = [*BATCH_SIZES, "finewebedu_lm"]
# Of the benchmark's Python, which is another than this one.
_VERSIONS = """
import importlib.metadata as metadata, json, platform
names = ("algoperf", "torch", "torchvision", "jax", "tensorflow", "numpy")
there = {dist.metadata["Name"] for dist in metadata.distributions()}
versions = {name: metadata.version(name) for name in names if name in there}
print(json.dumps({"python_version": platform.python_version(), "packages": versions}))
"""


def define_flags() -> None:
    """Declares the command line."""
    known = packable(ROOT)
    flags.DEFINE_list("workloads", _WORKLOADS, "official workloads")
    flags.DEFINE_list("entries", known, f"of {', '.join(known)}")
    flags.DEFINE_string("packaged", None, "take the entries from the packages in this folder")
    flags.DEFINE_list(
        "test_script", [], "workload:file pairs, tests run in place of the benchmark's own"
    )
    flags.DEFINE_list("python_path", [], "folders that the test shall import from, too")
    flags.DEFINE_enum("device", "cpu", ["cpu", "cuda"], "what the test shall see")
    flags.DEFINE_float("timeout", 1800, "seconds for one test", lower_bound=1)
    flags.DEFINE_float(
        "memory", None, "GiB for one test; default: four fifths of what is free", lower_bound=0
    )
    flags.DEFINE_bool("overwrite", False, "run again what has passed")
    flags.DEFINE_string("logs", "runs/reference_tests", "folder for what the tests print")
    flags.DEFINE_string("output", "results/official", "folder for the table")


def main(argv: Sequence[str]) -> int:
    """Runs what is missing, row by row, and prints the table; 1 if a test has failed."""
    del argv
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # ends a running test, too
    python, checkout = installation.python(), installation.checkout()
    todo = cases(FLAGS.workloads, _entries(), checkout, _test_scripts())
    output = files.make_directory(Path(FLAGS.output))
    rows = table.read(output)
    versions = _versions(python)
    failed = False
    with (
        manifest.recorded(output, benchmark_commit=todo[0].benchmark_commit, **versions),
        progress.bar(len(todo), "reference tests", "test") as bar,
    ):
        for case in todo:
            name = f"{case.workload}, {case.entry.name}"
            key = (case.workload, case.entry.name, case.entry.source)
            if FLAGS.overwrite or not _has_passed(rows.get(key), case):
                rows[key] = _row(case, python, checkout)
                table.write(output, rows, _WORKLOADS)
            failed |= rows[key].verdict == "failed"
            bar.set_postfix_str(f"({name}: {rows[key].verdict})")
            bar.update(1)
    print((output / f"{table.NAME}.md").read_text("utf-8"))
    return int(failed)


def _entries() -> list[Entry]:
    if not FLAGS.entries or not FLAGS.workloads:
        raise UserError("--entries and --workloads must name at least one each")
    if FLAGS.packaged is None:
        return [in_repository(name) for name in FLAGS.entries]
    return [in_package(name, Path(FLAGS.packaged)) for name in FLAGS.entries]


def _test_scripts() -> dict[str, Path]:
    scripts = {}
    for pair in FLAGS.test_script:
        workload, colon, path = pair.partition(":")
        if not colon or not Path(path).is_file():
            raise UserError(f"--test_script={pair}: give workload:file, of a file that is there")
        scripts[workload] = Path(path)
    return scripts


def _versions(python: Path) -> dict[str, Any]:
    done = subprocess.run([python, "-c", _VERSIONS], capture_output=True, text=True, timeout=120)
    if done.returncode:
        raise UserError(f"{python} does not run: {(done.stderr.splitlines() or ['?'])[-1]}")
    return {"benchmark_environment": json.loads(done.stdout)}


def _has_passed(row: Row | None, case: Case) -> bool:
    return row is not None and row.verdict == "passed" and row.fingerprint == case.fingerprint


def _row(case: Case, python: Path, checkout: Path) -> Row:
    base = {
        "workload": case.workload,
        "entry": case.entry.name,
        "source": case.entry.source,
        "fingerprint": case.fingerprint,
    }
    if case.why_not:
        unknown = dict.fromkeys(("seconds", "peak_gib", "batch_size", "test", "log"), "")
        return Row(**base, **unknown, verdict="not run", reason=case.why_not)
    log = Path(FLAGS.logs) / f"{case.workload}_{case.entry.name}_{case.entry.source}.log"
    memory = most_memory() if FLAGS.memory is None else FLAGS.memory * GIB
    limits = Limits(FLAGS.timeout, memory)
    with tempfile.TemporaryDirectory() as scratch:
        command = case.command(python, Path(scratch))
        done = watched(command, checkout, _environment(case, checkout), log, limits)
    verdict = "stopped" if done.limited else "failed" if done.problem else "passed"
    reason = done.problem
    if done.limited and case.workload in INSTEAD:
        reason += f"; {INSTEAD[case.workload]}"
    return Row(
        **base,
        verdict=verdict,
        seconds=f"{done.seconds:.0f}",
        peak_gib=f"{done.peak / GIB:.2f}",
        batch_size=str(BATCH_SIZES[case.workload]),
        test=case.script.name,
        reason=reason,
        log=str(log),
    )


def _environment(case: Case, checkout: Path) -> dict[str, str]:
    """What the test's process sees; of this repository only what the case asks for."""
    paths = [
        checkout,
        *(Path(path).absolute() for path in FLAGS.python_path),
        case.entry.official.python_path,
    ]
    chosen = {
        "PYTHONPATH": os.pathsep.join(map(str, paths)),
        "PYTHONDONTWRITEBYTECODE": "1",  # into the checkout or a package
        "TF_CPP_MIN_LOG_LEVEL": "2",
    }
    if FLAGS.device == "cpu":
        chosen |= {"CUDA_VISIBLE_DEVICES": "", "JAX_PLATFORMS": "cpu"}
    return {**os.environ, **chosen}


if __name__ == "__main__":
    define_flags()
    cli.run(main)
