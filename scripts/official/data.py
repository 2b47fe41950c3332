"""Sets up an official workload's data by the benchmark's own script, or checks what is there.

    python -m scripts.official.data --workload=ogbg --data_dir=/data --dry_run
    python -m scripts.official.data --workload=ogbg --data_dir=/data
    python -m scripts.official.data --workload=ogbg --data_dir=/data --check

It says beforehand what is downloaded, from whom, on which terms and how much space it takes, and
afterwards what is missing. Exit code 0: complete; 1: something is missing. It deletes nothing; what
the benchmark's script would delete it asks about. docs/datasets.md is the guide.
"""

import dataclasses
import datetime
import os
import re
import resource
import shlex
import shutil
import subprocess
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

from absl import flags

from common import cli
from common.cli import UserError
from scripts.official import installation, paths
from scripts.official.command import Command
from workloads import registry
from workloads.official.datasets import DATASETS, FRAMEWORKS, DataSet, SetUp

FLAGS = flags.FLAGS
_URLS = {
    flag: file
    for data in DATASETS.values()
    for setup in data.setups.values()
    for flag, file in setup.urls.items()
}
# What the benchmark's README asks for before ImageNet.
_OPEN_FILES = 8_192
# The script puts both directories into commands of a shell, without quotes.
_PLAIN = re.compile(r"[\w./+@:,=%-]+")


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
    names = ("framework", "skip_download", "interactive_deletion", "accept_licence")
    options: Any = {name: FLAGS[name].value for name in (*names, "skip_space_check")}
    request = Request(
        FLAGS.workload,
        root,
        Path(FLAGS.temp_dir).expanduser().absolute() if FLAGS.temp_dir else root / "tmp",
        urls={flag: FLAGS[flag].value or "" for flag in _URLS},
        **options,
    )
    if FLAGS.check:
        return request.check()
    if FLAGS.dry_run:
        places = installation.default_checkout(), installation.default_python()
        print(request.command(*places).shell())
        return 0
    return request.set_up()


@dataclasses.dataclass(frozen=True)
class Request:
    """Data that a person asks for, with folders and options.

    Attributes:
      workload: official, base or variant.
      root, temporary: the script's `--data_dir` and `--temp_dir`, absolute.
      urls: addresses that the person has, by the script's flag.
      framework, skip_download, interactive_deletion, accept_licence, skip_space_check: as the flags
        of these names.

    Raises:
      UserError: as `paths.runner_flags`.
    """

    workload: str
    root: Path
    temporary: Path
    urls: Mapping[str, str] = dataclasses.field(default_factory=dict)
    framework: str = "pytorch"
    skip_download: bool = False
    interactive_deletion: bool = True
    accept_licence: bool = False
    skip_space_check: bool = False

    def __post_init__(self) -> None:
        paths.tree_of(self.workload, self.framework)

    @property
    def _data(self) -> DataSet:
        return registry.official(self.workload).data

    @property
    def _setup(self) -> SetUp:
        return self._data.setups[self.framework]

    def command(self, checkout: Path, python: Path) -> Command:
        """The script with its flags, run by the benchmark's Python from its checkout.

        Raises:
          UserError: for a directory that a shell would not read as one word, a workload that the
            checkout lacks, or an address that is absent, leads to another file than the script
            expects, or has expired.
        """
        for flag, directory in (("data_dir", self.root), ("temp_dir", self.temporary)):
            if not _PLAIN.fullmatch(str(directory)):
                raise UserError(
                    f"--{flag}={directory} has characters that the benchmark's set-up cannot take: "
                    f"it passes the path to a shell; letters, digits and ./_+@:,=%- are safe"
                )
        setup, version = self._setup, installation.version_of(checkout)
        if self.workload not in registry.names("official", version):
            raise UserError(f"--workload={self.workload}: {checkout} is {version}, which lacks it")
        arguments = [f"--data_dir={self.root}"]
        if setup.temp_gib:
            arguments.append(f"--temp_dir={self.temporary}")
        arguments.append(f"--{setup.flag}")
        if setup.takes_framework:
            arguments.append(f"--framework={self.framework}")
        if not self.skip_download:
            if absent := [f"--{flag}" for flag in setup.urls if not self.urls.get(flag)]:
                raise UserError(f"{' and '.join(absent)} missing: {setup.accept}")
            for flag, file in setup.urls.items():
                check_address(flag, file, self.urls[flag], setup.accept)
        # Addresses must be given even where nothing is downloaded.
        arguments += [f"--{flag}={self.urls.get(flag) or 'unused'}" for flag in setup.urls]
        if self.skip_download:
            arguments.append("--skip_download")
        if not self.interactive_deletion:
            arguments.append("--interactive_deletion=false")
        script = installation.setup_script(checkout)
        # The script imports the folder that it lies in, and no package has it.
        path = os.pathsep.join(filter(None, (str(checkout), os.environ.get("PYTHONPATH"))))
        return Command((str(python), script, *arguments), checkout, {"PYTHONPATH": path})

    def check(self) -> int:
        """Prints what is missing; 1 if anything is, else 0."""
        start = time.monotonic()
        sentences = paths.missing(self.workload, self.root, self.framework, sizes=True)
        for sentence in sentences:
            print(f"missing: {sentence}")
        took = f"checked in {time.monotonic() - start:.1f} s"
        if sentences:
            print(f"the data of {self.workload} are incomplete, {took}")
            return 1
        print(f"the data of {self.workload} are complete, {took}; the runner's flags:")
        print(shlex.join(paths.runner_flags(self.workload, self.root, self.framework)))
        return 0

    def set_up(self) -> int:
        """Describes the set-up, runs it, and checks its result; 0 if that is complete.

        Raises:
          UserError: if the set-up would fail or may not begin: terms that are not accepted, an
            address that is absent or of no use, no checkout of the benchmark, programs that are not
            installed, too little space.
        """
        setup = self._setup
        print(self._description(), flush=True)
        if setup.accept and not self.accept_licence:
            raise UserError(
                f"--accept_licence is missing: a person must {setup.accept}; give the flag once "
                "done"
            )
        command = self.command(*installation.find())
        if absent := [tool for tool in setup.tools if shutil.which(tool) is None]:
            raise UserError(
                f"the set-up calls programs that are not installed: {', '.join(absent)}"
            )
        if not self.skip_space_check:
            self._check_space()
        if setup.flag == "imagenet":
            _raise_open_files()
        code = subprocess.run(
            command.arguments, cwd=command.directory, env=command.environment()
        ).returncode
        if code != 0:
            print(f"the benchmark's set-up ended with exit code {code}; what is there now:")
        # The script does not notice when a program fails, so its exit code says little.
        return self.check()

    def _description(self) -> str:
        """A description of the set-up, for a person to read before it starts."""
        setup, size = self._setup, self._data.size_gib
        lines = {
            "data set": f"{self._data.title}, from {setup.owner}",
            "download": f"{setup.download_gib:,.4g} GiB" if setup.download_gib else "",
            "on the way": f"{setup.data_gib:,.4g} GiB in {self.root}",
            "": f"{setup.temp_gib:,.4g} GiB in {self.temporary}" if setup.temp_gib else "",
            "at the end": f"{size:,.4g} GiB, once leftovers are deleted",
            "licence": setup.licence,
            "a person": setup.accept and f"must {setup.accept}",
            "it will ask": setup.prompts,
            "leftovers": setup.leftovers,
        }
        return "\n".join(f"{name:<12} {text}" for name, text in lines.items() if text)

    def _check_space(self) -> None:
        places = (
            ("--data_dir", self.root, self._setup.data_gib),
            ("--temp_dir", self.temporary, self._setup.temp_gib),
        )
        # Both may be on one file system.
        needs: dict[int, list[tuple[str, Path, float]]] = {}
        for flag, directory, gib in places:
            if gib:
                existing = next(path for path in (directory, *directory.parents) if path.is_dir())
                needs.setdefault(existing.stat().st_dev, []).append((flag, existing, gib))
        for needed in needs.values():
            folder, total = needed[0][1], sum(gib for *_, gib in needed)
            free = shutil.disk_usage(folder).free / 2**30
            if free < total:
                raise UserError(
                    f"{free:,.4g} GiB are free in {folder}, and the set-up takes up to "
                    f"{total:,.4g} GiB on the way for {' and '.join(flag for flag, *_ in needed)}; "
                    f"--skip_space_check starts nevertheless"
                )


def check_address(flag: str, file: str, address: str, remedy: str) -> None:
    """Refuses an address that the script would take for another file's, or that has expired."""
    # The script names ImageNet's files by what follows the last slash, with any query, and
    # fastMRI's by what stands from `knee` to `.xz`, wherever that is.
    match = re.search(r"knee.*?\.xz" if file.endswith(".xz") else r"[^/]*$", address)
    name = match[0] if match else ""
    if not address.startswith(("http://", "https://")) or name != file:
        raise UserError(
            f"--{flag} must be an address of {file}, and the script would read the name "
            f"{name!r} in it: {remedy}"
        )
    expiry = expires(address)
    if expiry is not None and expiry < datetime.datetime.now(datetime.UTC):
        raise UserError(
            f"--{flag} expired at {expiry:%Y-%m-%d %H:%M} UTC; ask for new addresses: {remedy}"
        )


def expires(address: str) -> datetime.datetime | None:
    """The end of a signed address, in either form of Amazon S3; None if it has none.

    >>> expires("https://example.org/a.xz?Expires=0")
    datetime.datetime(1970, 1, 1, 0, 0, tzinfo=datetime.timezone.utc)
    """
    query = {name: values[0] for name, values in parse_qs(urlsplit(address).query).items()}
    try:
        if "X-Amz-Expires" in query:
            begins = datetime.datetime.strptime(query["X-Amz-Date"], "%Y%m%dT%H%M%SZ")
            lasts = datetime.timedelta(seconds=int(query["X-Amz-Expires"]))
            return begins.replace(tzinfo=datetime.UTC) + lasts
        if "Expires" in query:
            return datetime.datetime.fromtimestamp(int(query["Expires"]), datetime.UTC)
    except (KeyError, ValueError, OverflowError):
        return None
    return None


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
