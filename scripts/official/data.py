"""Sets up an official workload's data by the benchmark's own script, or checks what is there.

    python -m scripts.official.data --workload=ogbg --data_dir=/data --dry_run
    python -m scripts.official.data --workload=ogbg --data_dir=/data
    python -m scripts.official.data --workload=ogbg --data_dir=/data --check

It says beforehand what is downloaded, from whom, on which terms and how much space it takes, and
afterwards what is missing. Exit code 0: complete; 1: something is missing. It deletes nothing; what
the benchmark's script would delete it asks about. docs/datasets.md is the guide.
"""

import resource
import shlex
import shutil
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path

from absl import flags

from common import cli
from common.cli import UserError
from scripts.official import data_command, installation, paths
from scripts.official.data_command import Request
from workloads.official.datasets import DATASETS, FRAMEWORKS

FLAGS = flags.FLAGS
_URLS = {
    flag: file
    for data in DATASETS.values()
    for setup in data.setups.values()
    for flag, file in setup.urls.items()
}
# What the benchmark's README asks for before ImageNet.
_OPEN_FILES = 8_192


def define_flags() -> None:
    """Declares the command line, with what it hands on to the benchmark's script."""
    flags.DEFINE_string("workload", None, "official workload, base or variant", required=True)
    flags.DEFINE_string(
        "data_dir", None, "root that holds all data sets, in folders named by the set-up"
    )
    flags.DEFINE_string("temp_dir", None, "for temporary files (default: tmp in the root)")
    flags.DEFINE_enum("framework", "pytorch", FRAMEWORKS, "whose form of ImageNet and CIFAR-10")
    flags.DEFINE_bool("check", False, "only check what is there, sizes of all files included")
    flags.DEFINE_bool("dry_run", False, "only print the command")
    flags.DEFINE_bool(
        "accept_licence", False, "you, a person, have read and accepted the data's terms"
    )
    flags.DEFINE_bool("skip_space_check", False, "start even if the disk seems too small")
    flags.DEFINE_bool(
        "skip_download", False, "handed on: the archives of ImageNet or fastMRI are there already"
    )
    flags.DEFINE_bool(
        "interactive_deletion", True, "handed on: ask whether to delete temporary files"
    )
    for flag, file in _URLS.items():
        flags.DEFINE_string(flag, None, f"handed on: address of {file}")


def main(argv: Sequence[str]) -> int:
    """Runs the set-up, or the check, or prints the command."""
    del argv
    if not FLAGS.data_dir:
        raise UserError("--data_dir is missing: the root under which the data are, or are to be")
    root = Path(FLAGS.data_dir).expanduser().absolute()
    request = Request(
        FLAGS.workload,
        root,
        Path(FLAGS.temp_dir).expanduser().absolute() if FLAGS.temp_dir else root / "tmp",
        framework=FLAGS.framework,
        urls={flag: FLAGS[flag].value for flag in _URLS},
        skip_download=FLAGS.skip_download,
        interactive_deletion=FLAGS.interactive_deletion,
        licence_accepted=FLAGS.accept_licence,
        space_checked=not FLAGS.skip_space_check,
    )
    if FLAGS.check:
        return check(request)
    if FLAGS.dry_run:
        places = installation.default_python(), installation.default_checkout()
        print(data_command.command(request, *places).shell())
        return 0
    return set_up(request)


def check(request: Request) -> int:
    """Prints what is missing; 1 if anything is, else 0."""
    start = time.monotonic()
    where = request.workload, request.root, request.framework
    sentences = paths.missing(*where, sizes=True)
    for sentence in sentences:
        print(f"missing: {sentence}")
    took = f"checked in {time.monotonic() - start:.1f} s"
    if sentences:
        print(f"the data of {request.workload} are incomplete, {took}")
        return 1
    print(f"the data of {request.workload} are complete, {took}; the runner's flags:")
    print(shlex.join(paths.runner_flags(*where)))
    return 0


def set_up(request: Request) -> int:
    """Says what will be done, does it, and checks what is there; 0 if all of it is.

    Raises:
      UserError: where the set-up would fail or may not begin: terms that are not accepted, an
        address that is absent or of no use, no checkout of the benchmark, programs that are not
        installed, too little space.
    """
    setup = request.setup
    print(described(request), flush=True)
    if setup.accept and not request.licence_accepted:
        raise UserError(
            f"--accept_licence is missing: a person must {setup.accept}; give the flag once done"
        )
    command = data_command.command(request, installation.python(), installation.checkout())
    lacking = [tool for tool in setup.tools if shutil.which(tool) is None]
    if lacking:
        raise UserError(f"the set-up calls programs that are not installed: {', '.join(lacking)}")
    if request.space_checked:
        _check_space(request)
    if setup.flag == "imagenet":
        _raise_open_files()
    code = subprocess.run(
        command.arguments, cwd=command.directory, env=command.environment()
    ).returncode
    if code != 0:
        print(f"the benchmark's set-up ended with exit code {code}; what is there now:")
    # Programs that the script starts may fail without its noticing: what is there decides.
    return check(request)


def described(request: Request) -> str:
    """What the set-up is about to do, for a person to read."""
    setup, data = request.setup, request.data
    lines = [
        f"data set     {data.title}, from {setup.owner}",
        f"download     {setup.download_gib:,.4g} GiB",
        f"on the way   {setup.data_gib:,.4g} GiB in {request.root}",
    ]
    if setup.temp_gib:
        lines.append(f"             {setup.temp_gib:,.4g} GiB in {request.temporary}")
    lines += [
        f"at the end   {data.size_gib:,.4g} GiB, once leftovers are deleted",
        f"licence      {setup.licence}",
    ]
    if setup.accept:
        lines.append(f"a person     must {setup.accept}")
    if setup.prompts:
        lines.append(f"it will ask  {setup.prompts}")
    return "\n".join([*lines, f"leftovers    {setup.leftovers}"])


def _check_space(request: Request) -> None:
    wanted = (
        ("--data_dir", request.root, request.setup.data_gib),
        ("--temp_dir", request.temporary, request.setup.temp_gib),
    )
    # Both may be on one file system.
    needs: dict[int, list[tuple[str, Path, float]]] = {}
    for flag, directory, gib in wanted:
        if gib:
            there = next(path for path in (directory, *directory.parents) if path.is_dir())
            needs.setdefault(there.stat().st_dev, []).append((flag, there, gib))
    for places in needs.values():
        free = shutil.disk_usage(places[0][1]).free / 2**30
        need = sum(gib for *_, gib in places)
        if free < need:
            raise UserError(
                f"{free:,.4g} GiB are free in {places[0][1]}, and the set-up takes up to "
                f"{need:,.4g} GiB on the way for {' and '.join(flag for flag, *_ in places)}; "
                f"--skip_space_check starts nevertheless"
            )


def _raise_open_files() -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < _OPEN_FILES:
        raise UserError(
            f"at most {hard:,} files may be open at once here; the benchmark's README asks for "
            f"{_OPEN_FILES:,} before ImageNet (ulimit -n {_OPEN_FILES}, or ask an administrator)"
        )
    if soft != resource.RLIM_INFINITY:
        resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, _OPEN_FILES), hard))


if __name__ == "__main__":
    define_flags()
    cli.run(main)
