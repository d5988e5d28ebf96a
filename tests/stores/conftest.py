"""One journal a test, and as many stores on it as it wants."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from sagas.stores.port import Store
from sagas.stores.postgres import PostgresStore
from sagas.stores.sqlite import SqliteStore
from sagas.testing.contracts import OpenStore


@pytest.fixture
def sqlite_url(tmp_path: Path) -> str:
    """A database that does not exist yet."""
    return f"sqlite:///{tmp_path / 'journal.db'}"


@pytest.fixture
def on_sqlite(sqlite_url: str) -> Iterator[OpenStore]:
    """Opens another store on the same file."""
    yield from _connections(lambda: SqliteStore(sqlite_url))


@pytest.fixture
def on_postgres(postgres_url: str) -> Iterator[OpenStore]:
    """Opens another store on the same database; tests say what time it is."""
    yield from _connections(lambda: PostgresStore(postgres_url, own_time=False))


def _connections(make: Callable[[], Store]) -> Iterator[OpenStore]:
    """Opens stores, and closes them in the end."""
    opened: list[Store] = []

    def connect() -> Store:
        store = make()
        store.open(migrate=True)
        opened.append(store)
        return store

    yield connect
    for store in opened:
        store.close()


@pytest.fixture
def sqlite(sqlite_url: str) -> Iterator[SqliteStore]:
    """An open store in a file."""
    store = SqliteStore(sqlite_url)
    store.open(migrate=True)
    yield store
    store.close()
