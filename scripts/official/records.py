"""Whether a data set of TensorFlow Datasets is complete, by what it says of itself."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from common import files
from common.cli import UserError
from scripts.official.file_sizes import sizes_of, some
from workloads.official.layouts import Records

# Around the bytes of each record of a TFRecord file: its length (8), and two checksums (4 each).
_FRAME = 16


def problems(part: Records, directory: Path) -> Iterator[str]:
    """One sentence for each thing that is missing or incomplete; `directory` as for `files`."""
    folder = directory / part.folder
    if not folder.is_dir():
        yield f"{folder} is missing{_unfinished(folder)}"
        return
    described = folder / "dataset_info.json"
    try:
        info = files.read_json(described)
        splits = {split["name"]: _Split(info, split) for split in info["splits"]}
    except UserError as error:
        yield str(error)
        return
    except (KeyError, TypeError, ValueError, AttributeError):
        yield f"{described} is not as TensorFlow Datasets writes it"
        return
    there = sizes_of(folder)
    for name, examples in part.examples.items():
        if name not in splits:
            yield f"{described} knows no split {name}, which should have {examples:,} examples"
            continue
        split = splits[name]
        if split.examples != examples:
            yield (
                f"{described} counts {split.examples:,} examples in {name}; should be {examples:,}"
            )
        lost = [file for file in split.files if file not in there]
        if lost:
            yield (
                f"{folder} has {len(split.files) - len(lost)} of the {len(split.files)} record "
                f"files of {name}; missing: {some(lost)}"
            )
        empty = [file for file in split.files if there.get(file) == 0]
        if empty:
            yield f"{folder} has empty record files: {some(empty)}"
        total = sum(there.get(file, 0) for file in split.files)
        if not lost and not empty and total < split.least_bytes:
            yield (
                f"{folder}: the record files of {name} hold {total:,} bytes and should hold "
                f"{split.least_bytes:,}: at least one is truncated"
            )


class _Split:
    """What `dataset_info.json` says of one split.

    Attributes:
      examples: how many.
      files: names of its record files.
      least_bytes: what they hold together, where the format is known.
    """

    def __init__(self, info: Mapping[str, Any], split: Mapping[str, Any]) -> None:
        lengths = [int(length) for length in split["shardLengths"]]
        ending = info.get("fileFormat", "tfrecord")
        self.examples = sum(lengths)
        self.files = [
            f"{info['name']}-{split['name']}.{ending}-{at:05d}-of-{len(lengths):05d}"
            for at in range(len(lengths))
        ]
        frames = _FRAME * self.examples if ending == "tfrecord" else 0
        self.least_bytes = int(split["numBytes"]) + frames


def _unfinished(folder: Path) -> str:
    """What a set-up by TensorFlow Datasets that did not finish has left beside `folder`."""
    if not folder.parent.is_dir():
        return ""
    left = sorted(
        path.name
        for path in folder.parent.iterdir()
        if "incomplete" in path.name and folder.name in path.name
    )
    return f"; {left[0]} beside it is of a set-up that did not finish" if left else ""
