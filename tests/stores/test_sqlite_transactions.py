"""Functions that run in the journal's own transaction."""

# ruff: noqa: SLF001 - looks behind the scenes, where users do not

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator

import pytest
from sqlalchemy import text
from sqlalchemy.exc import IntegrityError
from sqlmodel import Session

from sagas.errors import StoreError
from sagas.stores.memory import MemoryStore
from sagas.stores.port import Batch, Superseded
from sagas.stores.sqlite import SqliteStore
from sagas.testing.contracts.stores._batches import row, start


@pytest.fixture
def stock(sqlite: SqliteStore) -> Iterator[sqlite3.Connection]:
    """A business table in the journal's database, and a reader of it."""
    connection = sqlite3.connect(sqlite._path, isolation_level=None)
    connection.execute("CREATE TABLE stock (sku TEXT PRIMARY KEY)")
    yield connection
    connection.close()


def _take(sku: str, *, then: Exception | None = None) -> Callable[[Session], None]:
    """Writes a row; fails afterwards if asked to, and handles that itself, as a step does."""

    def write(session: Session) -> None:
        session.connection().execute(text("INSERT INTO stock VALUES (:sku)"), {"sku": sku})
        if then is not None:
            raise then
        session.commit()

    def run(session: Session) -> None:
        try:
            write(session)
        except (ValueError, IntegrityError):
            session.rollback()

    return run


def _skus(stock: sqlite3.Connection) -> list[str]:
    return [sku for (sku,) in stock.execute("SELECT sku FROM stock ORDER BY sku")]


def test_writes_and_records_commit_together(sqlite: SqliteStore, stock: sqlite3.Connection) -> None:
    """And the records may depend on how the functions went."""
    seen: list[list[str]] = []

    def finish() -> Batch:
        seen.append(_skus(stock))  # from another connection: nothing is committed yet
        return start("s")

    sqlite.transact([_take("a"), _take("b")], finish)
    assert seen == [[]]
    assert _skus(stock) == ["a", "b"]
    assert sqlite.load(["s"]) == {"s": [row("s", 0)]}


def test_a_function_that_fails_takes_back_its_own_writes_and_no_others(
    sqlite: SqliteStore, stock: sqlite3.Connection
) -> None:
    """Each runs in a savepoint, also when the database itself refused a statement."""
    sqlite.transact([_take("a"), _take("b", then=ValueError()), _take("c"), _take("a"), _take("d")], lambda: start("s"))
    assert _skus(stock) == ["a", "c", "d"]
    assert set(sqlite.load(["s"])) == {"s"}


def test_a_function_may_commit_and_go_on(sqlite: SqliteStore, stock: sqlite3.Connection) -> None:
    """A commit inside ends its savepoint; what follows is in another one, of the same transaction."""

    def twice(session: Session) -> None:
        for sku in ("a", "b"):
            session.connection().execute(text("INSERT INTO stock VALUES (:sku)"), {"sku": sku})
            session.commit()
        assert _skus(stock) == []

    sqlite.transact([twice], Batch)
    assert _skus(stock) == ["a", "b"]


def test_if_the_records_cannot_be_made_nothing_is_written(sqlite: SqliteStore, stock: sqlite3.Connection) -> None:
    """And the error comes out."""

    def finish() -> Batch:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        sqlite.transact([_take("a")], finish)
    assert _skus(stock) == []
    sqlite.transact([_take("b")], Batch)
    assert _skus(stock) == ["b"]


def test_if_the_records_are_fenced_nothing_is_written(sqlite: SqliteStore, stock: sqlite3.Connection) -> None:
    """A transactional step of a coordinator that was replaced leaves no trace."""
    sqlite.commit(start("s", data=b"theirs"))
    with pytest.raises(Superseded):
        sqlite.transact([_take("a")], lambda: start("s", data=b"mine"))
    assert _skus(stock) == []
    assert sqlite.load(["s"]) == {"s": [row("s", 0, b"theirs")]}


def test_without_a_database_there_are_no_transactions() -> None:
    """The memory store says what to use instead."""
    with pytest.raises(StoreError, match=r"Use sqlite:///"):
        MemoryStore().transact([], Batch)
