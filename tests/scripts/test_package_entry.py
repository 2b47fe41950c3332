"""Packages of entries: what they hold, that they run far from here, and what is refused."""

import json
import re
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pandas as pd
import pytest
import torch
import yaml

from analysis.style import label
from common.cli import UserError
from scripts.local.entry_info import SPACE
from scripts.local.environment import ROOT
from scripts.official.entry import find_entry
from scripts.package_entry import (
    COPY,
    MANIFEST,
    compose,
    contents_of,
    module_of,
    packable,
    write,
)
from tests.scripts.commands import finish, must_refuse, must_succeed

ENTRIES = packable(ROOT)
STEPS = Path(__file__).parent / "fake" / "entry_steps.py"


@pytest.fixture(scope="module")
def packages():
    return {entry: compose(ROOT, entry) for entry in ENTRIES}


@pytest.fixture(scope="module")
def dist(packages, tmp_path_factory):
    """All packages in one folder."""
    output = tmp_path_factory.mktemp("dist")
    for package in packages.values():
        write(package, output, {}, overwrite=False)
    return output


def steps(folder, paths, modules, points, in_jax):
    """Weights of each entry after some steps in a process of its own, and the files it loaded."""
    task = {"paths": [str(path) for path in paths], "modules": modules, "points": points}
    task["in_jax"] = in_jax
    done = subprocess.run(
        [sys.executable, "-I", str(STEPS), json.dumps(task), "weights.pt"],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert done.returncode == 0, done.stderr
    return torch.load(folder / "weights.pt"), json.loads(done.stdout)


@pytest.mark.slow
@pytest.mark.parametrize("framework", ["PyTorch", "JAX"])
def test_packages_take_the_same_steps_far_from_this_repository(packages, dist, tmp_path, framework):
    in_jax = framework == "JAX"
    if in_jax:
        pytest.importorskip("optax", reason="optax is not installed: requirements-jax.txt")
    infos = {entry: package.contents["submission_info.yml"] for entry, package in packages.items()}
    packages = {
        entry: package
        for entry, package in packages.items()
        if yaml.safe_load(infos[entry])["framework"] == framework
    }
    points = {
        entry: json.loads(package.contents[SPACE])[0] if SPACE in package.contents else None
        for entry, package in packages.items()
    }
    expected, _ = steps(
        tmp_path, [ROOT], {entry: module_of(entry) for entry in packages}, points, in_jax
    )
    # As the official runner makes it of --submission_path, and as `make official ENTRY=path` does.
    names = {
        **{entry: f"{packages[entry].home}/submission".replace("/", ".") for entry in packages},
        "alone": "stacked_shampoo_jax.submission" if in_jax else "stacked_shampoo.submission",
    }
    alone = "shampoo_jax" if in_jax else "shampoo"
    points["alone"], expected["alone"] = points[alone], expected[alone]
    paths = [dist, dist / "submissions/external_tuning"]
    if find_spec("algoperf") is None:  # has the same names
        (tmp_path / "benchmark/algoperf").mkdir(parents=True)
        fallback = (ROOT / "submission/algoperf_api/spec_fallback.py").read_text()
        (tmp_path / "benchmark/algoperf/spec.py").write_text(fallback)
        paths.append(tmp_path / "benchmark")
    packaged, loaded = steps(tmp_path, paths, names, points, in_jax)
    repository = [path for path in loaded if Path(path).is_relative_to(ROOT)]
    # The environment may lie within the repository.
    assert {path for path in repository if not Path(path).is_relative_to(sys.prefix)} == {
        str(STEPS)
    }
    assert set(packaged) == set(names)
    for entry, weights in packaged.items():
        assert all(map(torch.equal, weights, expected[entry])), entry


@pytest.mark.parametrize("entry", ENTRIES)
def test_modules_are_copied_byte_for_byte(packages, entry):
    copies = {
        path.removeprefix(f"{COPY}/"): data
        for path, data in packages[entry].contents.items()
        if path.startswith(COPY)
    }
    assert {"__init__.py", f"entries/{entry}/submission.py"} < copies.keys()
    for path, data in copies.items():
        assert data == (ROOT / "submission" / path).read_bytes()
    assert COPY not in sys.stdlib_module_names


@pytest.mark.parametrize("entry", ENTRIES)
def test_a_package_has_the_layout_of_the_submissions_repository(packages, dist, entry):
    package = packages[entry]
    info = yaml.safe_load(package.contents["submission_info.yml"])
    assert list(info) == [
        "submission_name", "submission_folder", "authors", "affiliations", "version", "ruleset",
        "framework", "description",
    ]  # fmt: skip
    ruleset = {"external": "external_tuning", "self-tuning": "self_tuning"}[info["ruleset"]]
    name = f"stacked_{entry}" if "shampoo" in entry else entry
    assert info["submission_folder"] == packages[entry].home == f"submissions/{ruleset}/{name}"
    folder = dist / info["submission_folder"]
    for name in ("__init__.py", "submission.py", "requirements.txt", "LICENSE", MANIFEST):
        assert (folder / name).is_file()
    assert (folder / SPACE).exists() == (info["ruleset"] == "external")
    beside = ROOT / "submission/entries" / entry / "README.md"
    assert (folder / "README.md").exists() == beside.exists()
    text = (folder / "README.md").read_text()
    assert not re.findall(r"\]\((?!https://)", text), "files of a link are not in the package"
    for named in re.findall(r", `([\w./]+\.md)`", text):
        assert (ROOT / named).is_file(), named


def test_figures_call_an_entry_as_its_package_does(packages):
    for package in packages.values():
        name = yaml.safe_load(package.contents["submission_info.yml"])["submission_name"]
        assert label(Path(package.home).name) == name


def test_our_entries_take_no_published_submission_s_name(packages):
    published = set(pd.read_csv(ROOT / "results/published/medians.csv")["submission"])
    assert {"shampoo", "shampoo_submission", "schedule_free_adamw_v2"} < published
    packaged = {Path(packages[entry].home).name for entry in ENTRIES if "shampoo" in entry}
    assert len(packaged) == 4
    assert not packaged & published
    assert {find_entry(entry).name for entry in ENTRIES if "shampoo" in entry} == packaged


def test_only_what_an_entry_needs_is_taken(packages):
    rooms = {
        entry: {path.split("/")[1] for path in package.contents if path.startswith(f"{COPY}/")}
        for entry, package in packages.items()
    }
    assert rooms["adamw"] == {"__init__.py", "algoperf_api", "entries"}
    assert {"plan", "shampoo"} < rooms["shampoo"]
    assert not [path for path in packages["shampoo"].contents if "reference" in path]
    assert f"{COPY}/entries/nadamw/nadamw.py" in packages["nadamw"].contents
    assert f"{COPY}/entries/shampoo/submission.py" in packages["shampoo_self_tuning"].contents
    assert not [path for path in packages["shampoo"].contents if "nadamw" in path]
    for entry, of_torch in (("shampoo_jax", "shampoo"), ("adamw_jax", None)):
        assert (
            of_torch is None or f"{COPY}/entries/{of_torch}/options.py" in packages[entry].contents
        )
        assert not [path for path in packages[entry].contents if "pytorch" in path]
    assert rooms["adamw_jax"] == {"__init__.py", "algoperf_api", "entries"}
    assert {"plan", "shampoo_jax"} < rooms["shampoo_jax_self_tuning"]


def test_the_same_code_gives_the_same_bytes(dist, tmp_path):
    folder = write(compose(ROOT, "adamw"), tmp_path, {}, overwrite=False)
    other = dist / "submissions/external_tuning/adamw"
    assert contents_of(folder) == contents_of(other)
    assert (folder / MANIFEST).read_bytes() == (other / MANIFEST).read_bytes()


def test_a_folder_of_somebody_else_stays(packages, tmp_path):
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


def test_the_command_line(tmp_path):
    command = ("-m", "scripts.package_entry", f"--output={tmp_path}", "--authors=A. Person, B")
    out = must_succeed(finish(*command, "--entry=nadamw"))
    block = yaml.safe_load(out.partition("```yaml\n")[2].removesuffix("```\n"))
    assert block["submission_folder"] == "external_tuning/nadamw"
    assert "to the branch `evaluation` of mlcommons/submissions_algorithms" in out
    assert block["authors"] == "A. Person, B"
    folder = tmp_path / "submissions/external_tuning/nadamw"
    written = yaml.safe_load((folder / "submission_info.yml").read_text())
    assert written["authors"] == "A. Person, B"
    manifest = json.loads((folder / MANIFEST).read_text())
    assert manifest["module"] == "submission.entries.nadamw.submission"
    reasons = {"nesterov": "it has no submission_info.yml", "shampo": "there is none of that name"}
    for wrong, reason in reasons.items():
        line = must_refuse(finish(*command, f"--entry={wrong}"))
        assert line.startswith(
            f"error: entry '{wrong}' cannot be packaged: {reason}; can be: {', '.join(ENTRIES)}"
        )
    assert line.endswith("did you mean shampoo?")


@pytest.fixture
def tree(tmp_path):
    """A repository with an entry `e` that imports nothing."""
    for name, text in {
        "submission/__init__.py": "",
        "submission/a.py": "",
        "submission/entries/__init__.py": "",
        "submission/entries/e/__init__.py": "",
        "submission/entries/e/submission.py": "",
        "submission/entries/e/submission_info.yml": yaml.safe_dump(INFO),
        f"submission/entries/e/{SPACE}": '[{"learning_rate": 0.1}]',
        "requirements.txt": "einops==0.8.1  # shapes\n",
        "LICENSE": "A licence.",
    }.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    return tmp_path


INFO = {
    "submission_name": "Name",
    "submission_folder": "submissions/external_tuning/e",
    "authors": "A, B",
    "affiliations": "",
    "version": "1.0",
    "ruleset": "external",
    "framework": "PyTorch",
    "description": "What it is.",
}
POINT = json.loads((ROOT / "submission/entries/adamw" / SPACE).read_text())[0]
SELF_TUNING = INFO | {
    "ruleset": "self-tuning",
    "submission_folder": "submissions/self_tuning/e",
}


def copies(tree, code):
    """The modules in the package of the entry `e` with this code."""
    (tree / "submission/entries/e/submission.py").write_text(code)
    contents = compose(tree, "e").contents
    return {path.removeprefix(f"{COPY}/") for path in contents if path.startswith(COPY)}


@pytest.mark.parametrize(
    "code",
    [
        "from ... import a",
        "from ...a import b",
        "from ..e.submission import c\nfrom ... import a as d",
        "if TYPE_CHECKING:\n from ...a import b",
        "def f():\n from ... import a",
    ],
)
def test_imports_of_every_form_are_followed(tree, code):
    (tree / "submission/a.py").write_text("from . import a\nfrom .b import c")  # and round
    (tree / "submission/b.py").write_text("from .entries.e import submission")
    above = {"__init__.py", "entries/__init__.py", "entries/e/__init__.py"}
    assert copies(tree, code) == {*above, "a.py", "b.py", "entries/e/submission.py"}


def test_a_fallback_beside_the_benchmark_is_not_followed(tree):
    code = "try:\n from algoperf import spec\nexcept ImportError:\n from workloads import spec"
    assert "a.py" not in copies(tree, code)


def test_what_the_benchmark_does_not_install_is_required(tree):
    copies(tree, "import torch, einops.layers, json")
    contents = compose(tree, "e").contents
    assert contents["requirements.txt"].decode().splitlines()[1:] == ["einops==0.8.1"]
    with pytest.raises(UserError, match=r"pins no version of unpinned.*submission\.py"):
        copies(tree, "import unpinned")


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("submission.py", "\nimport workloads", r"submission.py:2: .* no workloads"),
        ("submission.py", "from scripts.run import a", "no scripts.run"),
        ("submission.py", "import submission.a", r":1: .* no submission.a"),
        (
            "submission.py",
            "from .gone import a",
            ":1: there is no module submission.entries.e.gone",
        ),
        (SPACE, "[]", "list of points is empty"),
        ("submission_info.yml", yaml.safe_dump(SELF_TUNING), SPACE),
        ("submission_info.yml", "a: [", "not valid YAML"),
        ("submission_info.yml", "authors: A", "submission_name: missing"),
    ],
)
def test_what_cannot_be_packaged_is_named(tree, name, text, message):
    (tree / "submission/entries/e" / name).write_text(text)
    with pytest.raises(UserError, match=message):
        compose(tree, "e")


@pytest.mark.parametrize(
    ("points", "message"),
    [
        ([{"learnign_rate": 0.1}], "point 1: learnign_rate: unknown to adamw"),
        ([POINT, POINT | {"grad_clip": 1.0}], "point 2 and point 1 differ in 'grad_clip'"),
        ([POINT] * 6, "6 points; the external ruleset runs 5"),
    ],
)
def test_points_that_the_entry_cannot_read_are_not_packaged(tree, points, message):
    folder = (tree / "submission/entries/e").rename(tree / "submission/entries/adamw")
    (folder / SPACE).write_text(json.dumps(points))
    with pytest.raises(UserError, match=f"{SPACE}: {message}"):
        compose(tree, "adamw")


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("ruleset", "internal", "'internal'; allowed: external, self-tuning"),
        ("framework", "pytorch", "'pytorch'; allowed: PyTorch, JAX"),
        ("version", 1.0, "1.0 is no text"),
        ("authors", " ", "empty"),
        ("description", "number #1", "must be one line without #"),
        ("description", "two\nlines", "must be one line without #"),
        ("licence", "x", "unknown; known: submission_name"),
        ("submission_folder", "e", "'e' is not submissions/external_tuning/ and a name in small"),
        ("submission_folder", "submissions/self_tuning/e", "'submissions/self_tuning/e' is not"),
        (
            "submission_folder",
            "submissions/external_tuning/E",
            "'submissions/external_tuning/E' is",
        ),
    ],
)
def test_information_that_the_organisers_would_refuse(tree, key, value, message):
    path = tree / "submission/entries/e/submission_info.yml"
    path.write_text(yaml.safe_dump(INFO | {key: value}))
    with pytest.raises(UserError, match=f"^{path}: {key}: {message}"):
        compose(tree, "e")
