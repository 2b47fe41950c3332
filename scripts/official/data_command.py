"""The command of the benchmark's `datasets/dataset_setup.py`, checked before hours are spent."""

import dataclasses
import datetime
import os
import re
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

from common.cli import UserError
from scripts.official import paths
from scripts.official.command import Command
from workloads import registry
from workloads.official.datasets import DataSet, SetUp

SCRIPT = "datasets/dataset_setup.py"
# The script puts both directories into commands of a shell, without quotes.
_PLAIN = re.compile(r"[\w./+@:,=%-]+")
# Must be given even where nothing is downloaded.
_UNUSED = "unused"


@dataclasses.dataclass(frozen=True)
class Request:
    """Which data a person wants, where, and how.

    Attributes:
      workload: official, base or variant.
      root, temporary: the script's `--data_dir` and `--temp_dir`, absolute.
      framework: `pytorch` or `jax`.
      urls: addresses that the person has, by the script's flag.
      skip_download, interactive_deletion: the script's flags of these names.
      licence_accepted: whether the person says that the data's terms are accepted.
      space_checked: whether the disk must have what the set-up takes.

    Raises:
      UserError: as `paths.runner_flags`, and for a directory that a shell would not read
        as one word.
    """

    workload: str
    root: Path
    temporary: Path
    framework: str = "pytorch"
    urls: Mapping[str, str | None] = dataclasses.field(default_factory=dict)
    skip_download: bool = False
    interactive_deletion: bool = True
    licence_accepted: bool = False
    space_checked: bool = True

    def __post_init__(self) -> None:
        paths.tree_of(self.workload, self.framework)
        for flag, directory in (("data_dir", self.root), ("temp_dir", self.temporary)):
            if not _PLAIN.fullmatch(str(directory)):
                raise UserError(
                    f"--{flag}={directory} has characters that the benchmark's set-up cannot take: "
                    f"it passes the path to a shell; letters, digits and ./_+@:,=%- are safe"
                )

    @property
    def data(self) -> DataSet:
        """The data set."""
        return registry.official(self.workload).data

    @property
    def setup(self) -> SetUp:
        """What the script does for it."""
        return self.data.setups[self.framework]


def command(request: Request, python: Path, checkout: Path) -> Command:
    """The script with its flags, run by the benchmark's Python from its checkout.

    Raises:
      UserError: for an address that is absent, leads to another file than the script expects, or
        has expired.
    """
    setup = request.setup
    flags = [f"--data_dir={request.root}"]
    if setup.temp_gib:
        flags.append(f"--temp_dir={request.temporary}")
    flags.append(f"--{setup.flag}")
    if setup.takes_framework:
        flags.append(f"--framework={request.framework}")
    absent = [f"--{flag}" for flag in setup.urls if not request.urls.get(flag)]
    if absent and not request.skip_download:
        raise UserError(f"{' and '.join(absent)} missing: {setup.accept}")
    for flag, file in setup.urls.items():
        address = request.urls.get(flag)
        if address and not request.skip_download:
            _check_address(flag, file, address, setup.accept)
        flags.append(f"--{flag}={address or _UNUSED}")
    if request.skip_download:
        flags.append("--skip_download")
    if not request.interactive_deletion:
        flags.append("--interactive_deletion=false")
    # The script imports `datasets`, the folder that it lies in, and no package has it.
    path = os.pathsep.join(filter(None, (str(checkout), os.environ.get("PYTHONPATH"))))
    return Command((str(python), SCRIPT, *flags), checkout, {"PYTHONPATH": path})


def _check_address(flag: str, file: str, address: str, remedy: str) -> None:
    # The script names ImageNet's files by what follows the last slash, with any query, and
    # fastMRI's by what stands from `knee` to `.xz`, wherever that is.
    if file.endswith(".xz"):
        match = re.search(r"knee.*?\.xz", address)
        name = match[0] if match else ""
    else:
        name = address.rsplit("/", 1)[-1]
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
    """When a signed address ends, if it says so in one of the two forms of Amazon S3.

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
