"""Frozen dataclasses from the rows of a JSON file, with their names and types checked."""

import dataclasses
import types
import typing
from collections.abc import Mapping
from typing import Any, TypeVar

from common.cli import UserError, near

T = TypeVar("T")


def row(cls: type[T], values: Mapping[str, Any], where: str) -> T:
    """A dataclass from a JSON object, whose key `source` is for people.

    UserError naming `where` and a key that is missing, unknown or of another type.
    """
    given = {name: value for name, value in values.items() if name != "source"}
    fields = {field.name: field for field in dataclasses.fields(cls)}  # type: ignore[arg-type]
    hints = typing.get_type_hints(cls)
    for name, value in given.items():
        if name not in fields:
            raise UserError(
                f"{where}: unknown key {name!r}; known: {', '.join(fields)}{near(fields, name)}"
            )
        if not _is_a(value, hints[name]):
            kind = getattr(hints[name], "__name__", hints[name])
            raise UserError(f"{where}: {name} is {value!r}, not of type {kind}")
    for name, field in fields.items():
        if name not in given and field.default is field.default_factory is dataclasses.MISSING:
            raise UserError(f"{where}: {name} is missing")
    frozen = {
        name: tuple(value) if isinstance(value, list) else value for name, value in given.items()
    }
    return cls(**frozen)


def _is_a(value: Any, hint: Any) -> bool:
    """Whether a value of JSON, or a row, has the type of a field."""
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin is typing.Literal:
        return value in arguments
    if origin is types.UnionType:
        return any(_is_a(value, member) for member in arguments)
    if origin is tuple:
        return isinstance(value, list | tuple)
    if hint is float:
        return type(value) in (int, float)
    return type(value) is hint or (origin is Mapping and isinstance(value, Mapping))
