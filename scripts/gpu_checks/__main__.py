"""Checks on a GPU what could not be measured without one, part by part, in minutes.

    python -m scripts.gpu_checks                      # or: make gpu-checks
    python -m scripts.gpu_checks --parts=steps,training
    python -m scripts.gpu_checks --device=cpu --tiny --output=runs/gpu_checks   # to try it

Writes results/gpu/DEVICE: what each part measured, checks.json, and README.md with the goals and
the planner's predictions beside the measurements, anew after each part. A part that is run again
replaces its own results; the others' stay, also where a run is interrupted. Each part has a limit
of time, and one that lacks something is skipped by name. What parts print goes to runs/gpu_checks.
"""

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from absl import flags

from common import cli, files
from common.cli import UserError
from scripts.benchmark import machine
from scripts.gpu_checks import parts, report
from scripts.local import supervisor
from scripts.local.environment import ROOT
from scripts.local.supervisor import Limits

FLAGS = flags.FLAGS
LOGS = ROOT / "runs" / "gpu_checks"
_CHECKS, _PAGE = "checks.json", "README.md"


def define_flags() -> None:
    """Declares the command line."""
    flags.DEFINE_list("parts", list(parts.PARTS), f"of {', '.join(parts.PARTS)}")
    flags.DEFINE_enum("device", "cuda", ["cpu", "cuda"], "where to measure")
    flags.DEFINE_bool("tiny", False, "small sizes, to try the command")
    flags.DEFINE_string("output", "results/gpu", "folder for the devices' folders")


def main(argv: Sequence[str]) -> int:
    """Runs the parts that the flags name; 1 if one of them failed or was ended at its limit."""
    del argv
    names = cli.names("parts", FLAGS.parts, list(parts.PARTS))
    return check(names, FLAGS.device, Path(FLAGS.output), FLAGS.tiny)


def check(
    names: Sequence[str], device: str, output: Path, tiny: bool, seconds: float | None = None
) -> int:
    """Runs parts in turn and writes what they found; 1 if one failed or was ended at its limit.

    Args:
      names: of `parts.PARTS`.
      device: "cpu" or "cuda".
      output: has a folder for each device.
      tiny: whether sizes are small.
      seconds: for each part; None for its own.

    Raises:
      UserError: if there is no such device, or what is there is of other sizes.
    """
    conditions = machine.conditions(machine.device(device))
    folder = files.make_directory(output.resolve() / parts.folder_name(conditions["device"]))
    checks = _earlier(folder / _CHECKS, tiny)
    for name in names:
        print(f"{name}: {parts.PARTS[name].title} ...", flush=True)
        outcome = _run(name, device, folder, tiny, seconds)
        checks["parts"][name] = outcome | {"conditions": conditions}
        files.write_json(folder / _CHECKS, checks)
        files.write_text(folder / _PAGE, report.page(folder, checks))
        print(f"{name}: {outcome['state']} {outcome['reason']}".rstrip(), flush=True)
    print(f"wrote {folder / _PAGE}")
    states = {checks["parts"][name]["state"] for name in names}
    return int(not states <= {"done", "skipped"})


def _earlier(path: Path, tiny: bool) -> dict[str, Any]:
    """What was checked before; UserError where that was of another size."""
    fresh: dict[str, Any] = {"tiny": tiny, "parts": {}}
    if not path.exists():
        return fresh
    earlier: dict[str, Any] = files.read_json(path)
    if earlier.get("tiny") is not tiny:
        raise UserError(f"{path} is of {'full' if tiny else 'tiny'} sizes; give another --output")
    return earlier


def _run(name: str, device: str, folder: Path, tiny: bool, seconds: float | None) -> dict[str, Any]:
    """How a part went: `state` is "done", "failed", "limited" or "skipped", with the `reason`."""
    part = parts.PARTS[name]
    missing = part.missing()
    if missing:
        return {"state": "skipped", "reason": missing, "seconds": 0.0, "limit": part.seconds}
    limit = seconds or part.seconds
    log = LOGS / f"{folder.name}_{name}.log"
    log.unlink(missing_ok=True)
    begin = time.time()
    outcome = supervisor.run(
        part.command(device, folder, tiny),
        log,
        folder=ROOT,
        limits=Limits(seconds=limit),
    )
    parts.collect_tests(folder)
    state = "done" if not outcome.problem else "limited" if outcome.limited else "failed"
    return {
        "state": state,
        "reason": outcome.problem,
        "seconds": outcome.seconds,
        "limit": limit,
        "started": begin,
    }


if __name__ == "__main__":
    define_flags()
    cli.run(main)
