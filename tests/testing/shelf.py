"""A small world for tests of single steps: what was sold, under which key, and what it cost."""

from __future__ import annotations

from dataclasses import dataclass, field

from sagas import Rejected

__all__ = ["Shelf", "SoldOut", "current", "new", "sold"]


class SoldOut(Rejected):
    pass


@dataclass
class Shelf:
    stock: int = 5
    sales: dict[str, int] = field(default_factory=dict)
    voided: set[str] = field(default_factory=set)
    till: int = 0


_current: list[Shelf] = [Shelf()]


def current() -> Shelf:
    return _current[0]


def new() -> Shelf:
    _current[0] = Shelf()
    return _current[0]


def sold(shelf: Shelf) -> dict[str, object]:
    """A view: what counts, without the notes that make undo safe."""
    return {"stock": shelf.stock, "till": shelf.till}
