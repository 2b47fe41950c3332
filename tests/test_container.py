"""The Dockerfile names files and make targets that exist; git and Docker ignore the same."""

import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
DOCKERFILE = (ROOT / "Dockerfile").read_text().replace("\\\n", " ")
MAKEFILE = (ROOT / "Makefile").read_text()
TARGETS = set(re.findall(r"^([a-z-]+):.*?##", MAKEFILE, re.MULTILINE))


def instructions(name):
    """The arguments of each instruction of a kind."""
    return re.findall(rf"^{name} (.+)$", DOCKERFILE, re.MULTILINE)


def patterns(name):
    lines = (ROOT / name).read_text().splitlines()
    return {line for line in lines if line and not line.startswith("#")}


def test_what_is_copied_exists():
    sources = [source for copied in instructions("COPY") for source in copied.split()[:-1]]
    assert "requirements.txt" in sources
    assert [source for source in sources if not (ROOT / source).exists()] == []


def test_what_make_needs_is_copied_before_it_runs():
    before = DOCKERFILE.split("RUN make")[0]
    for target in ("setup", "algoperf"):
        assert f"RUN make {target} " in DOCKERFILE
    rules = re.findall(r"^(?:\$\(STAMP\)|algoperf): (.+)$", MAKEFILE, re.MULTILINE)
    needed = {name for rule in rules for name in re.findall(r"requirements[\w-]*\.txt", rule)}
    assert needed == {
        "requirements.txt",
        "requirements-jax.txt",
        "requirements-data.txt",
        "requirements-algoperf.txt",
    }
    assert [name for name in needed if f" {name} " not in before] == []


def test_the_make_targets_and_variables_exist():
    called = [line for line in instructions("RUN") if line.startswith("make ")]
    assert len(called) == 2
    for line in called:
        target, *given = line.split()[1:]
        assert target in TARGETS
        for name in (word.partition("=")[0] for word in given):
            assert re.search(rf"^{name} \?= ", MAKEFILE, re.MULTILINE), name
            assert re.search(rf"^ARG {name}=", DOCKERFILE, re.MULTILINE), name
    defaults = dict(argument.split("=") for argument in instructions("ARG") if "=" in argument)
    for name in ("PYTHON", "TORCH", "TORCHVISION"):
        assert f"\n{name} ?= {defaults[name]}\n" in MAKEFILE


def test_documented_runs_name_make_targets():
    text = (ROOT / "docs" / "official.md").read_text().replace("\\\n", " ")
    runs = re.findall(r"^docker run .* shampoo-algoperf ([\w-]+)", text, re.MULTILINE)
    assert "official" in runs and set(runs) <= TARGETS


def test_git_and_docker_ignore_the_same():
    def for_docker(pattern):
        bare = pattern.rstrip("/")
        return bare[1:] if bare.startswith("/") else f"**/{bare}"

    assert {for_docker(pattern) for pattern in patterns(".gitignore")} == patterns(".dockerignore")


def test_docker_ignores_nothing_that_git_tracks():
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--ignored", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    if listed.returncode:
        pytest.skip("not a checkout of git")
    assert listed.stdout == ""
