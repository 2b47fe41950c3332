"""Writes the table of where the host waits for a pretended device, one row per option set.

.venv/bin/python -m tests.simulated.table results/simulated/README.md
"""

import sys
from collections.abc import Sequence
from pathlib import Path

import torch

from tests.simulated.runs import OPTION_SETS, SHAPES, STEPS, Run, run
from tests.simulated.runs import Step as Taken

_TEXT = """# Every option set on a simulated accelerator

Made by `.venv/bin/python -m tests.simulated.table results/simulated/README.md` with torch {version}
on a CPU: `tests/simulated` computes real values there under the rules of a device. Operators cannot
mix its tensors with the CPU's, scalars included; whatever makes the host wait is recorded; memory
used by two streams in no certain order is an error, and so is a host that reads before the event of
a copy. An option set that broke one of these rules would have no row.

{steps} steps on parameters of shapes {shapes}, options as in `tests/simulated/runs.py`; gradients
of some parameters come late or are missing. Steps that make stacks are left out, as the first does.

- **operators**: queued in a plain step, the most.
- **waits, plain**: times that a queue ran empty because the host waited, in all plain steps.
- **waits, products**: the same in all steps with refreshes that take only products and Cholesky
  factorisations; in brackets how many such steps there were.
- **waits, eigh or QR**: the same in steps with an eigendecomposition or a Householder QR, which
  let the host wait by themselves: SOAP's and KL-Shampoo's first bases, and what one asks for.
- **looks**: times that the host looked at flags of an earlier step, which it waits for if it is so
  far ahead; in brackets the fewest operators queued behind them.
- **difference**: the largest of a weight from the CPU's after all steps, relative to the largest
  of its tensor.

"""
_HEADER = (
    *("option set", "operators", "waits, plain", "waits, products", "waits, eigh or QR"),
    *("looks", "difference"),
)


def rows_of(runs: dict[str, Run]) -> list[list[str]]:
    """One row of cells for each option set."""
    rows = []
    for name, done in runs.items():
        others = [step for step in done.refreshing if not step.by_products]
        looks = [look.behind for step in done.steps for look in step.looks]
        rows.append(
            [
                name,
                str(max(step.operators for step in done.plain)),
                str(_waits(done.plain)),
                f"{_waits(done.by_products)} ({len(done.by_products)})",
                f"{_waits(others)} ({len(others)})",
                f"{len(looks)} ({min(looks)})" if looks else "0",
                f"{done.difference:.1g}",
            ]
        )
    return rows


def _waits(steps: Sequence[Taken]) -> int:
    return sum(len(step.waits) for step in steps)


def main(path: Path) -> None:
    """Writes the table."""
    rows = rows_of({name: run(options) for name, options in OPTION_SETS.items()})
    lines = ["| " + " | ".join(cells) + " |" for cells in (_HEADER, *rows)]
    lines.insert(1, "|---" + "|--:" * (len(_HEADER) - 1) + "|")
    shapes = ", ".join(str(shape) for shape in SHAPES)
    text = _TEXT.format(version=torch.__version__, steps=STEPS, shapes=shapes)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text + "\n".join(lines) + "\n")


if __name__ == "__main__":
    torch.set_num_threads(1)
    main(Path(sys.argv[1]))
