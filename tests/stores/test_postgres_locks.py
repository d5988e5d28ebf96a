"""Semantic locks in PostgreSQL, where several transactions write at a time."""

from __future__ import annotations

import threading

import pytest
from sqlalchemy import create_engine, text
from sqlalchemy.exc import DBAPIError

from sagas.stores import locking_sql
from sagas.stores.locking_sql import take_turns
from sagas.stores.port import Batch, Committed
from sagas.stores.postgres import PostgresStore
from sagas.testing.contracts.stores._batches import append, row, start, take

_WAITING = text("SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted")


def test_lines_are_changed_by_one_transaction_at_a_time(postgres_url: str) -> None:
    """Else a lower ticket could be committed after a higher one was granted. Other commits wait for nobody."""
    store = PostgresStore(postgres_url)
    store.open(migrate=True)
    store.commit(start("s", "t"))
    done: list[Committed] = []
    writer = threading.Thread(target=lambda: done.append(store.commit(take("s", "a"))))
    other = PostgresStore(postgres_url)
    other.open(migrate=False)
    engine = create_engine(postgres_url)
    with engine.begin() as holder, engine.connect() as looker:
        take_turns(holder)
        writer.start()
        while not looker.execute(_WAITING).scalar_one():
            pass
        assert other.commit(append(row("t", 1))) == (frozenset(), frozenset(), ())
        assert store.load(["s"]) == {"s": [row("s", 0)]}
    writer.join()
    assert len(done[0].mailed) == 1
    assert other.commit(Batch()).mailed == ()
    engine.dispose()
    store.close()
    other.close()


def test_a_process_that_is_paused_in_its_turn_is_passed_over(
    postgres_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The server ends its transaction, so that the others need not wait until it is woken."""
    monkeypatch.setattr(locking_sql, "_IDLE_AT_MOST", "100ms")
    store = PostgresStore(postgres_url)
    store.open(migrate=True)
    store.commit(start("s"))
    engine = create_engine(postgres_url)
    paused = engine.connect()
    begun = paused.begin()
    take_turns(paused)
    assert len(store.commit(take("s", "a")).mailed) == 1
    with pytest.raises(DBAPIError, match="idle-in-transaction"):
        paused.execute(text("SELECT 1"))
    begun.rollback()
    paused.close()
    engine.dispose()
    store.close()
