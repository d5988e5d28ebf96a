"""Kills a process between any two statements of transactional steps on PostgreSQL, recovers in another, and audits.

``python -m tests.chaos.ledger_points URL kill|cut one|undone|many|every`` goes through every statement that writes the
ledger or the journal, for a saga with one step, with one that is undone, or with many; ``every`` through all statements
whatsoever of the latter.

``cut`` ends the connections instead, all of them, also those that listen and that show that the process is alive; and
what a statement or a commit has done then, nobody hears. The process has to come through.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable
from typing import Any

import anyio
import psycopg
from sqlalchemy import Connection, Engine, event, make_url, text
from sqlalchemy.dialects.postgresql.psycopg import PGDialect_psycopg
from sqlmodel import Session

from sagas import Coordinator, Rejected, Saga, SagaCompensated, StoreUnavailable, gather, saga, step
from sagas.coordinator.loading import read_history
from sagas.core.registry import Registry
from sagas.core.replay import replay
from sagas.stores.port import JournalRow
from sagas.stores.postgres import PostgresStore
from tests.chaos.lives import CrashPoints, die, fork, go_through
from tests.support.postgres import Databases

__all__: list[str] = []

_LEASE = 0.3
_ID = "s"


@step(transactional=True)
def enter(session: Session, what: str) -> str:
    """Two statements, so that there is something between them; an entry is refused after it was written."""
    for half in (1, 2):
        session.connection().execute(text("INSERT INTO ledger VALUES (:what, :half)"), {"what": what, "half": half})
    if what == "refused":
        raise Rejected(what)
    return what


@enter.compensator(transactional=True)
def strike(session: Session, what: str, result: str) -> None:
    """Two statements that nothing but the transaction keeps from being there twice."""
    enter.function(session, f"-{result}")


@step
async def look(what: str) -> str:
    """Writes nothing."""
    return what


@saga
async def one() -> str:
    return await enter("a")


@saga
async def undone() -> None:
    """An entry that is undone."""
    await enter("a")
    raise Rejected("undone")


@saga
async def many() -> list[str]:
    """One after the other, side by side, refused, and beside steps of another kind."""
    first = await enter("a")
    rest = await gather(enter("b"), enter("c"), look("d"))
    try:
        await enter("refused")
    except Rejected:
        await look("e")
    return [first, *rest, await enter("f")]


_SAGAS: tuple[Saga[[], Any], ...] = (one, undone, many)
_ENTRIES = {"one": ("a",), "undone": ("-a", "a"), "many": ("a", "b", "c", "f")}


def _watch(points: CrashPoints, *, everywhere: bool) -> None:
    """Makes a point of each statement: before it, and after a commit."""
    writing = threading.local()  # other threads look after other things meanwhile

    def before(*_: object, **__: object) -> None:
        if everywhere or getattr(writing, "here", False):
            points.passes()

    def after() -> None:
        if (everywhere or getattr(writing, "here", False)) and points.passes():
            raise psycopg.OperationalError("nobody hears what became of it")

    def counted(write: Callable[..., object]) -> Callable[..., object]:
        def wrapped(*args: object) -> object:
            writing.here = True
            try:
                return write(*args)
            finally:
                writing.here = False

        return wrapped

    commit = PGDialect_psycopg.do_commit

    def commit_between(self: Any, connection: Any) -> None:
        before()
        commit(self, connection)  # type: ignore[no-untyped-call] # SQLAlchemy's
        after()

    for name in ("commit", "transact"):
        setattr(PostgresStore, name, counted(getattr(PostgresStore, name)))
    event.listen(Engine, "before_cursor_execute", before)
    event.listen(Engine, "after_cursor_execute", lambda x, *_: after() if _is_autocommit(x) else None)
    PGDialect_psycopg.do_commit = commit_between  # type: ignore[method-assign] # no event comes after it


def _is_autocommit(connection: Connection) -> bool:
    """Says whether a statement was a transaction by itself."""
    return connection.get_execution_options().get("isolation_level") == "AUTOCOMMIT"


async def _run(url: str, name: str, points: CrashPoints | None = None) -> None:
    async with Coordinator(url, sagas=_SAGAS, lease=_LEASE, poll=0.02) as coordinator:
        if points is not None:
            points.armed = True
        while True:
            try:
                await coordinator.run({x.name: x for x in _SAGAS}[name](), id=_ID)
            except SagaCompensated:
                return
            except StoreUnavailable:  # whoever asks for something meanwhile hears so, and may ask again
                continue
            return


class _Statements:
    """Each statement is a point: see ``lives.Scene``."""

    def __init__(self, url: str, how: str, mode: str) -> None:
        self._databases = Databases(url)
        self._template = self._databases.create_database()
        self._cuts = how == "cut"
        self._everywhere = mode == "every"
        self._saga = "many" if mode == "every" else mode
        self._url = ""
        assert fork(self._make_template) == 0

    def _make_template(self) -> None:
        """Makes an empty journal, with the ledger beside its tables."""
        store = PostgresStore(self._template)
        store.open(migrate=True)
        store.close()
        with psycopg.connect(self._template.replace("+psycopg", "")) as connection:
            connection.execute("CREATE TABLE ledger (what TEXT, half INTEGER)")

    def prepare(self, point: int) -> None:
        self.clear()
        template = make_url(self._template).database
        assert template is not None, "it names one"
        self._databases.execute("CREATE DATABASE {} TEMPLATE {}", f"{template}_{point}", template)
        self._url = self._databases.url(f"{template}_{point}")

    def live(self, point: int) -> None:
        points = CrashPoints(point, self._cut) if self._cuts else CrashPoints(point)
        _watch(points, everywhere=self._everywhere)
        points.armed = not self._cuts  # whoever cannot even open the journal is told so, and ends
        anyio.run(_run, self._url, self._saga, points)
        if points.struck:
            die()  # so that there is something to recover; it has reported the saga's end

    def _cut(self) -> None:
        """Ends every connection to the journal."""
        with psycopg.connect(self._databases.url("postgres").replace("+psycopg", "")) as connection:
            connection.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s",
                (make_url(self._url).database,),
            )

    def recover(self, point: int) -> None:
        anyio.run(_run, self._url, self._saga)

    def audit(self, point: int) -> None:
        with psycopg.connect(self._url.replace("+psycopg", "")) as connection:
            ledger = connection.execute("SELECT what, half FROM ledger ORDER BY what, half").fetchall()
            status = connection.execute("SELECT id, status FROM saga").fetchall()
            columns = ", ".join(JournalRow._fields)
            rows = connection.execute(f"SELECT {columns} FROM saga_journal ORDER BY seq".encode()).fetchall()
        end = "compensated" if self._saga == "undone" else "completed"
        assert status == [(_ID, end)], f"the sagas: {status}"
        assert ledger == [(what, half) for what in _ENTRIES[self._saga] for half in (1, 2)], f"the ledger: {ledger}"
        registry = Registry(_SAGAS, ())
        history = read_history(_ID, [JournalRow._make(row) for row in rows], None)
        definition = registry.find(history.start.name, history.start.version)
        replay(definition, _ID, registry.steps, history.records, strict=True)

    def clear(self) -> None:
        """Drops the database of the point before."""
        if self._url:
            self._databases.drop_database(self._url)
            self._url = ""

    def close(self) -> None:
        """Drops everything."""
        self.clear()
        self._databases.drop_database(self._template)


def main() -> None:
    """Goes through the statements; prints how many points there were."""
    scene = _Statements(sys.argv[1], sys.argv[2], sys.argv[3])
    try:
        print(go_through(scene))  # noqa: T201 - a program's output
    finally:
        scene.close()


if __name__ == "__main__":
    main()
