"""What happens between the statements of one process, when another one is faster or stands still."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any

import pytest
from sqlalchemy import Connection

from sagas.stores.port import Batch
from sagas.stores.postgres import PostgresStore
from sagas.testing.contracts.stores._batches import append, change, row, start


class Hesitant(PostgresStore):
    """Stops after it has written, and before it commits."""

    def __init__(self, url: str) -> None:
        super().__init__(url)
        self.hesitates = False
        self.stopped = threading.Event()
        self.goes_on = threading.Event()

    def _write_batch(self, connection: Connection, batch: Batch) -> None:
        super()._write_batch(connection, batch)
        if self.hesitates:
            self.stopped.set()
            self.goes_on.wait()


class Overtaken(PostgresStore):
    """Another process appends after this one has looked for what is in its way."""

    def __init__(self, url: str, other: PostgresStore, batch: Batch) -> None:
        super().__init__(url)
        self._other = other
        self._batch = batch

    def _conflicts(self, connection: Connection, batch: Batch) -> Any:
        found = super()._conflicts(connection, batch)
        self._other.commit(self._batch)
        return found


@pytest.fixture
def other(postgres_url: str) -> Iterator[PostgresStore]:
    store = PostgresStore(postgres_url)
    store.open(migrate=True)
    yield store
    store.close()


def test_a_batch_repeated_while_somebody_else_takes_over_changes_nothing_of_theirs(
    postgres_url: str, other: PostgresStore
) -> None:
    """What it wrote the first time, without hearing of it, was written with its changes."""
    other.commit(start("s"))
    batch = append(row("s", 1), changes=(change("s", "compensating", owner="a"),))
    other.commit(batch)
    takeover = append(row("s", 2, b"taken over"), changes=(change("s", "stuck", owner="b"),))
    store = Overtaken(postgres_url, other, takeover)
    store.open(migrate=False)
    store.commit(batch)
    found = other.get("s")
    assert found is not None
    assert (found.status, found.owner) == ("stuck", "b")
    store.close()


def test_a_process_that_stands_still_in_a_transaction_does_not_hold_up_the_others_for_long(
    postgres_url: str, other: PostgresStore
) -> None:
    """It has written a record and not committed it; whoever takes the saga over wants that place too."""
    other.commit(start("s"))
    store = Hesitant(postgres_url)
    store.open(migrate=False)
    store.hesitates = True
    failed: list[Exception] = []

    def transact() -> None:
        try:
            store.transact([lambda session: None], lambda: append(row("s", 1)))
        except Exception as error:
            failed.append(error)

    thread = threading.Thread(target=transact)
    thread.start()
    store.stopped.wait()
    taken = threading.Thread(target=other.commit, args=(append(row("s", 1, b"taken over"), row("t", 0)),))
    taken.start()
    taken.join(timeout=15.0)
    held_up = taken.is_alive()
    store.goes_on.set()
    thread.join()
    taken.join()
    store.close()
    assert not held_up
    assert failed, "it was told that it wrote what another one had written"
    assert other.load(["s"])["s"][1] == row("s", 1, b"taken over")
