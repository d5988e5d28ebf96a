"""The world that sagas of the corpus act on: a shop, with a bank and a warehouse that know requests by their keys."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Generic, TypeVar

from sagas import Rejected, current_step

__all__ = ["Register", "Shop", "books", "open_shop", "shop"]

T = TypeVar("T")


@dataclass
class Register(Generic[T]):
    """A participant as it should be: it knows each request by its key, and what was taken back before it came.

    Attributes:
        entries: What is on record, by key.
        void: Keys that were taken back.
    """

    entries: dict[str, T] = field(default_factory=dict[str, T])
    void: set[str] = field(default_factory=set[str])

    def enter(self, value: T) -> T:
        """Takes down what the step that runs here brings; the first one counts.

        Raises:
            Rejected: It was taken back already.
        """
        key = current_step().idempotency_key
        if key in self.void:
            raise Rejected("it was taken back before it came")
        return self.entries.setdefault(key, value)

    def take_back(self) -> None:
        """Takes back what the step entered that is undone here, if it ever does."""
        key = current_step().undoes
        assert key is not None, "a compensator asks"
        self.void.add(key)
        self.entries.pop(key, None)

    def find(self) -> T | None:
        """Looks up what the step that runs, or is probed, here has entered."""
        return self.entries.get(current_step().idempotency_key)

    @property
    def total(self) -> int:
        """Adds everything up."""
        return sum(x for x in self.entries.values() if isinstance(x, int))


@dataclass
class Shop:
    """What there is.

    Attributes:
        stock: Pieces that can be sold, counted by hand.
        cash: Money, counted by hand.
        payments: At the bank, in cents.
        reserved: In the warehouse, pieces.
        bookings: With other companies.
        parcels: On their way.
        letters: That were sent to people.
        notes: Whatever else a saga writes down.
    """

    stock: int = 10
    cash: int = 0
    payments: Register[int] = field(default_factory=Register[int])
    reserved: Register[int] = field(default_factory=Register[int])
    bookings: Register[str] = field(default_factory=Register[str])
    parcels: Register[str] = field(default_factory=Register[str])
    letters: list[str] = field(default_factory=list[str])
    notes: dict[str, str] = field(default_factory=dict[str, str])

    def reopen(self) -> None:
        """Starts anew."""
        new = Shop()
        self.stock, self.cash, self.letters, self.notes = new.stock, new.cash, new.letters, new.notes
        self.payments, self.reserved, self.bookings, self.parcels = (
            new.payments, new.reserved, new.bookings, new.parcels,
        )  # fmt: skip


shop = Shop()


def open_shop() -> Shop:
    """Makes the world of a run."""
    shop.reopen()
    return shop


def books(world: Shop) -> object:
    """Shows what counts of the world."""
    kept = world.payments, world.reserved, world.bookings, world.parcels
    return (world.stock, world.cash, [dict(x.entries) for x in kept], list(world.letters), dict(world.notes))
