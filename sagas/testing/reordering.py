"""Sets that can be gone through in another order than they have."""

from __future__ import annotations

import sys
from dataclasses import fields, is_dataclass
from typing import TYPE_CHECKING, Any, cast

from pydantic import BaseModel

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from types import FrameType

__all__ = ["made", "orders", "reordered"]

# Who decides on the order, the last one first; each is given the items and the frame that wants them.
orders: list[Callable[[list[Any], FrameType], list[Any]]] = []


def _ordered(items: list[Any], frame: FrameType) -> list[Any]:
    """Asks for the order of some items."""
    return orders[-1](items, frame) if orders and len(items) > 1 else items


class _OtherSet(set[Any]):
    """A set of which somebody else decides the order."""

    def __iter__(self) -> Iterator[Any]:
        return iter(_ordered([*super().__iter__()], sys._getframe(1)))  # noqa: SLF001 - the only way to see who asks

    def pop(self) -> Any:
        """See ``set``."""
        for first in _ordered([*super().__iter__()], sys._getframe(1)):  # noqa: SLF001 - as above
            self.remove(first)
            return first
        return super().pop()

    def copy(self) -> _OtherSet:
        """See ``set``."""
        return _OtherSet(self)

    def __repr__(self) -> str:
        return f"{{{', '.join(map(repr, self))}}}" if self else "set()"


class _OtherFrozenset(frozenset[Any]):
    """As ``_OtherSet``."""

    def __iter__(self) -> Iterator[Any]:
        return iter(_ordered([*super().__iter__()], sys._getframe(1)))  # noqa: SLF001 - as above

    def __repr__(self) -> str:
        return f"frozenset({{{', '.join(map(repr, self))}}})" if self else "frozenset()"


def _giving_others(kind: type, name: str) -> Callable[..., Any]:
    """Makes a method whose result is a set of the same kind."""
    original: Callable[..., Any] = getattr(kind, name)

    def method(self: Any, *args: Any) -> Any:
        return made(original(self, *args))

    return method


_OPERATIONS = (
    "__and__", "__or__", "__sub__", "__xor__", "__rand__", "__ror__", "__rsub__", "__rxor__", "union", "intersection",
    "difference", "symmetric_difference",
)  # fmt: skip
for _name in _OPERATIONS:
    setattr(_OtherSet, _name, _giving_others(set, _name))
    setattr(_OtherFrozenset, _name, _giving_others(frozenset, _name))


def made(value: Any) -> Any:
    """Gives a set that was just made, as one that can be gone through in another order; anything else as it is."""
    kind: object = type(cast("object", value))
    if kind is set:
        return _OtherSet(value)
    return _OtherFrozenset(value) if kind is frozenset else value


def reordered(value: Any) -> Any:
    """Exchanges the sets in a value that nobody else has."""
    kind: type = type(cast("object", value))
    if issubclass(kind, list):
        value[:] = [reordered(x) for x in value]
    elif issubclass(kind, dict):
        value |= {key: reordered(x) for key, x in value.items()}
    elif kind is tuple:
        return tuple([reordered(x) for x in value])
    elif issubclass(kind, BaseModel):
        held: dict[str, Any] = value.__dict__
        held |= {key: reordered(x) for key, x in held.items()}
    elif is_dataclass(cast("Any", kind)):
        for field in fields(cast("Any", kind)):
            object.__setattr__(value, field.name, reordered(getattr(value, field.name)))
    return made(value)
