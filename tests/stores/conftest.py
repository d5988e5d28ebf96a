"""One journal a test, and as many stores on it as it wants."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from sagas.stores.memory import MemoryStore
from sagas.stores.port import Store
from sagas.stores.postgres import PostgresStore
from sagas.stores.sqlite import SqliteStore

OpenStore = Callable[[], Store]


@pytest.fixture
def sqlite_url(tmp_path: Path) -> str:
    """A database that does not exist yet."""
    return f"sqlite:///{tmp_path / 'journal.db'}"


@pytest.fixture(params=["memory", "sqlite", "postgres"])
def connect(request: pytest.FixtureRequest) -> Iterator[OpenStore]:
    """Opens another store on the same journal, as another process would."""
    shared = MemoryStore()
    url = "" if request.param == "memory" else request.getfixturevalue(f"{request.param}_url")
    opened: list[Store] = []

    def open_another() -> Store:
        store: Store = shared
        if request.param == "sqlite":
            store = SqliteStore(url)
        elif request.param == "postgres":
            store = PostgresStore(url, own_time=False)  # tests say what time it is
        store.open(migrate=True)
        opened.append(store)
        return store

    yield open_another
    for store in opened:
        store.close()


@pytest.fixture
def store(connect: OpenStore) -> Store:
    """A store that is open."""
    return connect()


@pytest.fixture
def sqlite(sqlite_url: str) -> Iterator[SqliteStore]:
    """An open store in a file."""
    store = SqliteStore(sqlite_url)
    store.open(migrate=True)
    yield store
    store.close()
