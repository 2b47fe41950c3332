"""submission_info.yml: what the organisers are told about an entry.

An entry with such a file in its folder can be packaged. Its keys are those that the files of the
repository mlcommons/submissions_algorithms have (seen in June 2026), less `submission_folder`,
which follows from the ruleset and the entry's name.
"""

import dataclasses
from pathlib import Path
from typing import Any

import yaml

from common.cli import UserError

FOLDERS = {"external": "external_tuning", "self-tuning": "self_tuning"}
FRAMEWORKS = ("PyTorch", "JAX")
_MAY_BE_EMPTY = frozenset({"affiliations"})


@dataclasses.dataclass(frozen=True)
class SubmissionInfo:
    """What the organisers ask for; every value one line of text.

    Attributes:
      submission_name: as the leaderboard shall show it.
      authors: names, separated by commas.
      affiliations: the authors', may be empty.
      version: of the entry.
      ruleset: "external" or "self-tuning".
      framework: "PyTorch" or "JAX".
      description: a sentence or a few.
    """

    submission_name: str
    authors: str
    affiliations: str
    version: str
    ruleset: str
    framework: str
    description: str

    def folder(self, entry: str) -> str:
        """Where the repository of submissions keeps the entry, below `submissions/`."""
        return f"{FOLDERS[self.ruleset]}/{entry}"

    def text(self, folder: str) -> str:
        """The file's content, with `folder` as `submission_folder`."""
        name, *rest = dataclasses.asdict(self).items()
        values = dict([name, ("submission_folder", folder), *rest])
        return yaml.safe_dump(values, sort_keys=False, allow_unicode=True, width=10**6)


def read_info(path: Path) -> SubmissionInfo:
    """The validated content of a file; UserError naming the file and the key."""
    try:
        content = yaml.safe_load(path.read_bytes())
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror}") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise UserError(f"{path} is not valid YAML: {error}") from error
    return check_info(content, path)


def check_info(content: Any, where: Path | str) -> SubmissionInfo:
    """`content` as a SubmissionInfo; UserError naming `where` and the key if it is none."""
    known = [field.name for field in dataclasses.fields(SubmissionInfo)]
    if not isinstance(content, dict):
        raise UserError(f"{where}: must hold the keys {', '.join(known)}")
    for key in content:
        if key not in known:
            raise UserError(f"{where}: {key}: unknown; known: {', '.join(known)}")
    for key in known:
        if key not in content:
            raise UserError(f"{where}: {key}: missing")
        value = content[key]
        if not isinstance(value, str):
            raise UserError(f"{where}: {key}: {value!r} is no text; put it in quotes")
        if not value.strip() and key not in _MAY_BE_EMPTY:
            raise UserError(f"{where}: {key}: empty")
        # A pull request's values are read line by line, each up to the first #.
        if "\n" in value or "#" in value:
            raise UserError(f"{where}: {key}: must be one line without #")
    for key, allowed in (("ruleset", tuple(FOLDERS)), ("framework", FRAMEWORKS)):
        if content[key] not in allowed:
            raise UserError(f"{where}: {key}: {content[key]!r}; allowed: {', '.join(allowed)}")
    return SubmissionInfo(**content)
