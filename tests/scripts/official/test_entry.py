"""Submissions of other people: what they say of themselves, and how they import their own files."""

import json
import os
import subprocess
import sys

import pytest

from common.cli import UserError
from scripts.local.environment import ROOT
from scripts.official import logs, run
from scripts.official.command import command
from scripts.official.entry import find_entry
from scripts.official.imports import Places, places
from tests.scripts.commands import must_refuse, must_succeed
from tests.scripts.official.fakes import GOOD, SKIP, Place, make_entry, make_trial

# As the published winner: names of its own folders, imported as if these were on the path.
WINNER = {
    "submission.py": "import torch\nfrom optimizers.shampoo.main import Shampoo\n",
    "optimizers/__init__.py": "",
    "optimizers/shampoo/__init__.py": "",
    "optimizers/shampoo/main.py": (
        "from types_of import Kind\nfrom utils.blocks import Block\n"
        "from optimizers.matrices import root\nShampoo = Kind, Block, root\n"
    ),
    "optimizers/shampoo/types_of.py": "Kind = 1\n",
    "optimizers/shampoo/utils/blocks.py": "from .more import Block\n",
    "optimizers/shampoo/utils/more.py": "Block = 2\n",
    "optimizers/matrices.py": "import numpy\nroot = 3\n",
    "optimizers/shampoo/tests/test_main.py": "import helpers\n",
    "optimizers/shampoo/tests/helpers.py": "",
}


def write(folder, files):
    for name, text in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return folder


def imports(folder, then=""):
    """Python, on an entry's paths, that imports what the runner would; without torch."""
    text = (folder / "submission.py").read_text()
    (folder / "submission.py").write_text(text.replace("import torch\n", ""))
    entry = find_entry(str(folder), "self_tuning")
    module = entry.runner_path.removesuffix(".py").replace("/", ".")
    searched = [str(path) for path in entry.import_paths]
    done = subprocess.run(
        [
            *(sys.executable, "-c"),
            f"import sys; sys.path[1:1] = {searched}; import {module} as entry\n{then}",
        ],
        cwd=folder.anchor,
        env=os.environ | entry.variables,
        capture_output=True,
        text=True,
    )
    must_succeed(done)


def test_files_that_import_each_other_as_if_their_folders_were_on_the_path(tmp_path):
    folder = write(tmp_path / "winner", WINNER)
    import_places = places(folder, "submission.py")
    assert import_places == Places(
        (),
        (
            ("optimizers", "winner.optimizers"),
            ("types_of", "winner.optimizers.shampoo.types_of"),
            ("utils", "winner.optimizers.shampoo.utils"),
        ),
    )
    imports(folder)


def test_files_that_import_each_other_from_the_repositorys_root(tmp_path):
    folder = write(
        tmp_path / "submissions/self_tuning/muon",
        {
            "submission.py": "import json\nfrom submissions.self_tuning.muon.muon import Muon\n",
            "muon.py": "Muon = 1\n",
        },
    )
    assert places(folder, "submission.py") == Places((tmp_path,))
    imports(folder)


def test_files_that_import_each_other_from_where_they_lie_no_more(tmp_path):
    moved = "from submissions_algorithms.leaderboard.external.old_name.optimizers"
    folder = write(
        tmp_path / "winner",
        WINNER
        | {
            "optimizers/matrices.py": f"{moved}.shampoo.types_of import Kind as root\n",
            "optimizers/shampoo/types_of.py": f"{moved}.roots import Kind\n",
            "optimizers/roots.py": "class Kind:\n    pass\n",
        },
    )
    former = "submissions_algorithms.leaderboard.external.old_name"
    assert (former, "winner") in places(folder, "submission.py").aliases
    # Whatever its name, a file is one module, and has its own name.
    then = (
        f"import {former}.optimizers.roots as former, winner.optimizers.roots as own\n"
        "import optimizers.roots as short, types_of\n"
        "assert former is own is short and own.__spec__.name == own.__name__\n"
        "assert own.__name__ == 'winner.optimizers.roots' and types_of.Kind is own.Kind\n"
        "assert entry.Shampoo[0] is entry.Shampoo[2] is own.Kind\n"
    )
    imports(folder, then)
    (folder / "tuning_search_space.json").write_text(json.dumps([{"learning_rate": GOOD}]))
    made = command(make_trial(folder), Place(tmp_path).node())
    assert "--submission_path=aliased_submission.py" in made.arguments
    assert made.variables["SUBMISSION_MODULE"] == "winner.submission"


def test_relative_imports_and_what_cannot_be_parsed_need_no_folder(tmp_path):
    folder = write(tmp_path / "toy", {"submission.py": "from . import other\n", "other.py": "a ="})
    assert places(folder, "submission.py") == Places()


@pytest.mark.parametrize(
    ("info", "text", "space", "ruleset", "framework"),
    [
        ("ruleset: external\nframework: PyTorch\n", "", True, "external", "pytorch"),
        ('ruleset: "self-tuning"\nframework: "JAX"\n', "", False, "self_tuning", "jax"),
        ("ruleset: self-tuning\n", "import jax\n", True, "self_tuning", "jax"),
        (None, "import torch\nimport jax\n", True, "external", "pytorch"),
        (None, "from jax import lax\n", True, "external", "jax"),
        ("name: conda\ndependencies:\n  - jax=1\n", "", True, "external", "pytorch"),
    ],
)
def test_a_folder_says_its_ruleset_and_framework(tmp_path, info, text, space, ruleset, framework):
    folder = write(tmp_path / "toy", {"submission.py": text})
    if info is not None:
        (folder / "submissions_info.yaml").write_text(info)
    if space:
        (folder / "tuning_search_space.json").write_text(json.dumps([{"style": "reduced"}]))
    entry = find_entry(str(folder))
    assert (entry.ruleset, entry.framework) == (ruleset, framework)
    assert entry.points() == ([{}] if ruleset == "self_tuning" else [{"style": "reduced"}])
    if info is None:
        said = find_entry(str(folder), "self_tuning", "jax")
        assert (said.ruleset, said.framework, said.space) == ("self_tuning", "jax", None)


def test_flags_may_not_contradict_what_an_entry_says():
    for name, ruleset in (("adamw", "self_tuning"), ("shampoo_self_tuning", "external")):
        with pytest.raises(UserError, match=rf"^--ruleset={ruleset}: .*yml says "):
            find_entry(name, ruleset)
    with pytest.raises(UserError, match=r"^--framework=jax: .*submission_info.yml says pytorch$"):
        find_entry("adamw", framework="jax")
    assert find_entry("adamw", "external", "pytorch") == find_entry("adamw")


def test_an_entry_of_this_repository_is_the_same_by_its_path():
    folder = ROOT / "submission" / "entries" / "shampoo"
    entry = find_entry(f"{folder}/")
    assert entry == find_entry("shampoo") == find_entry(f"{folder}/../shampoo")
    assert (entry.python_path, entry.name) == (ROOT, "stacked_shampoo")


def test_ranges_of_its_own_are_drawn(tmp_path):
    folder = make_entry(tmp_path / "toy", [GOOD])
    ranges = {"learning_rate": {"min": 0, "max": 1, "scaling": "uniform"}}
    (folder / "tuning_search_space.json").write_text(json.dumps(ranges))
    entry = find_entry(str(folder))
    assert entry.has_ranges and len(entry.points(3)) == 3
    assert not find_entry("adamw").has_ranges


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("a b={}", "'a b' cannot be a name"),
        ("..={}", r"'\.\.' cannot be a name"),
        ("mine=shampoo", "'shampoo' is no path; give name=path/to/a/folder"),
    ],
)
def test_names_are_checked(tmp_path, given, message):
    folder = make_entry(tmp_path / "toy", [GOOD])
    assert find_entry(f"meta={folder}").name == "meta"
    with pytest.raises(UserError, match=f"^--entry=.*{message}"):
        find_entry(given.format(folder))


def test_jax_has_one_process_for_all_gpus_and_folders_of_its_own(tmp_path):
    folder = make_entry(tmp_path / "toy", [GOOD])
    (folder / "submission.py").write_text("import jax\n")
    trial, node = make_trial(folder), Place(tmp_path).node(4)
    made = command(trial, node)
    assert made.arguments[1].endswith("/launcher/mended_runner.py")
    assert made.arguments[2] == str(node.checkout / "submission_runner.py")
    assert "--framework=jax" in made.arguments
    assert made.variables["CUDA_VISIBLE_DEVICES"] == "0,1,2,3"
    assert trial.directory(tmp_path) == tmp_path / "toy/study_0/mnist_jax/trial_1"
    assert trial.recorded()["framework"] == "jax"


def test_killed_trials_of_jax_go_on(tmp_path):
    folder = make_entry(tmp_path / "toy", [GOOD])
    (folder / "submission.py").write_text("import jax\n")
    trial, node = make_trial(folder), Place(tmp_path).node()
    logged = trial.directory(node.output)
    (logged / "checkpoint_10").mkdir(parents=True)
    assert run.describe(trial, node) == "resumes from checkpoint_10"
    assert logs.prepare(logged) == 10


def test_two_of_one_name_run_beside_each_other_under_names(tmp_path, place):
    toy, winner = tmp_path / "ours/toy", write(tmp_path / "theirs/toy", WINNER)
    make_entry(toy, [GOOD])
    size = "def get_batch_size(workload_name):\n    return 16\n"
    (winner / "submission.py").write_text("from optimizers.shampoo.main import Shampoo\n" + size)
    points = [{"learning_rate": GOOD, "grafting_type": "ADAM", "use_momentum": False}]
    (winner / "tuning_search_space.json").write_text(json.dumps(points))
    output = (f"--output={place.output}", "--workloads=mnist", "--studies=1", "--gpus=0", SKIP)

    def study(entries):
        return place.finish(
            place.command("study", "--suite=official", f"--entries={entries}", *output)
        )

    line = must_refuse(study(f"{toy},{winner}"))
    assert "two are of the same name; name=path gives one another name" in line
    must_succeed(study(f"{toy},winner={winner}"))
    recorded = json.loads((place.folder("winner") / "hparams.json").read_text())
    assert recorded == points[0]
    assert place.status(entry="toy")["reason"] == place.status(entry="winner")["reason"]
