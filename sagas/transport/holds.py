"""What a consumer has to remember of its deliveries, where the broker would take an answer from anybody."""

from __future__ import annotations

import time
from itertools import islice
from typing import TYPE_CHECKING, Generic, NamedTuple, TypeVar

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["Holds", "Settled"]

T = TypeVar("T")

# Deliveries that nobody ended are looked for when there are so many, and twice as many as after the last look.
_CROWD = 1000


class _Hold(NamedTuple, Generic[T]):
    """Until when a delivery is its consumer's, and what is noted of it."""

    until: float
    note: T


class Holds(Generic[T]):
    """By receipt, until when deliveries are their consumer's alone, in seconds of ``time.monotonic``."""

    def __init__(self) -> None:
        self._holds: dict[str, _Hold[T]] = {}
        self._crowded = _CROWD

    def put(self, receipt: str, until: float, note: T) -> None:
        """Notes a delivery."""
        if len(self._holds) >= self._crowded:
            now = time.monotonic()
            self._holds = {name: hold for name, hold in self._holds.items() if hold.until > now}
            self._crowded = 2 * len(self._holds) + _CROWD
        self._holds[receipt] = _Hold(until, note)

    def extend(self, receipt: str, until: float) -> None:
        """Notes that a delivery ends at another time, unless it has ended otherwise meanwhile."""
        hold = self._holds.get(receipt)
        if hold is not None:
            self._holds[receipt] = hold._replace(until=until)

    def note(self, receipt: str) -> T | None:
        """Gives what is noted of a delivery, though its time may be over; ``None`` if it has ended."""
        hold = self._holds.get(receipt)
        return None if hold is None else hold.note

    def end(self, receipt: str) -> None:
        """Forgets a delivery; twice does no harm."""
        self._holds.pop(receipt, None)

    def __contains__(self, receipt: str) -> bool:
        """Says whether a delivery is its consumer's now."""
        hold = self._holds.get(receipt)
        return hold is not None and hold.until > time.monotonic()


class Settled:
    """Receipts of what was acknowledged, so that it can be twice.

    Args:
        most: How many are remembered.
    """

    def __init__(self, most: int = 10_000) -> None:
        self._most = most
        self._receipts: dict[str, None] = {}

    def add(self, receipts: Iterable[str]) -> None:
        """Remembers some, and forgets the oldest."""
        self._receipts.update(dict.fromkeys(receipts))
        for receipt in list(islice(self._receipts, max(0, len(self._receipts) - self._most))):
            del self._receipts[receipt]

    def __contains__(self, receipt: str) -> bool:
        """Says whether a delivery was acknowledged."""
        return receipt in self._receipts
