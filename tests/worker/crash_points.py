"""Kills a worker's process at each point of what it does for requests, asks another one again, and audits.

``python -m tests.worker.crash_points sqlite DIRECTORY`` or ``… postgres URL``; prints how many points there were.
"""

from __future__ import annotations

import sqlite3
import sys
from collections.abc import Callable, Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

import anyio
from sqlalchemy import Connection, text
from sqlmodel import Session

from sagas import Worker, current_step, step
from sagas.core.definitions import Step
from sagas.stores import store_for
from sagas.stores.postgres import PostgresStore
from sagas.stores.sql import SqlStore
from sagas.transport import StepReply, StepRequest
from tests.chaos.lives import CrashPoints, fork, go_through
from tests.support.postgres import Databases

__all__: list[str] = []

_LEASE = 0.5
_CREATE = "CREATE TABLE effect (about TEXT, what TEXT, PRIMARY KEY (about, what))"


class _Places(Protocol):
    """Databases, one for each point."""

    def make(self, point: int) -> None: ...

    def url(self, point: int) -> str: ...


class _Points:
    """Counts what a process passes."""

    def __init__(self, fatal: int) -> None:
        self.points = CrashPoints(fatal)

    def wrap_transactions(self) -> None:
        """Makes a point of each transaction: before it, before its commit, and after it."""
        for kind in (SqlStore, PostgresStore):
            original = kind.begin

            @contextmanager
            def begin(store: Any, original: Callable[[Any], Any] = original) -> Generator[Connection]:
                self.points.passes()
                with original(store) as connection:
                    yield connection
                    self.points.passes()
                self.points.passes()

            setattr(kind, "begin", begin)  # noqa: B010 - of this process alone, whatever its type


def _steps(store: SqlStore, points: CrashPoints | None) -> list[Step[..., Any]]:
    """A step whose writes commit with the barrier's, and one that writes with a connection of its own, once a key."""

    def pass_by() -> None:
        if points is not None:
            points.passes()

    def write(session: Session, what: str) -> str:
        context = current_step()
        pass_by()
        values = {"about": context.undoes or context.idempotency_key, "what": what}
        session.connection().execute(text("INSERT INTO effect VALUES (:about, :what)"), values)
        pass_by()
        return what

    @step(transactional=True)
    def book(session: Session) -> str:
        return write(session, "did")

    @book.compensator(transactional=True)
    def unbook(session: Session, result: str | None) -> None:
        write(session, "undid")

    def act(what: str) -> str:
        context = current_step()
        pass_by()
        with store.begin() as connection:
            values = {"about": context.undoes or context.idempotency_key, "what": what}
            connection.execute(text("INSERT INTO effect VALUES (:about, :what) ON CONFLICT DO NOTHING"), values)
        pass_by()
        return what

    @step
    def ship() -> str:
        return act("did")

    @ship.compensator
    def unship(result: str | None) -> None:
        act("undid")

    return [book, ship]


@contextmanager
def _opened(url: str) -> Generator[SqlStore]:
    """A way to the database that is the steps' own."""
    store = store_for(url)
    assert isinstance(store, SqlStore)
    store.open(migrate=False)
    try:
        yield store
    finally:
        store.close()


def _request(kind: str, name: str) -> StepRequest:
    key = f"{name}-{'kept' if kind == 'kept' else 'undone'}"
    if kind == "undo":
        return StepRequest(kind="undo", step=name, saga_id="s", path="1", idempotency_key=f"{key}:undo", undoes=key)
    return StepRequest(kind="action", step=name, saga_id="s", path="1", idempotency_key=key)


async def _serve(url: str, points: CrashPoints | None) -> None:
    """Performs requests, each again and again until its outcome is definite."""
    with _opened(url) as store:
        async with Worker(_steps(store, points), inbox=url, migrate=False, lease=_LEASE) as worker:
            await _ask(worker)


async def _ask(worker: Worker) -> None:
    for name in ("book", "ship"):
        for kind in ("kept", "act", "undo"):
            with anyio.fail_after(20):
                while (reply := await worker.perform(_request(kind, name))).outcome in ("running", "in_doubt"):  # noqa: ASYNC110 - its answer is what is waited for
                    await anyio.sleep(0.02)
            expected = {"succeeded", "fenced"} if kind == "act" else {"succeeded"}
            assert reply.outcome in expected, reply
            if kind != "undo" and reply.outcome == "succeeded":
                assert reply == StepReply.succeeded(b'"did"')
                assert await worker.perform(_request(kind, name)) == reply


class _Scene:
    """See ``lives.Scene``."""

    def __init__(self, places: _Places) -> None:
        self._places = places

    def prepare(self, point: int) -> None:
        self._places.make(point)

    def live(self, point: int) -> None:
        points = _Points(point)
        points.wrap_transactions()
        anyio.run(_serve, self._places.url(point), points.points)

    def recover(self, point: int) -> None:
        anyio.run(_serve, self._places.url(point), None)

    def audit(self, point: int) -> None:
        query = text("SELECT about, what FROM effect ORDER BY about, what DESC")
        with _opened(self._places.url(point)) as store:
            found = [tuple(row) for row in store.query(query)]
        expected = [("book-kept", "did"), ("book-undone", "undid"), ("book-undone", "did")]
        expected += [(about.replace("book", "ship"), what) for about, what in expected]
        assert found == expected, found


class _Files:
    """Copies of one SQLite file."""

    def __init__(self, top: Path) -> None:
        self._top = top
        template = top / "template.db"
        assert fork(lambda: _make(f"sqlite:///{template}")) == 0
        self._template = template

    def make(self, point: int) -> None:
        (self._top / f"{point}.db").write_bytes(self._template.read_bytes())

    def url(self, point: int) -> str:
        return f"sqlite:///{self._top / f'{point}.db'}"


class _Databases:
    """Databases on a server, each like the first."""

    def __init__(self, server: str) -> None:
        self._databases = Databases(server)

    def make(self, point: int) -> None:
        self._databases.create_database(f"inbox_{point}")
        assert fork(lambda: _make(self.url(point))) == 0

    def url(self, point: int) -> str:
        url = self._databases.url(f"inbox_{point}")
        return f"{url}{'&' if '?' in url else '?'}notify=off"


def _make(url: str) -> None:
    """Makes the tables."""
    store = store_for(url)
    assert isinstance(store, SqlStore)
    store.open(migrate=True)
    with store.begin() as connection:
        connection.execute(text(_CREATE))
    store.close()
    if url.startswith("sqlite"):
        own = sqlite3.connect(url.removeprefix("sqlite:///"))
        own.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        own.close()


def main() -> None:
    """Goes through the points."""
    kind, where = sys.argv[1:]
    print(go_through(_Scene(_Files(Path(where)) if kind == "sqlite" else _Databases(where))))  # noqa: T201 - a program's output


if __name__ == "__main__":
    main()
