"""Makes a value slightly wrong, in the way of its type."""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Iterator, Mapping
from datetime import date, timedelta
from decimal import Decimal
from enum import Enum
from typing import Any, cast
from uuid import UUID

from pydantic import BaseModel

__all__ = ["SAME", "alter", "altered_field", "paths_of"]

# There is nothing to alter.
SAME = object()


def alter(value: object) -> Any:
    """Gives a value of the same type that is another one, or ``SAME``."""
    if isinstance(value, bool):
        return not value
    if isinstance(value, Enum):
        others = [x for x in type(value) if x is not value]
        return others[0] if others else SAME
    if isinstance(value, (int, float, Decimal)):
        return value + 1
    if isinstance(value, str):
        return type(value)(value + "x") if type(value) is not str else value + "x"
    if isinstance(value, bytes):
        return value + b"x"
    if isinstance(value, UUID):
        return UUID(int=value.int ^ 1)
    if isinstance(value, (date, timedelta)):  # a datetime is a date
        return value + timedelta(days=1)
    return _without_one(value)


def _without_one(value: object) -> Any:
    """Gives a collection without its last item, or ``SAME``."""
    if isinstance(value, dict):
        known = cast("dict[object, object]", value)
        return dict(list(known.items())[:-1]) if known else SAME
    if isinstance(value, (list, tuple)):
        row = cast("tuple[object, ...]", value)
        return row[:-1] if row and not hasattr(row, "_fields") else SAME
    if isinstance(value, (set, frozenset)):
        items = cast("frozenset[object]", value)
        return type(items)(sorted(items, key=repr)[:-1]) if items else SAME
    return SAME


def _how_altered(value: object) -> str:
    """Says what ``alter`` does to a value of this type."""
    if isinstance(value, bool):
        return "the opposite"
    if isinstance(value, (int, float, Decimal)) and not isinstance(value, Enum):
        return "one more"
    if isinstance(value, (date, timedelta)):
        return "a day later"
    if isinstance(value, (list, tuple, set, frozenset, dict)):
        return "one item less"
    return "another one"


def _fields_of(value: object) -> Mapping[str, object]:
    """Gives the fields of a record by name; none of anything else."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {x.name: getattr(value, x.name) for x in dataclasses.fields(value)}
    if isinstance(value, BaseModel):
        return {name: getattr(value, name) for name in type(value).model_fields}
    if isinstance(value, tuple):
        names = cast("tuple[str, ...]", getattr(cast("object", value), "_fields", ()))
        return {name: getattr(cast("object", value), name) for name in names}
    return {}


def altered_field(value: Any, name: str) -> Any:
    """Gives a copy of a record in which one field is altered, or ``SAME``."""
    if name not in _fields_of(value):
        return SAME
    other = alter(getattr(value, name))
    if other is SAME:
        return SAME
    if isinstance(value, tuple):
        return cast("Any", value)._replace(**{name: other})
    changed = copy.copy(value)
    object.__setattr__(changed, name, other)  # it may be frozen
    return changed


def paths_of(name: str, value: object) -> Iterator[tuple[str, str | None, str]]:
    """Lists what can be altered in an argument, each as ``(name, field, how)``."""
    fields = _fields_of(value)
    for field, inner in fields.items():
        if alter(inner) is not SAME:
            yield name, field, _how_altered(inner)
    if not fields and alter(value) is not SAME:
        yield name, None, _how_altered(value)
