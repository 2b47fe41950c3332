"""Every workload by name: its facts, and how to build it.

Importing the registry loads neither data nor a deep-learning framework.

>>> facts("mnist_vit").stands_in_for
'imagenet_vit'
"""

import importlib
from typing import TYPE_CHECKING

from common.cli import UserError
from workloads.facts import WorkloadFacts
from workloads.standin.facts import STANDINS

if TYPE_CHECKING:
    from workloads import spec

_ALL: dict[str, WorkloadFacts] = {**STANDINS}

_CLASSES = {
    "mnist_vit": "workloads.standin.mnist_vit:MnistVitWorkload",
    "flights_dlrm": "workloads.standin.flights_dlrm:FlightsDlrmWorkload",
    "stdlib_lm": "workloads.standin.stdlib_lm:StdlibLmWorkload",
}


def names(suite: str | None = None) -> list[str]:
    """Names of all workloads, or of those of one suite, in the registry's order."""
    return [name for name, row in _ALL.items() if suite in (None, row.suite)]


def facts(name: str) -> WorkloadFacts:
    """The facts of one workload; UserError with the known names for an unknown one."""
    if name not in _ALL:
        raise UserError(f"unknown workload {name!r}; known: {', '.join(names())}")
    return _ALL[name]


def load(name: str) -> "spec.Workload":
    """A new instance of a workload that trains here."""
    facts(name)
    module, _, attribute = _CLASSES[name].partition(":")
    workload: spec.Workload = getattr(importlib.import_module(module), attribute)()
    return workload
