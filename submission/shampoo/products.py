"""The precision that the optimizer's matrix products need.

- Averages of outer products, and products of gradients with roots and bases: any. Rounding a
  gradient to TF32 or bfloat16 leaves G G^T the positive semi-definite matrix of a gradient that is
  off by 2^-11 or 2^-9, and no direction is known that well.
- Iterations to A^(-1/p), p even: TF32 from a damping of `plan.solvers.TF32_DAMPING` on, else, and
  with an odd p, all of float32.
- Eigenbases, and what checks a root or a basis: all of float32, since small
  differences are what they are about.

The first follow the user's setting; for the others it is raised where it is too low, and set back.
"""

import contextlib
from collections.abc import Iterator
from typing import Any, Literal

import torch

Precision = Literal["tf32", "ieee"]
# "none" follows a setting that in the end is "ieee".
_EXACTNESS = {"bf16": 0, "tf32": 1, "ieee": 2, "none": 2}
# As `torch.set_float32_matmul_precision` has it.
_LEGACY = {"medium": "bf16", "high": "tf32", "highest": "ieee"}


@contextlib.contextmanager
def at_least(precision: Precision) -> Iterator[None]:
    """Within it, float32 matrix products are as exact as this, whatever the user's setting.

    A setting that is as exact already stays. For the whole process, like the setting itself.

    >>> torch.set_float32_matmul_precision("high")
    >>> with at_least("ieee"):
    ...     torch.backends.mkldnn.matmul.fp32_precision
    'ieee'
    >>> torch.get_float32_matmul_precision()
    'high'
    >>> torch.set_float32_matmul_precision("highest")
    """
    if not hasattr(torch.backends.cuda.matmul, "fp32_precision"):  # until torch 2.8
        before = torch.get_float32_matmul_precision()
        raised = _is_below(_LEGACY[before], precision)
        if raised:
            torch.set_float32_matmul_precision({"tf32": "high", "ieee": "highest"}[precision])
        try:
            yield
        finally:
            if raised:
                torch.set_float32_matmul_precision(before)
        return
    cpu: Any = torch.backends.mkldnn  # and Intel's GPUs
    backends = (torch.backends.cuda.matmul, cpu.matmul)
    lower = [(at, at.fp32_precision) for at in backends if _is_below(at.fp32_precision, precision)]
    for backend, _ in lower:
        backend.fp32_precision = precision
    try:
        yield
    finally:
        for backend, before in lower:
            _restore(backend, before)


def _is_below(given: str, wanted: str) -> bool:
    return _EXACTNESS[given] < _EXACTNESS[wanted]


def _restore(backend: Any, before: str) -> None:
    # What had followed a setting for all backends is to follow it again.
    backend.fp32_precision = "none"
    if backend.fp32_precision != before:
        backend.fp32_precision = before
