"""Packages of entries: what they hold, that they run far from here, and what is refused."""

import ast
import json
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from common.cli import UserError
from scripts.local.environment import ROOT
from scripts.official.entry import SPACE
from scripts.package_entry.folder import MANIFEST, Package, compose, module_of, packable, write
from scripts.package_entry.info import check_info, read_info
from scripts.package_entry.sources import ELSEWHERE, PROJECT
from tests.scripts.commands import finish

ENTRIES = packable(ROOT)
STEPS = Path(__file__).parent / "fake" / "entry_steps.py"


@pytest.fixture(scope="module")
def packages() -> dict[str, Package]:
    return {entry: compose(ROOT, entry) for entry in ENTRIES}


@pytest.fixture(scope="module")
def dist(packages: dict[str, Package], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """All packages in one folder."""
    output = tmp_path_factory.mktemp("dist")
    for package in packages.values():
        write(package, output, {}, overwrite=False)
    return output


def module_name(package: Package) -> str:
    """As the official runner makes it of --submission_path."""
    return f"{package.home}/submission.py".removesuffix(".py").replace("/", ".")


def steps(
    folder: Path, paths: list[Path], modules: dict[str, str], points: dict[str, Any]
) -> tuple[dict[str, list[torch.Tensor]], list[str]]:
    """Weights of each entry after some steps in a process of its own, and the files it loaded."""
    task = {"paths": [str(path) for path in paths], "modules": modules, "points": points}
    done = subprocess.run(
        [sys.executable, "-I", str(STEPS), json.dumps(task), "weights.pt"],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    return torch.load(folder / "weights.pt"), json.loads(done.stdout)


def test_packages_take_the_same_steps_far_from_this_repository(
    packages: dict[str, Package], dist: Path, tmp_path: Path
) -> None:
    points = {
        entry: json.loads(package.contents[SPACE])[0] if SPACE in package.contents else None
        for entry, package in packages.items()
    }
    here = {entry: module_of(entry) for entry in packages}
    there = {entry: module_name(package) for entry, package in packages.items()}
    expected, _ = steps(tmp_path, [ROOT], here, points)
    paths = [dist]
    if find_spec("algoperf") is None:  # has the same names
        (tmp_path / "benchmark/algoperf").mkdir(parents=True)
        fallback = (ROOT / "workloads/_spec_fallback.py").read_text()
        (tmp_path / "benchmark/algoperf/spec.py").write_text(fallback)
        paths.append(tmp_path / "benchmark")
    found, loaded = steps(tmp_path, paths, there, points)
    ours = {path for path in loaded if Path(path).is_relative_to(ROOT)}
    # The environment may lie within the repository.
    assert {path for path in ours if not Path(path).is_relative_to(sys.prefix)} == {str(STEPS)}
    assert [path for path in loaded if Path(path).is_relative_to(dist)]
    assert set(found) == set(ENTRIES)
    for entry, weights in found.items():
        assert all(map(torch.equal, weights, expected[entry])), entry


@pytest.mark.parametrize("entry", ENTRIES)
def test_a_package_imports_nothing_of_this_repository(
    packages: dict[str, Package], entry: str
) -> None:
    for path, data in packages[entry].contents.items():
        if not path.endswith(".py"):
            continue
        for node in ast.walk(ast.parse(data)):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            if isinstance(node, ast.ImportFrom) and node.level == 0:
                names = [node.module or ""]
            assert not {name.partition(".")[0] for name in names} & (ELSEWHERE | {PROJECT}), path


@pytest.mark.parametrize("entry", ENTRIES)
def test_a_package_has_the_layout_of_the_submissions_repository(
    packages: dict[str, Package], dist: Path, entry: str
) -> None:
    package = packages[entry]
    info = yaml.safe_load(package.contents["submission_info.yml"])
    assert list(info) == [
        "submission_name", "submission_folder", "authors", "affiliations", "version", "ruleset",
        "framework", "description",
    ]  # fmt: skip
    ruleset = {"external": "external_tuning", "self-tuning": "self_tuning"}[info["ruleset"]]
    assert info["submission_folder"] == f"submissions/{ruleset}/{entry}"
    folder = dist / info["submission_folder"]
    for name in ("__init__.py", "submission.py", "requirements.txt", "LICENSE", MANIFEST):
        assert (folder / name).is_file()
    assert (folder / SPACE).exists() == (info["ruleset"] == "external")
    beside = ROOT / "submission/entries" / entry / "README.md"
    assert (folder / "README.md").exists() == beside.exists()


def test_only_what_an_entry_needs_is_taken(packages: dict[str, Package]) -> None:
    assert "shampoo/optimizer.py" in packages["shampoo"].contents
    assert "plan/reference.py" not in packages["shampoo"].contents
    assert not [path for path in packages["adamw"].contents if path.startswith("shampoo/")]
    assert "nadamw.py" in packages["nadamw"].contents


def test_examples_in_docstrings_import_from_the_package(packages: dict[str, Package]) -> None:
    text = packages["shampoo"].contents["shampoo/__init__.py"].decode()
    assert ">>> from submissions.external_tuning.shampoo.shampoo import Shampoo" in text


def test_the_same_code_gives_the_same_bytes(tmp_path: Path) -> None:
    folders = [
        write(package, tmp_path / name, {"entry": "adamw"}, overwrite=False)
        for name in ("a", "b")
        for package in [compose(ROOT, "adamw")]
    ]
    first, second = (
        {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*.*")}
        for folder in folders
    )
    assert first == second


def test_a_folder_of_somebody_else_stays(packages: dict[str, Package], tmp_path: Path) -> None:
    package = packages["adamw"]
    folder = tmp_path / package.home
    folder.mkdir(parents=True)
    (folder / "mine.txt").write_text("mine")
    with pytest.raises(UserError, match=f"has no {MANIFEST}; --overwrite"):
        write(package, tmp_path, {}, overwrite=False)
    assert [path.name for path in folder.iterdir()] == ["mine.txt"]
    write(package, tmp_path, {}, overwrite=True)
    assert not (folder / "mine.txt").exists()
    (folder / "__pycache__").mkdir()
    (folder / "__pycache__/submission.pyc").write_text("")
    write(package, tmp_path, {}, overwrite=False)
    (folder / "submission.py").write_text("# mended by hand\n")
    with pytest.raises(UserError, match=r"has been changed in submission\.py"):
        write(package, tmp_path, {}, overwrite=False)
    (folder / MANIFEST).write_text("[]")
    with pytest.raises(UserError, match="damaged"):
        write(package, tmp_path, {}, overwrite=False)
    assert [path.name for path in folder.parent.iterdir()] == ["adamw"]


def test_the_command_line(tmp_path: Path) -> None:
    command = ("-m", "scripts.package_entry", f"--output={tmp_path}", "--authors=A. Person, B")
    done = finish(*command, "--entry=nadamw")
    assert done.returncode == 0, done.stderr
    block = yaml.safe_load(done.stdout.partition("```yaml\n")[2].removesuffix("```\n"))
    assert block["submission_folder"] == "external_tuning/nadamw"
    assert block["authors"] == "A. Person, B"
    folder = tmp_path / "submissions/external_tuning/nadamw"
    written = yaml.safe_load((folder / "submission_info.yml").read_text())
    assert written["authors"] == "A. Person, B"
    manifest = json.loads((folder / MANIFEST).read_text())
    assert manifest["module"] == "submission.entries.nadamw.submission"
    for wrong in ("nesterov", "shampo"):
        done = finish(*command, f"--entry={wrong}")
        assert done.returncode == 2
        assert done.stderr == (
            f"error: entry '{wrong}' cannot be packaged; can be: {', '.join(ENTRIES)}\n"
        )


INFO = {
    "submission_name": "Name",
    "authors": "A, B",
    "affiliations": "",
    "version": "1.0",
    "ruleset": "external",
    "framework": "PyTorch",
    "description": "What it is.",
}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"ruleset": "internal"}, "ruleset: 'internal'; allowed: external, self-tuning"),
        ({"framework": "pytorch"}, "framework: 'pytorch'; allowed: PyTorch, JAX"),
        ({"version": 1.0}, "version: 1.0 is no text"),
        ({"authors": " "}, "authors: empty"),
        ({"description": "number #1"}, "description: must be one line without #"),
        ({"description": "two\nlines"}, "description: must be one line without #"),
        ({"licence": "x"}, "licence: unknown; known: submission_name"),
    ],
)
def test_information_that_the_organisers_would_refuse(change: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=f"^info.yml: {message}"):
        check_info(INFO | change, "info.yml")


def test_information_must_be_whole(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="authors: missing"):
        check_info({k: v for k, v in INFO.items() if k != "authors"}, "x")
    (tmp_path / "info.yml").write_text("a: [")
    with pytest.raises(UserError, match="not valid YAML"):
        read_info(tmp_path / "info.yml")
