"""The set-up's command line. No test downloads: a script of the same name stands in for it."""

import ast
import dataclasses
import datetime
import resource
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from common.cli import UserError
from scripts.official import installation
from scripts.official.data import Request, expires
from scripts.official.paths import tree_of
from tests.scripts.commands import finish
from tests.scripts.official.trees import grow
from workloads import registry
from workloads.official.datasets import FRAMEWORKS

KNEE = "https://example.org/v2.0/knee_singlecoil"
IMAGES = "https://example.org/2012/ILSVRC2012_img"
URLS = {
    "imagenet_train_url": f"{IMAGES}_train.tar",
    "imagenet_val_url": f"{IMAGES}_val.tar",
    **{
        f"fastmri_knee_singlecoil_{split}_url": f"{KNEE}_{split}.tar.xz?Key=a&Expires=4102444800"
        for split in ("train", "val", "test")
    },
}
GIVEN = [f"--{flag}={address}" for flag, address in URLS.items()]
PLACES = Path("/opt/benchmark"), Path("/opt/python")


@pytest.fixture
def benchmark(tmp_path, monkeypatch):
    """A checkout whose script notes how it was called, then does what `then.py` says."""
    checkout = tmp_path / "benchmark"
    (checkout / "dataset").mkdir(parents=True)
    (checkout / "submission_runner.py").touch()
    (checkout / "then.py").write_text("")
    (checkout / "dataset/dataset_setup.py").write_text(
        "import os, runpy, sys\n"
        "with open('called', 'w') as stream:\n"
        "    print([os.getcwd(), os.environ['PYTHONPATH'], *sys.argv], file=stream)\n"
        "runpy.run_path('then.py')\n"
    )
    monkeypatch.setenv("ALGOPERF_DIR", str(checkout))
    monkeypatch.setenv("ALGOPERF_PYTHON", sys.executable)
    monkeypatch.setattr("shutil.which", lambda tool: f"/usr/bin/{tool}")
    set_free(monkeypatch, 10_000)
    return checkout


def set_free(monkeypatch, gib):
    monkeypatch.setattr("shutil.disk_usage", lambda path: SimpleNamespace(free=gib * 2**30))


def wish(workload, root, **changes):
    """A request that lacks nothing."""
    request = Request(workload, root, root / "tmp", urls=URLS, accept_licence=True)
    return dataclasses.replace(request, **changes)


def flags_of(workload, **changes):
    """The script's flags, without the directories."""
    arguments = wish(workload, Path("/data"), **changes).command(*PLACES).arguments
    assert arguments[:3] == ("/opt/python", "dataset/dataset_setup.py", "--data_dir=/data")
    return " ".join(arguments[3:])


@pytest.mark.parametrize(
    ("workload", "changes", "flags"),
    [
        ("ogbg_silu", {}, "--ogbg"),
        ("wmt", {}, "--wmt"),
        ("mnist", {"framework": "jax"}, "--mnist"),
        ("cifar", {"framework": "jax"}, "--cifar --framework=jax"),
        (
            "criteo1tb",
            {"interactive_deletion": False},
            "--temp_dir=/data/tmp --criteo1tb --interactive_deletion=false",
        ),
        ("librispeech_deepspeech", {"temporary": Path("/f")}, "--temp_dir=/f --librispeech"),
        ("imagenet_vit", {}, f"--imagenet --framework=pytorch {' '.join(GIVEN[:2])}"),
        ("fastmri_tanh", {}, f"--fastmri {' '.join(GIVEN[2:])}"),
        (
            "imagenet_vit",
            {"urls": {}, "skip_download": True},
            (
                "--imagenet --framework=pytorch --imagenet_train_url=unused "
                "--imagenet_val_url=unused --skip_download"
            ),
        ),
    ],
)
def test_flags_of_each_data_set(workload, changes, flags):
    assert flags_of(workload, **changes) == flags


VAL = "fastmri_knee_singlecoil_val_url"


@pytest.mark.parametrize(
    ("flag", "address", "facts"),
    [
        (VAL, "", "missing: fill out the form at fastmri"),
        ("imagenet_train_url", "", "missing: register at image-net"),
        ("imagenet_val_url", f"{IMAGES}_val.tar?key=1", r"'ILSVRC2012_img_val.tar\?key=1'"),
        ("imagenet_train_url", "/home/me/ILSVRC2012_img_train.tar", "must be an address of"),
        (VAL, f"{KNEE}_train.tar.xz", "of knee_singlecoil_val.*'knee_singlecoil_train"),
        (VAL, "https://example.org/val.tar.gz", "address of knee_singlecoil_val.tar.xz, .* ''"),
        (VAL, f"{KNEE}_val.tar.xz?Expires=1700000000", "expired at 2023-11-14 22:13 UTC"),
    ],
)
def test_addresses_of_no_use_are_refused(flag, address, facts):
    workload = "fastmri" if flag == VAL else "imagenet_resnet"
    with pytest.raises(UserError, match=f"--{flag} .*{facts}"):
        flags_of(workload, urls=URLS | {flag: address})


def test_when_signed_addresses_end():
    day = "https://example.org/a.xz?X-Amz-Date=20260102T030405Z&X-Amz-Expires=60"
    assert expires(day) == datetime.datetime(2026, 1, 2, 3, 5, 5, tzinfo=datetime.UTC)
    assert expires("https://example.org/a.xz") is None
    assert expires("https://example.org/a.xz?Expires=soon") is None
    assert expires("https://example.org/a.xz?X-Amz-Expires=60") is None


@pytest.mark.parametrize("path", ["/my data", "/data;ls", "/$(ls)", "/data&", "/a'b"])
def test_paths_that_a_shell_would_take_apart_are_refused(path):
    for flag, root, temporary in (("data_dir", path, "/tmp"), ("temp_dir", "/data", path)):
        with pytest.raises(UserError, match=rf"--{flag}=.* has characters"):
            wish("ogbg", Path(root), temporary=Path(temporary)).command(*PLACES)


def test_a_set_up_that_works(benchmark, tmp_path, capfd):
    root = tmp_path / "data"
    grow(tmp_path / "made", tree_of("ogbg"))
    (benchmark / "then.py").write_text(
        f"os = __import__('os')\nos.rename('{tmp_path}/made', '{root}')"
    )
    assert wish("ogbg", root).set_up() == 0
    output = capfd.readouterr().out
    assert "data set     OGB molpcba, from Open Graph Benchmark" in output
    assert "licence      MIT\n" in output
    assert output.endswith(f"the runner's flags:\n--data_dir={root}/ogbg\n")
    where, path, *called = ast.literal_eval((benchmark / "called").read_text())
    assert (where, path.split(":")[0]) == (str(benchmark), str(benchmark))
    assert called == ["dataset/dataset_setup.py", f"--data_dir={root}", "--ogbg"]


def test_the_set_up_of_v06_lies_elsewhere_and_lacks_the_language_model(benchmark, tmp_path):
    (benchmark / "dataset").rename(benchmark / "datasets")
    request = wish("finewebedu_lm", tmp_path)
    arguments = request.command(benchmark, Path("/p")).arguments
    assert arguments[1] == "datasets/dataset_setup.py"
    assert arguments[2:] == (f"--data_dir={tmp_path}", f"--temp_dir={tmp_path}/tmp", "--finewebedu")
    (benchmark / "algoperf/workloads/wmt").mkdir(parents=True)
    with pytest.raises(UserError, match=r"^--workload=finewebedu_lm: .* is v0.6, which lacks it"):
        request.command(benchmark, Path("/p"))


def test_a_set_up_that_fails_ends_in_what_is_there(benchmark, tmp_path, capfd):
    (benchmark / "then.py").write_text("raise SystemExit(3)")
    assert wish("wmt", tmp_path / "data").set_up() == 1
    *_, ended, sentence, summary = capfd.readouterr().out.splitlines()
    assert "ended with exit code 3" in ended
    assert sentence.startswith(f"missing: {tmp_path}/data/wmt is missing")
    assert summary.startswith("the data of wmt are incomplete")


@pytest.mark.parametrize("workload", ["criteo1tb", "fastmri", "imagenet_vit"])
def test_terms_must_be_accepted_by_a_person(workload, benchmark, capfd):
    with pytest.raises(UserError, match="--accept_licence is missing: a person must "):
        wish(workload, benchmark, accept_licence=False).set_up()
    assert registry.official(workload).data.setups["pytorch"].licence in capfd.readouterr().out
    assert not (benchmark / "called").exists()


def test_programs_and_a_checkout_are_needed(benchmark, monkeypatch):
    monkeypatch.setattr("shutil.which", lambda tool: None if tool == "pigz" else tool)
    with pytest.raises(UserError, match=r"programs that are not installed: pigz$"):
        wish("criteo1tb", benchmark).set_up()
    monkeypatch.setenv("ALGOPERF_DIR", "/nowhere")
    with pytest.raises(UserError, match=r"no submission_runner.py in /nowhere"):
        wish("ogbg", benchmark).set_up()


def test_too_little_space(benchmark, monkeypatch):
    request = wish("librispeech_conformer", benchmark / "data")
    set_free(monkeypatch, 506)
    with pytest.raises(
        UserError,
        match=f"^506 GiB are free in {benchmark}, .* 507 GiB .* --data_dir and --temp_dir; --skip",
    ):
        request.set_up()
    set_free(monkeypatch, 508)
    assert request.set_up() == 1
    set_free(monkeypatch, 0)
    assert dataclasses.replace(request, skip_space_check=True).set_up() == 1


def test_imagenet_may_open_many_files(benchmark, monkeypatch):
    limits = [(1_024, 4_096)]
    monkeypatch.setattr(resource, "getrlimit", lambda kind: limits[-1])
    monkeypatch.setattr(resource, "setrlimit", lambda kind, pair: limits.append(pair))
    with pytest.raises(UserError, match=r"at most 4,096 files may be open .* asks for 8,192"):
        wish("imagenet_vit", benchmark).set_up()
    limits[-1] = (1_024, 65_536)
    assert wish("imagenet_vit", benchmark).set_up() == 1
    assert limits[-1] == (8_192, 65_536)


def test_the_command_line(tmp_path):
    call = ("-m", "scripts.official.data", f"--data_dir={tmp_path}")
    done = finish(
        *call, "--workload=criteo1tb_resnet", "--dry_run", ALGOPERF_DIR="/b", ALGOPERF_PYTHON="/p"
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("cd /b && PYTHONPATH=/b")
    assert done.stdout.endswith(
        f" /p dataset/dataset_setup.py --data_dir={tmp_path} --temp_dir={tmp_path}/tmp "
        "--criteo1tb\n"
    )
    done = finish(*call, "--workload=fastmri", "--check")
    assert (done.returncode, done.stderr) == (1, "")
    assert done.stdout.startswith(f"missing: {tmp_path}/fastmri is missing")
    grow(tmp_path, tree_of("mnist"))
    done = finish(*call, "--workload=mnist", "--check")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.endswith(f"\n--data_dir={tmp_path}/MNIST\n")
    elsewhere = (tmp_path / "MNIST").rename(tmp_path / "a place")
    done = finish(*call[:2], f"--data_dir={elsewhere}", "--workload=mnist", "--check")
    assert done.stdout.endswith(f"\n'--data_dir={elsewhere}'\n")
    done = finish("-m", "scripts.official.data", "--workload=mnist")
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert "--data_dir is missing" in done.stderr


PARSE = """
import importlib.util, sys
from absl import flags
spec = importlib.util.spec_from_file_location("dataset_setup", sys.argv[1])
spec.loader.exec_module(importlib.util.module_from_spec(spec))
for line in sys.stdin.read().splitlines():
    flags.FLAGS.unparse_flags()
    rest = flags.FLAGS(line.split("\\t"))
    assert len(rest) == 1, rest
    print(line)
"""


def test_the_benchmarks_script_knows_all_flags():
    """Every command that this one can print, under the script's own absl flags."""
    try:
        checkout, python = installation.find()
    except UserError as error:
        pytest.skip(f"the benchmark is not installed: {error}")
    lines = []
    names = registry.names("official", installation.version_of(checkout))
    for framework in FRAMEWORKS:
        for name in names:
            for skipped in (False, True):
                request = wish(
                    name,
                    Path("/data"),
                    framework=framework,
                    skip_download=skipped,
                    interactive_deletion=skipped,
                )
                lines.append("\t".join(request.command(checkout, python).arguments[1:]))
    done = subprocess.run(
        [python, "-c", PARSE, installation.setup_script(checkout)],
        cwd=checkout,
        input="\n".join(lines),
        capture_output=True,
        text=True,
        timeout=300,
        env=wish("ogbg", Path("/data")).command(checkout, python).environment(),
    )
    assert done.returncode == 0, done.stderr[-2_000:]
    assert done.stdout.splitlines() == lines
