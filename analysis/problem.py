"""What a reader of logs could not use, or used only in part."""

import dataclasses
from pathlib import Path


@dataclasses.dataclass(frozen=True)
class Problem:
    """Something in a set of logs that could not be used, or only in part; one line as text."""

    path: Path
    reason: str

    def __str__(self) -> str:
        return f"{self.path}: {self.reason}"
