"""What a world holds, all of it, so that two can be compared whatever a user's view shows of them."""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping
from collections.abc import Set as AbstractSet
from datetime import date, time, timedelta, tzinfo
from decimal import Decimal
from enum import Enum
from itertools import chain
from types import BuiltinFunctionType, FunctionType, MethodType, ModuleType
from typing import TYPE_CHECKING, Any, cast
from uuid import UUID

from sqlalchemy import Engine

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["Contents", "contents_of", "difference"]

# Paths and values; ``None`` for something of which nobody can look inside.
Contents = dict[str, object]
_PLAIN = (
    type(None), bool, int, float, complex, str, bytes, bytearray, Decimal, UUID, Enum, date, time, timedelta, tzinfo,
)  # fmt: skip
_CODE = (type, FunctionType, MethodType, BuiltinFunctionType, ModuleType)
_MOST = 20_000


class _Opaque(Exception):  # noqa: N818 - news, not an error of this library
    """Nobody can look inside something."""


def contents_of(world: object) -> Contents | None:
    """Lists everything that a world holds, by where it is; ``None`` if that cannot be told."""
    if world is None:
        return None
    found: Contents = {}
    try:
        for path, value in _walk("", world, frozenset()):
            found[path.lstrip(".")] = value
            if len(found) > _MOST:
                return None
    except _Opaque:
        return None
    return found


def _walk(path: str, value: Any, above: frozenset[int]) -> Iterator[tuple[str, object]]:
    """Walks what is in a value."""
    if isinstance(value, _PLAIN):
        yield path, value
    elif isinstance(value, _CODE):
        yield path, getattr(value, "__qualname__", str(value))
    elif id(value) in above:
        yield path, "…"
    else:
        yield path, type(value).__name__
        inside = above | {id(value)}
        for name, item in _items(value):
            yield from _walk(path + name, item, inside)


def _items(value: Any) -> Iterator[tuple[str, object]]:
    """Lists what a value is made of, each with its name.

    Raises:
        _Opaque: Nobody knows.
    """
    if isinstance(value, Engine):
        yield from _tables(value)
        return
    if isinstance(value, sqlite3.Connection):
        yield from _dump(value)
    elif isinstance(value, Mapping):
        items = cast("Mapping[object, object]", value)
        yield from ((f"[{key!r}]", item) for key, item in items.items())
    elif isinstance(value, AbstractSet):
        # Without a place: what is missing from a set moves nothing else.
        yield from ((f"{{{item!r}}}", True) for item in cast("AbstractSet[object]", value))
    elif isinstance(value, (list, tuple)) or type(value).__name__ == "deque":
        yield from ((f"[{number}]", item) for number, item in enumerate(cast("list[object]", value)))
    yield from _attributes(cast("Any", value))


def _tables(engine: Engine) -> Iterator[tuple[str, object]]:
    """Lists what is in a database.

    Raises:
        _Opaque: It is none of SQLite.
    """
    if engine.dialect.name != "sqlite":
        raise _Opaque
    with engine.connect() as connection:
        yield from _dump(connection.connection.driver_connection)


def _dump(connection: Any) -> Iterator[tuple[str, object]]:
    """Lists what is in a SQLite database."""
    return ((f"[{number}]", line) for number, line in enumerate(connection.iterdump()))


def _attributes(value: Any) -> Iterator[tuple[str, object]]:
    """Lists the attributes of an object.

    Raises:
        _Opaque: It is written in another language.
    """
    items, known = cast("object", value), isinstance(value, (Mapping, AbstractSet, list, tuple))
    slots = list(chain.from_iterable(_slots(kind) for kind in type(items).__mro__))
    if not hasattr(items, "__dict__") and not slots and not known:
        if type(items) is not object and type(items).__name__ not in ("deque", "Connection"):
            raise _Opaque
        return
    for name, item in getattr(items, "__dict__", {}).items():
        yield f".{name}", item
    for name in slots:
        if hasattr(items, name):
            yield f".{name}", getattr(items, name)


def _slots(kind: type) -> tuple[str, ...]:
    """Names the slots that a class adds."""
    slots = cast("str | tuple[str, ...]", kind.__dict__.get("__slots__", ()))
    names = (slots,) if isinstance(slots, str) else tuple(slots)
    return tuple(x for x in names if x not in ("__dict__", "__weakref__"))


def difference(has: Contents, should: Contents) -> dict[str, str]:
    """Says how two differ, by where."""
    found: dict[str, str] = {}
    for path in [*should, *(x for x in has if x not in should)]:
        if path not in has:
            found[path] = f"{path} is missing, and was {should[path]!r}"
        elif path not in should:
            found[path] = f"{path} is {has[path]!r}, and should not be there"
        elif has[path] != should[path]:
            found[path] = f"{path} is {has[path]!r} instead of {should[path]!r}"
    return found
