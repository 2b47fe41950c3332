"""The parts of the checks on a GPU: what each runs, for how long at most, and what it needs."""

import dataclasses
import importlib.util
import re
import sys
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from xml.etree import ElementTree

from common import files

# The files with tests that are skipped where there is no CUDA device.
CUDA_TESTS = ("tests/submission/shampoo/test_cuda.py", "tests/submission/shampoo/test_overlap.py")
STEPPED = ("vit_s16", "resnet50", "gpt2_small")
OPTIMIZERS = ("adamw", "muon", "ours_shampoo", "meta_shampoo")
TESTS_FILE, STEPS_FOLDER = "tests.json", "steps"
_XML = "tests.xml"


@dataclasses.dataclass(frozen=True)
class Part:
    """One part.

    Attributes:
      title: what it does.
      seconds: after which it is ended; what it has written by then stays.
      arguments: of Python, for a device ("cpu" or "cuda"), a folder and whether all is tiny.
      needs: a module without which it is skipped; None for nothing.
    """

    title: str
    seconds: float
    arguments: Callable[[str, Path, bool], Sequence[str]]
    needs: str | None = None

    def missing(self) -> str | None:
        """Why it has to be skipped; None if it has not."""
        if self.needs is not None and importlib.util.find_spec(self.needs) is None:
            return f"{self.needs} is not installed"
        return None

    def command(self, device: str, folder: Path, tiny: bool) -> list[str]:
        """What to run, from the repository's root."""
        return [sys.executable, *self.arguments(device, folder, tiny)]


def _tests(device: str, folder: Path, tiny: bool) -> Sequence[str]:
    files = CUDA_TESTS[:1] if tiny else CUDA_TESTS
    return ["-m", "pytest", f"--junitxml={folder / _XML}", *files]


def _steps(device: str, folder: Path, tiny: bool) -> Sequence[str]:
    networks = ("small_200k",) if tiny else STEPPED
    return [
        *("-m", "scripts.benchmark.step", f"--device={device}", "--precision=high"),
        *(f"--networks={','.join(networks)}", f"--optimizers={','.join(OPTIMIZERS)}"),
        *("--intervals=1,10,100", f"--output={folder / STEPS_FOLDER}"),
        *(("--cycle=2", "--repeats=1", "--block_size=64", "--threads=1") if tiny else ()),
    ]


def _benchmark(module: str, device: str, folder: Path, tiny: bool) -> Sequence[str]:
    """Of a module that knows its own sizes."""
    where = f"--device={device}", f"--output={folder}"
    return ["-m", f"scripts.benchmark.{module}", *where, *(("--tiny",) if tiny else ())]


PARTS: Mapping[str, Part] = {
    "tests": Part("tests that need a CUDA device", 300, _tests, needs="pytest"),
    "captured": Part(
        "a captured step against one without a graph", 120, partial(_benchmark, "captured")
    ),
    "training": Part("training steps of ViT-S and ResNet-50", 300, partial(_benchmark, "training")),
    "factorisations": Part(
        "eigh, QR and roots by size and batch", 180, partial(_benchmark, "factorisations")
    ),
    "steps": Part("steps of optimizers", 600, _steps),
}


def folder_name(device: str) -> str:
    """A folder for a device by torch's name for it.

    >>> folder_name("NVIDIA A100-SXM4-40GB")
    'nvidia_a100-sxm4-40gb'
    """
    return re.sub(r"[^a-z0-9.-]+", "_", device.lower()).strip("_.") or "device"


def collect_tests(folder: Path) -> None:
    """Keeps the counts of pytest's report, which also names the machine, and removes it."""
    path = folder / _XML
    if not path.exists():
        return
    counts = dict.fromkeys(("tests", "failures", "errors", "skipped"), 0)
    reasons: list[str] = []
    for suite in ElementTree.parse(path).getroot().iter("testsuite"):
        counts = {kind: count + int(suite.get(kind, 0)) for kind, count in counts.items()}
        reasons += (skipped.get("message", "") for skipped in suite.iter("skipped"))
    files.write_json(folder / TESTS_FILE, {**counts, "reasons": list(dict.fromkeys(reasons))})
    path.unlink()
