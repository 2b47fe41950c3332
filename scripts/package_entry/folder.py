"""What a package holds, and writing it to its place as a whole."""

import ast
import dataclasses
import hashlib
import json
import re
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from common import files
from common.cli import UserError
from scripts.official.entry import INFO, SPACE
from scripts.package_entry.info import SubmissionInfo, check_info, read_info
from scripts.package_entry.rewrite import place, rewritten
from scripts.package_entry.sources import PROJECT, Reached, Source, reached
from workloads import search_space

MANIFEST = "MANIFEST.json"
# The benchmark (commit 2c90454f) installs these itself.
PROVIDED = frozenset(
    {"absl", "algoperf", "chex", "flax", "jax", "numpy", "optax", "pandas", "torch"}
)


@dataclasses.dataclass(frozen=True)
class Package:
    """One entry as the organisers get it.

    Attributes:
      entry: its name, and its folder's.
      info: what `submission_info.yml` says.
      contents: bytes of each file but the manifest, by its path below the folder, sorted.
    """

    entry: str
    info: SubmissionInfo
    contents: Mapping[str, bytes]

    @property
    def home(self) -> str:
        """The folder below the repository of submissions or a checkout of the benchmark."""
        return f"submissions/{self.info.folder(self.entry)}"

    @property
    def hashes(self) -> dict[str, str]:
        """SHA-256 of each file."""
        return {path: hashlib.sha256(data).hexdigest() for path, data in self.contents.items()}


def module_of(entry: str) -> str:
    """The name of the module that an entry's imports are followed from."""
    return f"{PROJECT}.entries.{entry}.submission"


def packable(root: Path) -> list[str]:
    """Names of the entries below `root` that say how they are to be submitted, sorted."""
    found = (root / PROJECT / "entries").glob(f"*/{INFO}")
    return sorted(path.parent.name for path in found)


def compose(root: Path, entry: str, **overrides: str) -> Package:
    """The package of an entry of the repository at `root`.

    Args:
      overrides: values that take the place of those in the entry's `submission_info.yml`.

    Raises:
      UserError: for an entry that cannot be packaged, naming the file at fault.
    """
    if entry not in packable(root):
        known = ", ".join(packable(root)) or "none"
        raise UserError(f"entry {entry!r} cannot be packaged; can be: {known}")
    folder = root / PROJECT / "entries" / entry
    where = folder / INFO
    given = dataclasses.asdict(read_info(where))
    info = check_info(given | overrides, where)
    found = reached(root, module_of(entry))
    home = f"submissions/{info.folder(entry)}"
    contents = _modules(found, entry, home.replace("/", "."))
    contents |= _data(root, found, entry)
    for path in _beside(folder, info):
        contents[path.name] = path.read_bytes()
    contents[INFO] = info.text(home).encode()
    contents["requirements.txt"] = _requirements(root, found).encode()
    contents["LICENSE"] = (root / "LICENSE").read_bytes()
    return Package(entry, info, dict(sorted(contents.items())))


def _kept(found: Reached, entry: str) -> dict[str, Source]:
    """All sources but the two packages above an entry, which are nothing without it."""
    kept = dict(found.sources)
    for name in (PROJECT, f"{PROJECT}.entries"):
        source = kept[name]
        code = ast.parse(source.text).body
        if code and (len(code) > 1 or ast.get_docstring(ast.parse(source.text)) is None):
            raise source.error(code[0], "code here runs in no package; move it")
        others = f"{PROJECT}.entries.{entry}"
        below = (other for other in found.sources if other.startswith(f"{name}."))
        if name == PROJECT or all(f"{other}.".startswith(f"{others}.") for other in below):
            del kept[name]
    return kept


def _modules(found: Reached, entry: str, home: str) -> dict[str, bytes]:
    contents: dict[str, bytes] = {}
    places: dict[tuple[str, ...], Source] = {}
    for source in _kept(found, entry).values():
        parts = place(source.name, entry)
        if parts in places:
            raise UserError(f"{source.path} and {places[parts].path} have one place in a package")
        places[parts] = source
        inside = (*parts, "__init__") if source.path.name == "__init__.py" else parts
        contents[f"{'/'.join(inside)}.py"] = rewritten(source, entry, home).encode()
    return contents


def _data(root: Path, found: Reached, entry: str) -> dict[str, bytes]:
    """The files beside modules whose names those modules hold."""
    contents = {}
    for source in found.sources.values():
        nodes = ast.walk(ast.parse(source.text))
        texts = {str(node.value) for node in nodes if isinstance(node, ast.Constant)}
        for path in sorted(source.path.parent.iterdir()):
            if path.name in texts and path.is_file() and path.suffix != ".py":
                above = place(".".join(path.parent.relative_to(root).parts), entry)
                contents["/".join((*above, path.name))] = path.read_bytes()
    return contents


def _beside(folder: Path, info: SubmissionInfo) -> list[Path]:
    """What a person or the runner reads of the entry: its README and its search space."""
    readme, space = folder / "README.md", folder / SPACE
    if info.ruleset == "external":
        search_space.load(space)
    elif space.exists():
        raise UserError(f"{space}: an entry of the {info.ruleset} ruleset has no search space")
    return [path for path in (readme, space) if path.exists()]


def _requirements(root: Path, found: Reached) -> str:
    """The versions, as this repository pins them, of what the benchmark does not install."""
    lines = ["# Beside what the benchmark installs.\n"]
    pins = (root / "requirements.txt").read_text("utf-8")
    for name in found.installed:
        if name in PROVIDED:
            continue
        pin = re.search(rf"^{re.escape(name)}==\S+", pins, re.MULTILINE | re.IGNORECASE)
        if pin is None:
            where = root / "requirements.txt"
            raise UserError(f"{where} pins no version of {name}, which {found.start} needs")
        lines.append(f"{pin[0]}\n")
    return "".join(lines) if len(lines) > 1 else "# Nothing beside what the benchmark installs.\n"


def write(package: Package, output: Path, record: Mapping[str, Any], overwrite: bool) -> Path:
    """Writes the package below `output`, whole or not at all; returns its folder.

    Args:
      record: what the manifest says beside the hashes of the files.
      overwrite: replace what is there, whatever it is. Otherwise only a package is replaced, and
        that only if nobody has changed it since.

    Raises:
      UserError: for a folder that is not to be replaced or cannot be written.
    """
    folder = output / package.home
    if folder.exists() and not overwrite and (problem := _foreign(folder)):
        raise UserError(f"{folder} {problem}; --overwrite replaces it")
    files.make_directory(folder.parent)
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=f".{folder.name}.") as scratch:
        new, old = Path(scratch) / "new", Path(scratch) / "old"
        for name, data in package.contents.items():
            (new / name).parent.mkdir(parents=True, exist_ok=True)
            (new / name).write_bytes(data)
        files.write_json(new / MANIFEST, {**record, "sha256": package.hashes})
        if folder.exists():
            folder.rename(old)
        new.rename(folder)
    return folder


def contents_of(folder: Path) -> dict[str, bytes]:
    """Bytes of each file of a folder by its path, less the manifest and Python's caches."""
    paths = (path for path in sorted(folder.rglob("*")) if path.is_file())
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in paths
        if "__pycache__" not in path.parts and path != folder / MANIFEST
    }


def _foreign(folder: Path) -> str:
    """Why a folder is not a package as it was written, empty if it is."""
    if not (folder / MANIFEST).is_file():
        return f"is there and has no {MANIFEST}"
    try:
        hashes = json.loads((folder / MANIFEST).read_bytes())["sha256"]
    except (ValueError, TypeError, KeyError):
        return f"has a damaged {MANIFEST}"
    there = {name: hashlib.sha256(data).hexdigest() for name, data in contents_of(folder).items()}
    changed = [name for name in hashes.keys() | there if hashes.get(name) != there.get(name)]
    return f"has been changed in {min(changed)}" if changed else ""
