"""What keeps tables of its own beside the journal: transactions and queries that a store gives."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import text
from sqlalchemy.exc import IntegrityError

from sagas.errors import StoreUnavailable
from sagas.stores.opening import store_for
from sagas.stores.sql import SqlStore
from sagas.testing.contracts.stores._batches import start

_ALL = text("SELECT id FROM note ORDER BY id")
_WRITE = text("INSERT INTO note (id) VALUES (:id)")


@pytest.fixture(params=["sqlite", "postgres"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[SqlStore]:
    """A store, and a table beside its own."""
    url = f"sqlite:///{tmp_path / 'j.db'}" if request.param == "sqlite" else request.getfixturevalue("postgres_url")
    store = store_for(url)
    assert isinstance(store, SqlStore)
    store.open(migrate=True)
    with store.begin() as connection:
        connection.execute(text("CREATE TABLE note (id INTEGER PRIMARY KEY)"))
    yield store
    store.close()


def _write(store: SqlStore, number: int) -> None:
    with store.begin() as connection:
        connection.execute(_WRITE, {"id": number})


def _read(store: SqlStore) -> list[int]:
    return [row[0] for row in store.query(_ALL)]


def test_what_a_transaction_wrote_is_there_when_it_ends(store: SqlStore) -> None:
    with store.begin() as connection:
        connection.execute(_WRITE, {"id": 1})
        assert _read(store) == []
    assert _read(store) == [1]


def test_nothing_is_written_by_a_transaction_that_raises(store: SqlStore) -> None:
    with pytest.raises(LookupError), store.begin() as connection:
        connection.execute(_WRITE, {"id": 1})
        raise LookupError
    assert _read(store) == []
    _write(store, 2)
    assert _read(store) == [2]


def test_a_conflict_stays_what_it_is_and_the_store_goes_on(store: SqlStore) -> None:
    _write(store, 1)
    with pytest.raises(IntegrityError):
        _write(store, 1)
    _write(store, 2)
    store.commit(start("s"))
    assert _read(store) == [1, 2]
    assert store.get("s") is not None


def test_the_drivers_errors_become_the_librarys(store: SqlStore) -> None:
    with pytest.raises(StoreUnavailable), store.begin() as connection:
        connection.execute(text("SELECT * FROM nowhere"))
    with pytest.raises(StoreUnavailable):
        store.query(text("SELECT * FROM nowhere"))
    _write(store, 1)
    assert _read(store) == [1]


def test_threads_write_side_by_side_with_the_journal(store: SqlStore) -> None:
    """None has to repeat anything."""
    failures: list[BaseException] = []

    def work(first: int) -> None:
        try:
            for number in range(first, first + 20):
                _write(store, number)
                store.commit(start(f"s{number}"))
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=work, args=(100 * number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    assert len(_read(store)) == 80
