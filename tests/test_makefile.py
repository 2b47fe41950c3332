"""What the Makefile's targets run, by an interpreter that only writes down its arguments."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

MAKEFILE = Path(__file__).parents[1] / "Makefile"
PYTHON = """#!/bin/sh
for word in "$@"; do printf '%s\\0' "$word"; done >> "$RECORD"; printf '\\n\\0' >> "$RECORD"
"""
ODD = 'two  words, it\'s "so" & so; *'

pytestmark = pytest.mark.skipif(shutil.which("make") is None, reason="no make here")


def run(folder, target, *given, **variables):
    """The arguments of each Python that a target runs in a folder with an environment."""
    shutil.copy(MAKEFILE, folder)
    for name in ("", "-jax", "-data", "-algoperf"):
        (folder / f"requirements{name}.txt").touch()
    for name in (".venv", ".venv-algoperf"):
        (folder / name / "bin").mkdir(parents=True)
        python = folder / name / "bin" / "python"
        python.write_text(PYTHON)
        python.chmod(0o755)
    (folder / ".venv" / ".installed").touch()
    record = folder / "record"
    environment = os.environ | variables | {"RECORD": str(record)}
    for name in ("MAKEFLAGS", "MFLAGS", "MAKELEVEL"):
        environment.pop(name, None)
    done = subprocess.run(
        ["make", "--silent", target, *given],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    calls = record.read_text().split("\n\0")[:-1]
    return [call.split("\0")[:-1] for call in calls]


@pytest.mark.parametrize("where", ["environment", "command line"])
@pytest.mark.parametrize(
    ("target", "variables", "flags"),
    [
        ("reproduce", {"RUNS": ODD}, {"--output": f"{ODD}/reproduce"}),
        ("reproduce", {"JOBS": ODD}, {"--jobs": ODD}),
        ("reproduce", {"WORKLOADS": ODD}, {"--workloads": ODD}),
        ("league", {"RUNS": ODD}, {"--output": f"{ODD}/league", "--logs": f"{ODD}/league_search"}),
        ("league", {"ENTRIES": ODD, "WORKLOADS": ODD}, {"--entries": ODD, "--workloads": ODD}),
        ("targets", {"WORKLOADS": ODD}, {"--workloads": ODD}),
        ("benchmark", {"RUNS": ODD}, {"--output": f"{ODD}/step_cost"}),
        (
            "gpu-checks",
            dict.fromkeys(("PARTS", "DEVICE", "OUTPUT"), ODD),
            dict.fromkeys(("--parts", "--device", "--output"), ODD),
        ),
        ("score", {"LOGS": ODD, "RUNS": ODD}, {"--logs": ODD, "--output": f"{ODD}/score"}),
        (
            "score",
            dict.fromkeys(("LOGS", "OUTPUT", "VERSION", "RULESET", "BASELINE"), ODD),
            dict.fromkeys(("--logs", "--output", "--version", "--ruleset", "--baseline"), ODD),
        ),
        (
            "data",
            dict.fromkeys(("WORKLOAD", "DATA", "TEMP"), ODD),
            dict.fromkeys(("--workload", "--data_dir", "--temp_dir"), ODD),
        ),
        (
            "official",
            dict.fromkeys(("WORKLOAD", "ENTRY", "STUDY", "TRIAL", "GPUS", "DATA", "RUNS"), ODD)
            | dict.fromkeys(("AT_ONCE", "RULESET", "FRAMEWORK"), ODD),
            dict.fromkeys(("--workload", "--entry", "--study", "--trial", "--gpus"), ODD)
            | dict.fromkeys(("--at_once", "--ruleset", "--framework"), ODD)
            | {"--data_dir": ODD, "--experiment_dir": f"{ODD}/official"},
        ),
        (
            "package",
            dict.fromkeys(("ENTRY", "OUTPUT", "AUTHORS", "AFFILIATIONS"), ODD),
            dict.fromkeys(("--entry", "--output", "--authors", "--affiliations"), ODD),
        ),
        ("reference-tests", {"PACKAGED": ODD}, {"--packaged": ODD, "--output": "results/official"}),
        (
            "imagenet",
            dict.fromkeys(("CONFIG", "DATA", "GPUS", "SEED", "RUNS"), ODD),
            dict.fromkeys(("--config", "--data_dir", "--nproc", "--seed"), ODD)
            | {"--output": f"{ODD}/imagenet"},
        ),
    ],
)
def test_values_arrive_as_they_are_given(tmp_path, where, target, variables, flags):
    if where == "environment":
        calls = run(tmp_path, target, **variables)
    else:
        calls = run(tmp_path, target, *(f"{name}={value}" for name, value in variables.items()))
    call = next(call for call in calls if call[1].startswith(("scripts", "analysis")))
    given = dict(word.partition("=")[::2] for word in call if word.startswith("--"))
    assert {name: given.get(name) for name in flags} == flags
    assert not [word for word in call if word.startswith(ODD[:5])]


@pytest.mark.parametrize(
    ("variables", "trials"),
    [
        ((), {"--trials=best", "--best_from=workloads/standin/points/best.csv"}),
        (("ALL=1",), {"--trials=all"}),
    ],
)
def test_the_league_studies_the_best_point_or_all_five(tmp_path, variables, trials):
    calls = run(tmp_path, "league", *variables)
    study = next(call for call in calls if "scripts.study" in call[1])
    assert {flag for flag in study if flag.startswith(("--trials", "--best"))} == trials


def test_the_benchmark_needs_the_python_that_its_pins_have_wheels_for(tmp_path):
    shutil.copy(MAKEFILE, tmp_path)
    (tmp_path / "requirements-algoperf.txt").touch()
    (tmp_path / "checkout").mkdir()
    (tmp_path / "checkout" / "submission_runner.py").touch()
    python = tmp_path / "newer python"
    python.write_text('#!/bin/sh\ncase "$1" in --version) echo Python 3.13.1;; *) exit 1;; esac\n')
    python.chmod(0o755)
    done = subprocess.run(
        ["make", "algoperf", f"PYTHON={python}", f"ALGOPERF_SOURCE=file://{tmp_path}/checkout"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 2
    error = next(line for line in done.stderr.splitlines() if line.startswith("error: "))
    assert f"PYTHON={python} is Python 3.13.1" in error and "need Python 3.11" in error
    assert not (tmp_path / ".venv-algoperf").exists()
