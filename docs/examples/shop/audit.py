"""Holds the books of the three services against each other."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy import create_engine, text

__all__ = ["Books", "audit", "read_books"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Books:
    """What the services have written.

    Attributes:
        statuses: Of the saga of each order.
        sales: Item, pieces and cents of each order that orders has recorded as sold.
        movements: Item and pieces, in order, of everything that stock did for an order.
        bookings: Card and cents, in order, of everything that payments did for an order.
        shelf: Pieces of each item: at first, and now.
        cards: Cents of each card: at first, and now.
    """

    statuses: Mapping[str, str]
    sales: Mapping[str, tuple[str, int, int]]
    movements: Mapping[str, list[tuple[str, int]]]
    bookings: Mapping[str, list[tuple[str, int]]]
    shelf: Mapping[str, tuple[int, int]]
    cards: Mapping[str, tuple[int, int]]

    def sold(self) -> int:
        """Gives the cents that orders has sold for."""
        return sum(cents for _, _, cents in self.sales.values())

    def taken(self) -> int:
        """Gives the cents that payments has taken, less what it gave back."""
        return sum(before - now for before, now in self.cards.values())

    def pieces_sold(self) -> int:
        """Gives the pieces that orders has sold."""
        return sum(pieces for _, pieces, _ in self.sales.values())

    def pieces_gone(self) -> int:
        """Gives the pieces that are gone from the shelf."""
        return sum(before - now for before, now in self.shelf.values())


def audit(books: Books) -> list[str]:
    """Says all that does not fit together; nothing, if everything does."""
    orders = sorted({*books.statuses, *books.sales, *books.movements, *books.bookings})
    return [*(problem for order in orders for problem in _audit_order(books, order)), *_audit_totals(books)]


def _audit_order(books: Books, order: str) -> Iterator[str]:
    """Looks at one order: it was done once in all services, or whatever was done was undone once."""
    status, sale = books.statuses.get(order), books.sales.get(order)
    moved, booked = books.movements.get(order, []), books.bookings.get(order, [])
    if status == "completed":
        if sale is None:
            yield f"order {order} completed, and was not sold"
            return
        item, pieces, cents = sale
        if moved != [(item, -pieces)]:
            yield f"order {order} completed with {pieces} x {item}, and stock did {moved}"
        if [amount for _, amount in booked] != [-cents]:
            yield f"order {order} completed for {cents} cents, and payments did {booked}"
    elif status == "compensated":
        if sale is not None:
            yield f"order {order} was compensated, and sold"
        for service, entries in (("stock", moved), ("payments", booked)):
            if not _is_undone(entries):
                yield f"order {order} was compensated, and {service} did {entries}"
    else:
        yield f"order {order} is {status or 'unknown to orders'}"


def _is_undone(entries: list[tuple[str, int]]) -> bool:
    """Says whether nothing was done, or one thing and then its opposite."""
    return not entries or (len(entries) == 2 and entries[1] == (entries[0][0], -entries[0][1]) and entries[0][1] < 0)  # noqa: PLR2004 - once, and back


def _audit_totals(books: Books) -> Iterator[str]:
    """Looks at sums, by item and by card."""
    pieces, gone = Counter[str](), Counter[str]()
    for item, count, _ in books.sales.values():
        pieces[item] += count
    for item, (before, now) in books.shelf.items():
        gone[item] = before - now
    for item in sorted({*pieces, *gone}):
        if pieces[item] != gone[item]:
            yield f"orders sold {pieces[item]} x {item}, and {gone[item]} are gone from the shelf"
    spent = Counter[str]()
    for entries in books.bookings.values():
        for card, cents in entries:
            spent[card] -= cents
    for card, (before, now) in sorted(books.cards.items()):
        if spent[card] != before - now:
            yield f"payments booked {spent[card]} cents on card {card}, from which {before - now} are gone"
    if books.sold() != books.taken():
        yield f"orders sold for {books.sold()} cents, and payments took {books.taken()}"


def read_books(
    environ: Mapping[str, str], statuses: Mapping[str, str], *, shelf: Mapping[str, int], cards: Mapping[str, int]
) -> Books:
    """Reads the databases of all three services, as no service ever does.

    Args:
        environ: Says where they are; as the services were told.
        statuses: Of the sagas.
        shelf: What there was at first.
        cards: What there was at first.
    """
    stock, payments = environ["STOCK_DATABASE"], environ["PAYMENTS_DATABASE"]
    sales = _rows(environ["ORDERS_STORE"], 'SELECT "order", item, pieces, cents FROM sale')
    pieces = dict(_rows(stock, "SELECT item, pieces FROM shelf"))
    cents = dict(_rows(payments, "SELECT name, cents FROM card"))
    return Books(
        statuses=statuses,
        sales={order: (item, count, amount) for order, item, count, amount in sales},
        movements=_by_order(_rows(stock, 'SELECT "order", item, pieces FROM movement ORDER BY id')),
        bookings=_by_order(_rows(payments, 'SELECT "order", card, cents FROM booking ORDER BY id')),
        shelf={item: (before, pieces[item]) for item, before in shelf.items()},
        cards={name: (before, cents[name]) for name, before in cards.items()},
    )


def _rows(database: str, query: str) -> list[tuple[Any, ...]]:
    """Asks a database."""
    engine = create_engine(database)
    try:
        with engine.connect() as connection:
            return [tuple(row) for row in connection.execute(text(query))]
    finally:
        engine.dispose()


def _by_order(rows: list[tuple[Any, ...]]) -> dict[str, list[tuple[str, int]]]:
    """Groups rows."""
    found: defaultdict[str, list[tuple[str, int]]] = defaultdict(list)
    for order, name, amount in rows:
        found[order].append((name, int(amount)))
    return dict(found)
