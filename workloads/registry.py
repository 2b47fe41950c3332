"""Every workload by name: its facts, and how to build it.

Importing the registry loads neither data nor a deep-learning framework.

>>> facts("mnist_vit").stands_in_for
'imagenet_vit'
"""

import importlib
from collections import ChainMap
from collections.abc import Mapping
from typing import TYPE_CHECKING

from common.cli import UserError
from workloads.facts import WorkloadFacts
from workloads.standin import facts as standin_facts
from workloads.standin.facts import STANDINS

if TYPE_CHECKING:
    from workloads import spec

_SUITES: dict[str, Mapping[str, WorkloadFacts]] = {"standin": STANDINS}
# A view, not a copy: the suites read their targets when a row is first looked up.
_ALL: Mapping[str, WorkloadFacts] = ChainMap(
    {},
    *_SUITES.values(),  # type: ignore[arg-type]  # a ChainMap writes to its first map only
)

_CLASSES = {
    "mnist_vit": "workloads.standin.mnist_vit:MnistVitWorkload",
    "flights_dlrm": "workloads.standin.flights_dlrm:FlightsDlrmWorkload",
    "stdlib_lm": "workloads.standin.stdlib_lm:StdlibLmWorkload",
}


def names(suite: str | None = None) -> list[str]:
    """Names of all workloads, or of those of one suite, in the registry's order."""
    return [name for name in _ALL if suite is None or name in _SUITES.get(suite, ())]


def facts(name: str) -> WorkloadFacts:
    """The facts of one workload; UserError with the known names for an unknown one."""
    if name not in _ALL:
        raise UserError(f"unknown workload {name!r}; known: {', '.join(names())}")
    return _ALL[name]


def caveat(name: str) -> str | None:
    """What to tell a person before a workload is trained here, if anything; UserError as `facts`.

    It says so where the workload's targets were set on other data than it has on this machine.
    """
    facts(name)
    return standin_facts.caveat(name)


def load(name: str) -> "spec.Workload":
    """A new instance of a workload that trains here."""
    facts(name)
    module, _, attribute = _CLASSES[name].partition(":")
    workload: spec.Workload = getattr(importlib.import_module(module), attribute)()
    return workload
