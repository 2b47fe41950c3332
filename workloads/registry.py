"""Every workload by name: its facts, and how to build it.

Importing the registry loads neither data nor a deep-learning framework.

>>> facts("mnist_vit").stands_in_for
'imagenet_vit'
>>> facts("fastmri").max_runtime_seconds, facts("fastmri", "v0.6").max_runtime_seconds
(2745, 4430)
"""

import importlib
import importlib.util
from collections import ChainMap
from collections.abc import Mapping
from typing import TYPE_CHECKING

from common.cli import UserError, near
from workloads.facts import WorkloadFacts
from workloads.official.facts import NEWEST, OFFICIAL, VERSIONS, OfficialFacts
from workloads.standin import facts as standin_facts
from workloads.standin.facts import STANDINS

if TYPE_CHECKING:
    from submission.algoperf_api import spec

# A view, not a copy: the stand-ins read their targets when a row is first looked up. Names come in
# the reverse order of the maps.
_ALL: Mapping[str, WorkloadFacts] = ChainMap(
    {},
    OFFICIAL[NEWEST],  # type: ignore[arg-type]  # a ChainMap writes to its first map only
    STANDINS,  # type: ignore[arg-type]
)

# Where each stand-in's class is: its name says it, and so it does in JAX, for those that have one.
_CLASSES = {
    name: f"workloads.standin.{name}:{''.join(map(str.capitalize, name.split('_')))}Workload"
    for name in STANDINS
}


def names(suite: str | None = None, version: str | None = None) -> list[str]:
    """Names of all workloads, or of those of one suite, in the registry's order.

    Args:
      suite: `standin` or `official`.
      version: of the benchmark, for official workloads, such as `v0.6`; None means the newest.

    Raises:
      UserError: for an unknown version.
    """
    official = _official(version)
    known = [name for name in _ALL if name not in OFFICIAL[NEWEST]] + list(official)
    suites = {"standin": STANDINS, "official": official}
    return [name for name in known if suite is None or name in suites.get(suite, ())]


def facts(name: str, version: str | None = None) -> WorkloadFacts:
    """The facts of one workload.

    Args:
      name: of the workload.
      version: of the benchmark, for an official workload; None means the newest.
        Stand-ins are the same whatever it is.

    Raises:
      UserError: naming the known ones for an unknown workload or version.
    """
    if name in _ALL and name not in OFFICIAL[NEWEST]:
        return _ALL[name]
    rows = _official(version)
    if name not in rows:
        where = f" in {version}" if name in _ALL else ""
        known = names(version=version)
        listed = f"known: {', '.join(known)}{near(known, name)}"
        raise UserError(f"unknown workload {name!r}{where}; {listed}")
    return rows[name]


def official(name: str, version: str | None = None) -> OfficialFacts:
    """The facts of one official workload, with its data set and model.

    Raises:
      UserError: naming the official ones for any other, or for an unknown version.
    """
    rows = _official(version)
    if name in rows:
        return rows[name]
    known = ", ".join(rows)
    if name in STANDINS:
        raise UserError(f"{name} is no official workload; those are: {known}")
    where = f" in {version}" if name in _ALL else ""
    raise UserError(f"unknown workload {name!r}{where}; official ones: {known}{near(rows, name)}")


def check_trains_here(name: str) -> None:
    """Raises UserError for an unknown workload, and for one that the benchmark's runner trains."""
    if name in _CLASSES:
        return
    here = f"those that train here are: {', '.join(_CLASSES)}"
    if name in _ALL:
        raise UserError(
            f"{name} is an official workload: it trains under the benchmark's own runner; {here}"
        )
    raise UserError(f"unknown workload {name!r}; {here}{near(_CLASSES, name)}")


def caveat(name: str) -> str | None:
    """A warning for a person before a workload is trained here, if there is one.

    It says so where the workload's targets were set on other data than it has on this machine.

    Raises:
      UserError: as `check_trains_here`.
    """
    check_trains_here(name)
    return standin_facts.caveat(name)


def in_jax() -> list[str]:
    """Names of the stand-ins that also train in JAX, where modules and classes have the same names.

    >>> in_jax()[0]
    'mnist_vit'
    """
    return [n for n in STANDINS if importlib.util.find_spec(f"workloads.standin_jax.{n}")]


def load(name: str, framework: str = "pytorch") -> "spec.Workload":
    """A new instance of a workload that trains here.

    Args:
      name: of the workload.
      framework: `pytorch` or `jax`.

    Raises:
      UserError: as `caveat`, and for a workload that has no model in JAX, or without JAX.
    """
    check_trains_here(name)
    module, _, attribute = _CLASSES[name].partition(":")
    if framework == "jax":
        if name not in (known := in_jax()):
            raise UserError(f"{name} has no model in JAX; those that have: {', '.join(known)}")
        if importlib.util.find_spec("jax") is None:
            raise UserError(f"{name} in JAX needs the packages of requirements-jax.txt")
        module = module.replace(".standin.", ".standin_jax.")
    workload: spec.Workload = getattr(importlib.import_module(module), attribute)()
    return workload


def _official(version: str | None) -> Mapping[str, OfficialFacts]:
    version = NEWEST if version is None else version
    if version not in OFFICIAL:
        raise UserError(f"unknown benchmark version {version!r}; known: {', '.join(VERSIONS)}")
    return OFFICIAL[version]
