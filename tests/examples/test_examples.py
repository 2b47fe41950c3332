"""The examples run as a visitor runs them: as programs, with the wheel's package alone."""

import importlib.util
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from analysis.logs import read_logs

ROOT = Path(__file__).parents[2]
EXAMPLES = sorted((ROOT / "examples").glob("*.py"))
LONGEST = 80
TORCHRUN = ("-m", "torch.distributed.run", "--nproc_per_node=2")

pytestmark = pytest.mark.slow


@pytest.fixture
def environment(site):
    """Of a process that finds the wheel's package and, at the end, this repository's modules."""
    quiet = {"PYTHONWARNINGS": "ignore", "TORCH_CPP_LOG_LEVEL": "ERROR"}
    return os.environ | quiet | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(site)}


def run(environment, folder, *command):
    """What Python prints with these arguments, in a folder of its own."""
    done = subprocess.run(
        [sys.executable, *command],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def example(name):
    return str(ROOT / "examples" / f"{name}.py")


def losses(printed):
    return [float(value) for value in re.findall(r"loss ([\d.]+)", printed)]


def accuracies(printed):
    return [float(value) for value in re.findall(r"accuracy ([\d.]+)", printed)]


def requires(*modules):
    """Skips a test unless all these packages are installed."""
    if missing := [name for name in modules if importlib.util.find_spec(name) is None]:
        pytest.skip(f"no {', '.join(missing)} here; `make test-trainers` installs it")


def requires_jax(*others):
    """Skips a test unless JAX and optax are installed, and others that nothing else needs."""
    for name in ("jax", "optax", *others):
        if importlib.util.find_spec(name) is None:
            pytest.skip(f"{name} is not installed")


def start(environment, name):
    """The environment with this repository's modules; skips a test of what is not installed."""
    needed = {"hugging_face": ("transformers", "accelerate"), "lightning_trainer": ("lightning",)}
    requires(*needed.get(name, ()))
    if name in ("jax_network", "flax_network"):
        requires_jax(*(("flax",) if name == "flax_network" else ()))
    return environment | {"PYTHONPATH": f"{environment['PYTHONPATH']}{os.pathsep}{ROOT}"}


def test_each_is_short_and_in_the_table():
    lengths = {path.name: path.read_text().count("\n") for path in EXAMPLES}
    assert not {name: length for name, length in lengths.items() if length > LONGEST}
    listed = re.findall(r"^\| \[([\w.]+)\]\(\1\)", (ROOT / "examples/README.md").read_text(), re.M)
    assert sorted(listed) == sorted(lengths)


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_help_says_what_it_does(environment, path):
    variables = start(environment, path.stem)
    printed = run(variables, ROOT, str(path), "--help")
    assert printed.startswith("usage: ")
    assert "show this help message" in printed


@pytest.mark.parametrize(
    ("name", "flag", "others"),
    [
        ("own_network", "--epochs=0", ()),
        ("jax_network", "--epochs=-1", ()),
        ("flax_network", "--epochs=0", ()),
        ("lightning_trainer", "--epochs=-1", ()),
        ("league_entry", "--steps=0", ("--output=/dev/null/logs",)),
    ],
)
def test_no_epochs_or_steps_are_refused(environment, name, flag, others):
    variables = start(environment, name)
    with pytest.raises(AssertionError, match=f"error: {flag}: must be at least 1\n"):
        run(variables, ROOT, example(name), flag, *others)


@pytest.mark.parametrize("name", ["own_network", "jax_network"])
def test_a_network_learns_with_either_optimizer(environment, tmp_path, name):
    if name == "jax_network":
        requires_jax()
    for optimizer in ("shampoo", "adamw"):
        flags = (f"--optimizer={optimizer}", "--epochs=3")
        per_epoch = accuracies(run(environment, tmp_path, example(name), *flags))
        assert len(per_epoch) == 3
        assert per_epoch[-1] > 0.8, optimizer


def test_flax_network_goes_on(environment, tmp_path):
    requires_jax("flax")
    program = example("flax_network")
    first = run(environment, tmp_path, program, "--epochs=2", "--save=state")
    resumed = run(environment, tmp_path, program, "--epochs=3", "--resume=state")
    whole = run(environment, tmp_path, program, "--epochs=3")
    assert losses(resumed)[-1] == losses(whole)[-1] < losses(first)[0]


@pytest.mark.parametrize("wrapper", ["ddp", "fsdp2", "hsdp"])
def test_distributed_learns(environment, tmp_path, wrapper):
    flags = (*TORCHRUN, example("distributed"), f"--wrapper={wrapper}", "--steps=80")
    first, *_, last = losses(run(environment, tmp_path, *flags))
    assert last < first / 2 and last < 0.2


def test_distributed_says_how_it_is_started(environment, tmp_path):
    with pytest.raises(AssertionError, match="start it with torchrun"):
        run(environment, tmp_path, example("distributed"))


def test_checkpoint_goes_on_where_it_left_off(environment, tmp_path):
    """The same loss as without an interruption, on one process and then on two."""
    whole = run(environment, tmp_path, example("checkpoint"), "--folder=whole", "--steps=60")
    for steps, launcher in ((30, ()), (60, TORCHRUN)):
        flags = (*launcher, example("checkpoint"), "--folder=parts", f"--steps={steps}")
        printed = run(environment, tmp_path, *flags)
        assert printed.startswith(f"step {steps - 29}:")
    assert losses(printed)[-1] == pytest.approx(losses(whole)[-1], rel=1e-4)
    assert losses(printed)[0] < losses(whole)[0] / 2
    again = run(environment, tmp_path, example("checkpoint"), "--folder=parts", "--steps=60")
    assert again == "step 60: --steps=60 are taken\n"


def test_mixture_of_experts_shows_its_stacks(environment, tmp_path):
    program = example("mixture_of_experts")
    printed = run(environment, tmp_path, program, "--steps=300")
    assert "up [8, 24, 48]: Shampoo, 8 x [24, 48]" in printed
    assert "embed.weight [64, 24]: AdamW (table)" in printed
    first, *_, last = losses(printed)
    assert last < first / 2
    merged = run(environment, tmp_path, program, "--steps=0", "--matrix_dims=convolution")
    assert "up [8, 24, 48]: Shampoo, 8 x [24, 48]" not in merged


@pytest.mark.parametrize("launcher", [(), TORCHRUN], ids=["one process", "torchrun"])
def test_hugging_face_goes_on(environment, tmp_path, launcher):
    requires("transformers", "accelerate")
    flags = (*launcher, example("hugging_face"), "--output=out")
    first = run(environment, tmp_path, *flags, "--epochs=1")
    resumed = run(environment, tmp_path, *flags, "--epochs=2", "--resume")
    whole = run(environment, tmp_path, *flags[:-1], "--output=whole", "--epochs=2")
    steps = 24 if launcher else 47
    assert f"step {steps}: test loss" in first and f"step {2 * steps}: test loss" in resumed
    assert losses(resumed)[-1] == losses(whole)[-1] < losses(first)[-1]


def test_lightning_goes_on(environment, tmp_path):
    requires("lightning")
    program = example("lightning_trainer")
    first = run(environment, tmp_path, program, "--epochs=2", "--save=a.ckpt")
    resumed = run(environment, tmp_path, program, "--epochs=4", "--resume=a.ckpt", "--save=b.ckpt")
    assert "step 48:" in first and "step 96:" in resumed
    assert accuracies(resumed)[-1] > 0.8
    again = run(environment, tmp_path, program, "--epochs=4", "--resume=b.ckpt")
    assert accuracies(again) == accuracies(resumed)


def test_league_entry_writes_logs_that_a_report_reads(environment, tmp_path):
    del environment["PYTHONPATH"]  # it needs the clone, not the package
    flags = ("--steps=4", f"--output={tmp_path / 'logs'}")
    printed = run(environment, ROOT, "-m", "examples.league_entry", *flags)
    assert [line.split(":")[0] for line in printed.splitlines()] == ["lion", "shampoo", "adamw"]
    assert len(accuracies(printed)) == 3
    read = read_logs(tmp_path / "logs")
    assert set(read.frame.submission) == {"lion", "shampoo", "adamw"}
    assert not read.problems
