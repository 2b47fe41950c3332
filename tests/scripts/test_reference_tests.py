"""The table of reference tests: what is run, what becomes of it, and what is run again."""

import csv
import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from common.cli import UserError
from scripts import reference_tests
from scripts.local.environment import ROOT
from scripts.package_entry import compose, write
from tests.scripts.commands import finish, must_refuse, must_succeed

FAKE = Path(__file__).parent / "fake" / "reference_test.py"


@pytest.fixture
def checkout(tmp_path):
    """A benchmark whose reference test is `reference_test.py`."""
    folder = tmp_path / "checkout"
    (folder / "tests").mkdir(parents=True)
    (folder / "submission_runner.py").write_text("")
    (folder / "algoperf").mkdir()
    shutil.copy(ROOT / "submission/algoperf_api/spec_fallback.py", folder / "algoperf/spec.py")
    for name in ("wmt", "finewebedu_lm"):
        (folder / "algoperf/workloads" / name).mkdir(parents=True)
    shutil.copy(FAKE, folder / reference_tests.TEST)
    return folder


def run(checkout, *flags):
    """The command on the fake benchmark; what it writes is in the checkout's parent."""
    home = checkout.parent
    folders = (f"--output={home / 'table'}", f"--logs={home / 'logs'}")
    places = {"ALGOPERF_DIR": str(checkout), "ALGOPERF_PYTHON": sys.executable}
    return finish("-m", "scripts.reference_tests", *folders, *flags, **places)


def rows(checkout):
    with (checkout.parent / "table/reference_tests.csv").open(newline="") as stream:
        return {(row["workload"], row["source"]): row for row in csv.DictReader(stream)}


def test_a_table_of_what_passes_fails_hangs_and_is_not_there(checkout):
    (checkout / "algoperf/workloads/finewebedu_lm").rmdir()  # as in v0.6
    done = run(
        checkout,
        "--workloads=mnist,ogbg,wmt,wmt_post_ln,finewebedu_lm",
        "--entries=adamw",
        "--timeout=6",
    )
    assert done.returncode == 1, done.stderr
    table = {workload: row for (workload, _), row in rows(checkout).items()}
    assert {workload: row["verdict"] for workload, row in table.items()} == {
        "mnist": "passed",
        "ogbg": "failed",
        "wmt": "stopped",
        "wmt_post_ln": "not run",
        "finewebedu_lm": "not run",
    }
    assert table["ogbg"]["reason"] == "ValueError: a tensor of the wrong size"
    assert table["wmt"]["reason"] == "ended after 6 s"
    assert "variants" in table["wmt_post_ln"]["reason"]
    assert table["finewebedu_lm"]["reason"].startswith("not in the benchmark")
    assert f"OK {table['mnist']['seconds']} s" in done.stdout
    log = Path(table["mnist"]["log"]).read_text()
    assert str(ROOT / "submission/entries/adamw/submission.py") in log
    assert "('global_batch_size', '2')" in log
    manifest = json.loads((checkout.parent / "table/manifest.json").read_text())
    environment = manifest["invocations"][0]["benchmark_environment"]
    assert environment["python_version"] == ".".join(map(str, sys.version_info[:3]))


def test_the_language_model_has_a_test_of_ours(checkout):
    (checkout / reference_tests.TEST).write_text(
        "import sys, unittest\n"
        "_EXPECTED_METRIC_NAMES = {}\n"
        "def _make_one_batch_workload(cls, name, framework, size, use_fake_input_queue, n_gpus):\n"
        "    return cls()\n"
        "class Workload:\n"
        "    def _build_input_queue(self):\n"
        "        raise ValueError('no fake batch')\n"
        "class Test(unittest.TestCase):\n"
        "    def test(self):\n"
        "        for name in ('mnist', 'finewebedu_lm'):\n"
        "            made = _make_one_batch_workload(Workload, name, 'jax', 3, True, n_gpus=1)\n"
        "            if name == 'mnist':\n"
        "                self.assertRaises(ValueError, made._build_input_queue)\n"
        "        batch = next(made._build_input_queue('rng', split='train'))\n"
        "        assert batch['inputs'].shape == batch['weights'].shape == (3, 1024)\n"
        "        assert (batch['inputs'][:, 1:] == batch['targets'][:, :-1]).all()\n"
        "        assert 0 <= batch['targets'].min() < 50_000 < batch['targets'].max() < 50_257\n"
        "        print(_EXPECTED_METRIC_NAMES)\n"
    )
    (script,) = reference_tests.TESTS_OF_OURS.values()
    done = subprocess.run([sys.executable, script], cwd=checkout, capture_output=True, text=True)
    out = must_succeed(done)
    notes = []
    row = {"reason": "", "test": script.name, "verdict": "passed", "seconds": "1", "peak_gib": "2"}
    assert reference_tests._cell(row, notes) == "OK 1 s, 2 GiB [1]"
    assert notes == [f"Run through {script.name} in place of the benchmark's own file."]
    assert "{'finewebedu_lm': ['train/ppl', 'validation/ppl']}" in out


def test_what_has_passed_is_kept_until_something_changes(checkout):
    def start_of(*flags):
        must_succeed(run(checkout, "--workloads=mnist", "--entries=adamw", *flags))
        return (checkout.parent / "logs/mnist_adamw_repository.log").stat().st_mtime_ns

    test = checkout / reference_tests.TEST
    first = start_of()
    assert start_of() == first
    second = start_of("--overwrite")
    assert second > first
    test.write_text(test.read_text() + "print('more')\n")
    assert start_of() > second


def test_packages_are_imported_from_where_they_are(checkout, tmp_path):
    for entry in ("nadamw", "shampoo_self_tuning"):
        write(compose(ROOT, entry), tmp_path / "dist", {}, overwrite=False)
    flags = ("--entries=nadamw,shampoo_self_tuning", f"--packaged={tmp_path / 'dist'}")
    done = run(checkout, "--workloads=mnist", *flags)
    assert done.returncode == 0, done.stdout
    assert "## Entries as packaged" in done.stdout
    log = (checkout.parent / "logs/mnist_nadamw_package.log").read_text()
    assert f"would import {tmp_path}/dist/submissions/external_tuning/nadamw/submission.py" in log
    log = (checkout.parent / "logs/mnist_shampoo_self_tuning_package.log").read_text()
    assert "--tuning_search_space=None" in log
    assert (
        "--submission_path=submissions/self_tuning/stacked_shampoo_self_tuning/submission.py" in log
    )


def test_a_package_has_the_fingerprint_of_its_entry(tmp_path):
    package = compose(ROOT, "nadamw", authors="Somebody else")
    folder = write(package, tmp_path, {}, overwrite=False)

    def fingerprint(packages, workload="mnist", commit="a"):
        _, contents = reference_tests.find("nadamw", packages)
        return reference_tests.fingerprint(workload, contents, FAKE, commit)

    original = fingerprint(None)
    assert fingerprint(tmp_path) == original
    assert len({original, fingerprint(None, "ogbg"), fingerprint(None, commit="b")}) == 3
    (folder / "implementation/entries/nadamw/nadamw.py").write_text("")
    assert fingerprint(tmp_path) != original


def test_a_test_ends_with_the_command(checkout, tmp_path):
    flags = ("--workloads=wmt", "--entries=adamw", f"--output={tmp_path / 'table'}")
    places = {"ALGOPERF_DIR": str(checkout), "ALGOPERF_PYTHON": sys.executable}
    log = tmp_path / "logs/wmt_adamw_repository.log"
    process = subprocess.Popen(
        [sys.executable, "-m", "scripts.reference_tests", *flags, f"--logs={log.parent}"],
        cwd=ROOT,
        env=os.environ | places,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
    )
    while not (log.exists() and "flags" in log.read_text()):
        assert process.poll() is None
        time.sleep(0.05)
    (test,) = psutil.Process(process.pid).children()
    process.terminate()
    _, said = process.communicate(timeout=30)
    assert process.returncode == 130
    assert b"interrupted" in said
    assert not test.is_running()


@pytest.mark.parametrize(
    ("flag", "message"),
    [
        ("--workloads=imagenet", "unknown workload 'imagenet'; known: cifar, criteo1tb, "),
        (
            "--entries=nesterov",
            "entry 'nesterov' cannot be packaged: it has no submission_i",
        ),
        ("--packaged=/nowhere", "no package of 'adamw' in /nowhere: `make package ENTRY=adamw"),
        ("--entries=", "--entries and --workloads must name at least one each"),
    ],
)
def test_a_slip_is_named_in_one_line(checkout, flag, message):
    line = must_refuse(run(checkout, "--entries=adamw", flag))
    assert line.startswith(f"error: {message}")


def test_a_damaged_table_is_not_overwritten(tmp_path):
    (tmp_path / "reference_tests.csv").write_text("a,b\n1,2\n")
    with pytest.raises(UserError, match="has other columns"):
        reference_tests.read(tmp_path)
