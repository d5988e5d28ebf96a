"""A small shop, for ``sagas demo``: an order takes from the stock, charges a card and books a courier.

Stock, bank and courier are tables in one SQLite database, which stand for three services that share no
transaction: each function commits on its own. What it did is kept under its idempotency key, so that asking twice
for the same thing does it once.
"""

from __future__ import annotations

import os
import sqlite3
import time
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from sagas import NotApplied, Rejected, current_step, saga, step

if TYPE_CHECKING:
    from collections.abc import Generator

__all__ = ["CardDeclined", "Order", "OutOfStock", "Receipt", "open_shop", "place_order", "shop"]

_TABLES = """
    CREATE TABLE stock (item TEXT PRIMARY KEY, pieces INTEGER NOT NULL);
    CREATE TABLE reservations (key TEXT PRIMARY KEY, order_id TEXT, item TEXT, pieces INTEGER);
    CREATE TABLE payments (key TEXT PRIMARY KEY, order_id TEXT, cents INTEGER, refunded INTEGER DEFAULT 0);
    CREATE TABLE deliveries (key TEXT PRIMARY KEY, order_id TEXT, address TEXT);
"""


def open_shop(path: Path, *, stock: dict[str, int]) -> None:
    """Creates the tables and fills the shelves."""
    with closing(sqlite3.connect(path)) as database, database:
        database.executescript(_TABLES)
        database.executemany("INSERT INTO stock VALUES (?, ?)", stock.items())


@contextmanager
def shop() -> Generator[sqlite3.Connection]:
    """Gives the shop's database, in a transaction that ends with the block."""
    path = Path(os.environ.get("SHOP_DATABASE", "shop.db"))
    with closing(sqlite3.connect(path, timeout=5)) as database, database:
        yield database


@dataclass(frozen=True)
class Order:
    """What a customer wants. The card decides how the bank behaves: ``good``, ``declined`` or ``slow``."""

    id: str
    item: str
    pieces: int
    cents: int
    card: str
    address: str


@dataclass(frozen=True)
class Receipt:
    """What a customer gets."""

    order_id: str
    payment: str
    delivery: str


class CardDeclined(Rejected):
    """The bank said no, so that no money moved."""


class OutOfStock(Rejected):
    """The shelf is too empty, so that nothing was taken."""


@step
def reserve_stock(order: Order) -> str:
    """Takes the pieces from the shelf."""
    key = current_step().idempotency_key
    with shop() as database:
        row = (key, order.id, order.item, order.pieces)
        if database.execute("INSERT OR IGNORE INTO reservations VALUES (?, ?, ?, ?)", row).rowcount:
            take = "UPDATE stock SET pieces = pieces - ? WHERE item = ? AND pieces >= ?"
            if not database.execute(take, (order.pieces, order.item, order.pieces)).rowcount:
                raise OutOfStock(f"fewer than {order.pieces} x {order.item} are left")  # rolls back: nothing happened
    return key


@reserve_stock.compensator
def return_stock(order: Order) -> None:
    """Puts the pieces back, if they were taken and are not back yet."""
    with shop() as database:
        if database.execute("DELETE FROM reservations WHERE key = ?", (current_step().undoes,)).rowcount:
            database.execute("UPDATE stock SET pieces = pieces + ? WHERE item = ?", (order.pieces, order.item))


@step
def charge_card(order: Order) -> str:
    """Asks the bank for the money."""
    if order.card == "declined":
        raise CardDeclined(f"the bank declined {order.cents / 100:.2f} EUR")
    key = current_step().idempotency_key
    with shop() as bank:
        bank.execute(
            "INSERT OR IGNORE INTO payments (key, order_id, cents) VALUES (?, ?, ?)", (key, order.id, order.cents)
        )
    if order.card == "slow":
        time.sleep(30)  # the money has moved, but the bank's answer takes its time
    return key


@charge_card.compensator
def refund_card(result: str | None) -> None:
    """Gives the money back, if it was taken."""
    with shop() as bank:
        bank.execute("UPDATE payments SET refunded = 1 WHERE key = ?", (result or current_step().undoes,))


@charge_card.probe
def find_charge() -> str | NotApplied:
    """Asks the bank whether the money has moved, since nobody heard its answer."""
    key = current_step().idempotency_key
    with shop() as bank:
        found = bank.execute("SELECT 1 FROM payments WHERE key = ?", (key,)).fetchone()
    return key if found else NotApplied()


@step
def book_courier(order: Order) -> str:
    """Books a courier."""
    key = current_step().idempotency_key
    with shop() as database:
        database.execute("INSERT OR IGNORE INTO deliveries VALUES (?, ?, ?)", (key, order.id, order.address))
    return key


@book_courier.compensator
def cancel_courier() -> None:
    """Cancels the courier, if one was booked."""
    with shop() as database:
        database.execute("DELETE FROM deliveries WHERE key = ?", (current_step().undoes,))


@saga
async def place_order(order: Order) -> Receipt:
    """Takes an order: all of it, or nothing."""
    await reserve_stock(order)
    payment = await charge_card(order)
    delivery = await book_courier(order)
    return Receipt(order.id, payment, delivery)
