"""Records that would be written behind others which the server has lost."""

from __future__ import annotations

from collections.abc import Iterator

import psycopg
import pytest

from sagas.stores.port import Batch, StoreRestarted, Superseded
from sagas.stores.postgres import PostgresStore
from sagas.testing.contracts.stores._batches import append, joined, row, start, take


@pytest.fixture
def store(postgres_url: str) -> Iterator[PostgresStore]:
    """A store with two sagas, of which one has lost its second record."""
    store = PostgresStore(postgres_url)
    store.open(migrate=True)
    store.commit(start("lost", "kept"))
    store.commit(append(row("lost", 1), row("kept", 1)))
    _execute(postgres_url, "DELETE FROM saga_journal WHERE saga_id = 'lost' AND seq = 1")
    yield store
    store.close()


def _execute(url: str, statement: str) -> None:
    with psycopg.connect(url.replace("+psycopg", ""), autocommit=True) as connection:
        connection.execute(statement.encode())


def _cut(url: str) -> None:
    others = "datname = current_database() AND pid <> pg_backend_pid()"
    _execute(url, f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE {others}")


def _seqs(store: PostgresStore, saga_id: str) -> list[int]:
    return [record.seq for record in store.load([saga_id])[saga_id]]


def test_after_a_lost_connection_nothing_is_written_before_it_is_told_once(
    store: PostgresStore, postgres_url: str
) -> None:
    _cut(postgres_url)
    with pytest.raises(Exception, match="cannot be used now"):
        store.commit(append(row("kept", 2)))
    with pytest.raises(StoreRestarted):
        store.commit(append(row("kept", 2)))
    assert _seqs(store, "kept") == [0, 1]
    assert set(store.lost([("lost", 1, row("lost", 1).digest), ("kept", 1, row("kept", 1).digest)])) == {"lost"}
    done = store.commit(append(row("kept", 2), row("lost", 2)))
    assert done.fenced == {"lost"}, "what was still under way is written nowhere behind the hole"
    assert (_seqs(store, "kept"), _seqs(store, "lost")) == ([0, 1, 2], [0])


def test_an_empty_batch_finds_out_that_the_connection_was_lost(store: PostgresStore, postgres_url: str) -> None:
    store.commit(Batch())
    _cut(postgres_url)
    with pytest.raises(Exception, match="cannot be used now"):
        store.commit(Batch())
    with pytest.raises(StoreRestarted):
        store.commit(Batch())
    store.commit(Batch())


def test_what_asks_for_locks_is_not_written_behind_a_hole(store: PostgresStore) -> None:
    done = store.commit(joined(take("lost", "lock", 2), take("kept", "lock", 2)))
    assert done.fenced == {"lost"}
    assert [mail.saga_id for mail in done.mailed] == ["kept"], "it holds the lock, and nobody is before it"


def test_a_transactional_step_is_not_written_behind_a_hole(store: PostgresStore) -> None:
    with pytest.raises(Superseded):
        store.transact([], lambda: append(row("lost", 2)))
    store.transact([], lambda: append(row("kept", 2)))
    assert (_seqs(store, "kept"), _seqs(store, "lost")) == ([0, 1, 2], [0])


def test_a_record_is_not_written_behind_another_one_than_it_was_made_for(
    store: PostgresStore, postgres_url: str
) -> None:
    """Somebody else went on with the saga where the server's memory ended."""
    other = PostgresStore(postgres_url)
    other.open(migrate=False)
    other.commit(append(row("lost", 1, b"taken over")))
    other.close()
    with pytest.raises(Superseded):
        store.transact([], lambda: append(row("lost", 2)))
