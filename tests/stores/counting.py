"""Run as a program: adds to counters in a journal's database, one transactional read-then-write at a time."""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import partial

from sqlalchemy import text
from sqlmodel import Session

from sagas.errors import StoreUnavailable
from sagas.stores.port import Batch, Lease
from sagas.stores.sqlite import SqliteStore
from sagas.testing.contracts.stores._batches import start


def _insist(write: Callable[[], object]) -> None:
    """Writes, as often as it takes while others keep the file busy; nothing of a try that fails is there."""
    while True:
        try:
            write()
        except StoreUnavailable:
            continue
        return


def main(url: str, name: str, times: int) -> None:
    """Adds ``times`` to the counter, reading it first, and starts as many sagas."""
    store = SqliteStore(url)
    store.open(migrate=True)
    store.renew(Lease(name, name, 1e12), 0.0)
    print("ready", flush=True)  # noqa: T201 - tells the parent
    sys.stdin.readline()
    for number in range(times):

        def add(session: Session) -> None:
            value = session.connection().execute(text("SELECT value FROM counter")).scalar_one()
            session.connection().execute(text("UPDATE counter SET value = :value"), {"value": value + 1})
            session.commit()

        _insist(partial(store.transact, [add], Batch))
        _insist(partial(store.commit, start(f"{name}-{number}", owner=name)))
    print("done", flush=True)  # noqa: T201 - tells the parent
    sys.stdin.readline()  # holds its lease until it is told to end, or is killed
    store.release(name)
    store.close()


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]))
