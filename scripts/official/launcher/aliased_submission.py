"""In place of a submission whose files import each other by several names: each is one module.

The published winner of v0.6 imports one file as `shampoo_types`, as `optimizers....shampoo_types`
and by a path at which it lies no more. As three modules, its classes are no instances of each other
and it does not run. Run by the benchmark's Python, as `--submission_path`; the environment says

- SUBMISSION_MODULE: the module of the submission;
- SUBMISSION_ALIASES: a JSON object of names and of the modules that they mean.

It imports nothing of this project.
"""

import importlib
import importlib.abc
import importlib.machinery
import json
import os
import sys
from collections.abc import Mapping
from types import ModuleType
from typing import Any


class Aliases(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Finds modules by other names than their own, and gives the same module for each."""

    def __init__(self, names: Mapping[str, str]) -> None:
        """Takes names with dots, and the names of the modules that they mean."""
        self._names = names

    def find_spec(self, fullname: str, path: Any = None, target: Any = None) -> Any:
        """The module's spec; None for names that are no aliases, nor below or above one."""
        for alias, name in self._names.items():
            if f"{fullname}.".startswith(f"{alias}."):
                own = name + fullname[len(alias) :]
                return importlib.machinery.ModuleSpec(fullname, self, origin=own)
            if alias.startswith(f"{fullname}."):
                return importlib.machinery.ModuleSpec(fullname, None, is_package=True)
        return None

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> ModuleType:
        """The module by its own name; import would else give it the alias's spec for good."""
        module = importlib.import_module(str(spec.origin))
        spec.loader_state = module.__spec__
        return module

    def exec_module(self, module: ModuleType) -> None:
        """Gives the module, which has run already, its own spec back."""
        if module.__spec__ is not None:
            module.__spec__ = module.__spec__.loader_state


if "SUBMISSION_MODULE" in os.environ:  # not where it is only looked at
    sys.meta_path.insert(0, Aliases(json.loads(os.environ["SUBMISSION_ALIASES"])))
    _submission = importlib.import_module(os.environ["SUBMISSION_MODULE"])
    globals().update({key: value for key, value in vars(_submission).items() if key[:2] != "__"})
