"""What the official runner is told: the printed commands, their seeds, points and environment."""

import json
import shlex
import subprocess
from pathlib import Path

import pytest

from common.cli import UserError
from scripts.local import environment
from scripts.local.trial import Trial
from scripts.official import installation, side_by_side
from scripts.official.command import Node, command
from scripts.official.entry import find_entry
from scripts.official.trial import OfficialTrial
from tests.scripts.commands import finish
from tests.scripts.official.fakes import GOOD, make_entry, make_trial
from workloads import registry
from workloads.official import search_spaces

ENTRIES = ("shampoo", "shampoo_self_tuning", "nadamw", "adamw")
TUNED = ("shampoo", "nadamw", "adamw")


def node(gpus=8, **changes):
    paths = {"checkout": Path("/c"), "python": Path("/p y/bin/python"), "data_dir": Path("/data")}
    return Node(**{**paths, "gpus": gpus, "output": Path("/logs"), **changes})


def trials_of(workload, entry_name, drawn=False):
    entry = find_entry(entry_name)
    points = search_spaces.draw(workload, entry_name, 3) if drawn else entry.points()
    return [
        OfficialTrial(
            Trial(workload, entry.name, 1, number, point),
            entry,
            tuple(points) if drawn else None,
        )
        for number, point in enumerate(points, start=1)
    ]


def words(trial, on):
    """The printed command's words after the change to its own directory."""
    split = shlex.split(command(trial, on).shell())
    work = str(trial.directory(on.output) / ".work")
    assert split[:7] == ["mkdir", "-p", work, "&&", "cd", work, "&&"]
    return split[7:]


def test_torchrun_understands_the_launcher():
    from torch.distributed.run import parse_args

    given = words(trials_of("wmt", "shampoo")[0], node())
    assert given[3:6] == ["/p y/bin/python", "-m", "torch.distributed.run"]
    parsed = parse_args(given[6:])
    assert (parsed.nproc_per_node, parsed.nnodes, parsed.standalone) == ("8", "1", True)
    assert parsed.training_script == "/c/submission_runner.py"
    assert "--resume_last_run" in parsed.training_script_args
    assert not any("overwrite" in word for word in given)


def test_as_many_gpus_are_visible_as_ranks(monkeypatch):
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    trial = trials_of("ogbg", "adamw")[0]
    for gpus, devices in ((0, ""), (1, "0")):
        given = words(trial, node(gpus))
        assert given[1] == f"CUDA_VISIBLE_DEVICES={devices}"
        assert given[3:5] == ["/p y/bin/python", "/c/submission_runner.py"]  # without torchrun
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4,5,6,7")
    assert command(trial, node(2)).variables["CUDA_VISIBLE_DEVICES"] == "4,5"
    with pytest.raises(UserError, match="--gpus=8: CUDA_VISIBLE_DEVICES=4,5,6,7 has 4 of 8"):
        command(trial, node(8))


def test_trials_side_by_side_see_gpus_of_their_own(monkeypatch):
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    trial = trials_of("ogbg", "adamw")[0]

    def seen(slot):
        return command(trial, node(4, at_once=2, slot=slot)).variables["CUDA_VISIBLE_DEVICES"]

    assert [seen(slot) for slot in (0, 1, None)] == ["0,1,2,3", "4,5,6,7", "0,1,2,3,4,5,6,7"]
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "7,6,5,4,3,2,1,0")
    assert [seen(slot) for slot in (0, 1)] == ["7,6,5,4", "3,2,1,0"]
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,1,2,3")
    with pytest.raises(UserError, match=r"--gpus=4 --at_once=2: CUDA_VISIBLE_DEVICES=.* 4 of 8"):
        seen(0)


def test_cores_of_trials_side_by_side_share_no_physical_core(tmp_path, monkeypatch):
    # Two sockets of three cores of two threads each, numbered as Linux does.
    monkeypatch.setattr("os.sched_getaffinity", lambda pid: set(range(12)))
    for core in range(12):
        folder = tmp_path / f"cpu{core}" / "topology"
        folder.mkdir(parents=True)
        (folder / "physical_package_id").write_text(f"{core % 6 // 3}\n")
        (folder / "core_id").write_text(f"{core % 3}\n")
    assert side_by_side.cores_of_slots(2, tmp_path) == [[0, 1, 2, 6, 7, 8], [3, 4, 5, 9, 10, 11]]
    assert side_by_side.cores_of_slots(3, tmp_path) == [[0, 1, 6, 7], [2, 3, 8, 9], [4, 5, 10, 11]]
    assert side_by_side.cores_of_slots(2, tmp_path / "no") == [list(range(6)), list(range(6, 12))]
    assert side_by_side.cores_of_slots(20, tmp_path) == [list(range(12))] * 20


def test_seeds_depend_on_study_and_workload_only():
    entry, seeds = find_entry("adamw"), set()
    for workload in ("wmt", "ogbg"):
        for study in range(50):
            seeds.add(OfficialTrial(Trial(workload, "adamw", study, 1, {}), entry).rng_seed)
    assert len(seeds) == 100
    assert all(0 < seed < 2**31 - 1 for seed in seeds)
    assert len({trial.rng_seed for name in ENTRIES for trial in trials_of("wmt", name)}) == 1


@pytest.mark.parametrize("seed", [0, 2**31 - 2, 2**62])
def test_no_seed_is_zero(monkeypatch, seed):
    monkeypatch.setattr(Trial, "rng_seed", seed)
    assert 0 < trials_of("wmt", "adamw")[0].rng_seed < 2**31 - 1


def test_packaged_entry_is_imported_from_its_parent(tmp_path):
    trial = make_trial(make_entry(tmp_path / "else where" / "toy", [GOOD]))
    made = command(trial, node())
    assert made.variables["PYTHONPATH"].startswith(str(tmp_path / "else where"))
    assert "--submission_path=toy/submission.py" in made.arguments
    assert f"PYTHONPATH={tmp_path / 'else where'}" in shlex.split(made.shell())


@pytest.mark.parametrize(
    ("name", "rates", "message"),
    [
        ("no-module", [GOOD], "'no-module' cannot be the name of a module"),
        ("algoperf", [GOOD], "the benchmark has a 'algoperf' of its own"),
        ("toy", None, "no tuning_search_space.json, and no submission_info.yml"),
    ],
)
def test_odd_entries_are_refused(tmp_path, monkeypatch, name, rates, message):
    (tmp_path / "checkout" / "algoperf").mkdir(parents=True)
    monkeypatch.setenv("ALGOPERF_DIR", str(tmp_path / "checkout"))
    folder = make_entry(tmp_path / name, rates)
    (folder / "submission_info.yml").unlink(missing_ok=True)
    with pytest.raises(UserError, match=message):
        find_entry(str(folder))


def test_points_must_name_the_same(tmp_path):
    folder = make_entry(tmp_path / "toy", [GOOD])
    points = [{"learning_rate": 0.1}, {"learning_rate": 0.1, "beta": 0.2}]
    (folder / "tuning_search_space.json").write_text(json.dumps(points))
    with pytest.raises(UserError, match="point 2 and point 1 differ in 'beta'"):
        find_entry(str(folder)).points()


@pytest.mark.parametrize(
    "flag", ["--overwrite", "--rng_seed=1", "--notorch_compile", "--skip_evals", "profile"]
)
def test_flags_of_ours_cannot_be_given(flag):
    with pytest.raises(UserError, match="--runner_flag"):
        node(runner_flags=(flag,))


def test_dry_run_needs_nothing_and_creates_nothing(tmp_path):
    nowhere = tmp_path / "nowhere"
    done = finish(
        *("-m", "scripts.official", "--workload=fastmri", "--entry=shampoo", "--dry_run"),
        *("--search_space=workload", "--points=2", f"--experiment_dir={tmp_path / 'logs'}"),
        *("--slurm", "--slurm_partition=gpu", "--slurm_option=constraint=v100"),
        ALGOPERF_DIR=str(nowhere),
        ALGOPERF_PYTHON=str(nowhere / "python"),
    )
    assert done.returncode == 0, done.stderr
    assert [line.split(":")[0] for line in done.stderr.splitlines()] == ["note", "note"]
    commands = [line for line in done.stdout.splitlines() if not line.startswith("#")]
    assert len(commands) == 2
    assert all(f"/.work && PYTHONPATH={environment.ROOT}" in line for line in commands)
    assert "# #SBATCH --partition=gpu" in done.stdout
    assert "# #SBATCH --array=0-1%2" in done.stdout
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("language_model", "flags", "gpus", "workloads"),
    [(True, (), 4, 9), (False, (), 8, 8), (True, ("--version=v0.6",), 8, 8)],
)
def test_the_checkout_says_how_many_gpus_and_workloads(
    tmp_path, language_model, flags, gpus, workloads
):
    name = "finewebedu_lm" if language_model else "wmt"
    (tmp_path / "algoperf/workloads" / name).mkdir(parents=True)
    done = finish(
        *("-m", "scripts.study", "--suite=official", "--entries=shampoo_self_tuning"),
        *("--studies=1", "--dry_run", f"--output={tmp_path / 'logs'}", *flags),
        ALGOPERF_DIR=str(tmp_path),
    )
    assert done.returncode == 0, done.stderr
    commands = [line for line in done.stdout.splitlines() if not line.startswith("#")]
    assert len(commands) == workloads
    assert all(f"--nproc_per_node={gpus} " in line for line in commands)


@pytest.mark.parametrize(
    ("script", "flags", "fact"),
    [
        ("study", "--suite=official --entries=adamw --jobs=2", "--jobs is for --suite=standin"),
        ("study", "--entries=adamw --gpus=4", "--gpus is for --suite=official"),
        ("study", "--suite=official --entries=adamw --trials=best", "allowed: all, or numbers"),
        (
            "study",
            "--suite=official --entries=adamw --workloads=mnist_vit",
            "mnist_vit is no official workload",
        ),
        ("official", "--workload=wmt --entry=adamw --trial=6", "trial 6: entry 'adamw' has"),
        (
            "official",
            "--workload=wmt --entry=adamw --slurm --slurm_option=-x",
            "--slurm_option=-x: give name=value",
        ),
        (
            "official",
            "--workload=wmt --entry=shampoo --search_space=workloads/standin/points/nesterov.json",
            "nesterov.json: point 1: one_minus_beta2: missing; shampoo needs it",
        ),
        ("official", "--workload=wmt --entry=adamw --skip_checks=none", "allowed: all"),
        ("official", "--workload=wmt --entry=adamw --slurm --at_once=2", "--at_once=2: a job of"),
        (
            "official",
            "--workload=wmt --entry=shampoo_self_tuning --search_space=workload",
            "tunes itself and takes no points",
        ),
    ],
)
def test_flags_are_refused_in_one_line(tmp_path, script, flags, fact):
    output = "experiment_dir" if script == "official" else "output"
    place = f"--{output}={tmp_path / 'logs'}"
    done = finish("-m", f"scripts.{script}", *flags.split(), place, "--dry_run")
    assert done.returncode == 2
    errors = [line for line in done.stderr.splitlines() if not line.startswith("note: ")]
    assert len(errors) == 1 and fact in errors[0]


PARSE = """
import json, sys
import submission_runner
from absl import flags
from algoperf import halton
from algoperf.workloads.workloads import WORKLOADS
for arguments, point in json.load(sys.stdin):
    flags.FLAGS.unparse_flags()
    for name in flags.FLAGS:
        flags.FLAGS[name].unparse()
    left = flags.FLAGS(["submission_runner.py", *arguments])
    assert left == ["submission_runner.py"], left
    given = flags.FLAGS
    assert given.workload in WORKLOADS and given.framework == "pytorch", given.workload
    assert given.resume_last_run and not given.overwrite and given.rng_seed > 0
    if given.tuning_ruleset == "self":
        assert given.tuning_search_space is None and point == {}
        continue
    with open(given.tuning_search_space) as stream:
        points = halton.generate_search(json.load(stream), given.num_tuning_trials)
    chosen = points[given.hparam_start_index : given.hparam_end_index]
    assert [one._asdict() for one in chosen] == [point], (chosen, point)
print("parsed")
"""


def test_official_runner_parses_every_command(tmp_path):
    try:
        checkout, python = installation.find()
    except UserError as error:
        pytest.skip(f"algoperf is not installed: its flags cannot be asked ({error})")
    on = node(checkout=checkout, python=python, output=tmp_path)
    names = registry.names("official", installation.version_of(checkout))
    planned = [
        *(trial for name in names for entry in ENTRIES for trial in trials_of(name, entry)),
        *(
            trial
            for name in search_spaces.workloads()
            if name in names
            for entry in TUNED
            for trial in trials_of(name, entry, drawn=True)
        ),
    ]
    asked = []
    for trial in planned:
        if trial.drawn is not None:
            trial.directory(tmp_path).mkdir(parents=True, exist_ok=True)
            trial.write_space(tmp_path)
        given = words(trial, on)
        start = given.index(str(checkout / "submission_runner.py")) + 1
        asked.append((given[start:], dict(trial.trial.hyperparameters)))
    done = subprocess.run(
        [str(python), "-c", PARSE],
        cwd=checkout,
        env=command(planned[0], on).environment() | {"CUDA_VISIBLE_DEVICES": ""},
        input=json.dumps(asked),
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stdout.split()[-1] == "parsed"
    assert len(asked) > 4 * len(names)
