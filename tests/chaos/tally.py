"""Sagas that lose each other's counts unless they hold their locks, and never let go of them too early."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import anyio

from sagas import Coordinator, Rejected, SagaCompensated, lock, saga, step

__all__ = ["audit", "create", "run"]

_SAGAS = 4
_place: list[Path] = []


def create(path: Path) -> None:
    """Makes a database with a counter, apart from the journal."""
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TABLE tally (value INTEGER)")
        connection.execute("INSERT INTO tally VALUES (0)")
    connection.close()
    _place[:] = [path]


def _sql(statement: str, *values: int) -> int | None:
    connection = sqlite3.connect(_place[0], timeout=30, isolation_level=None)
    try:
        row = connection.execute(statement, values).fetchone()
        return None if row is None else int(row[0])
    finally:
        connection.close()


@step
async def read() -> int:
    return _sql("SELECT value FROM tally") or 0


@step
async def write(value: int) -> None:
    """The same however often it is repeated, as long as nobody else writes meanwhile."""
    _sql("UPDATE tally SET value = ?", value)


@write.compensator
async def take_back(value: int) -> None:
    _sql("UPDATE tally SET value = ?", value - 1)


@step
async def refuse(number: int) -> None:
    if number == 0:
        raise Rejected(number)


@saga
async def count(number: int) -> None:
    """Takes two locks, in either order; one of the sagas takes its count back, still holding them."""
    first, second = ("a", "b") if number % 2 else ("b", "a")
    async with lock(first):
        value = await read()
        async with lock(second):
            await write(value + 1)
    await refuse(number)


async def run(directory: Path) -> None:
    """Runs what is left to its end."""
    url = f"sqlite:///{directory / 'journal.db'}"
    async with Coordinator(url, sagas=[count], poll=0.01) as coordinator:

        async def one(number: int) -> None:
            try:
                await coordinator.run(count(number), id=f"count-{number}")
            except SagaCompensated:
                return

        async with anyio.create_task_group() as group:
            for number in range(_SAGAS):
                group.start_soon(one, number)


def audit(directory: Path) -> None:
    """Holds the counter against the journals.

    Raises:
        AssertionError: A count was lost or is one too many, or a lock is left.
    """
    connection = sqlite3.connect(directory / "journal.db")
    ended = dict(connection.execute("SELECT id, status FROM saga ORDER BY id"))
    left = connection.execute("SELECT name, saga_id FROM saga_lock").fetchall()
    mail = connection.execute("SELECT saga_id, body FROM saga_mail").fetchall()
    causes = connection.execute("SELECT error FROM saga WHERE status = 'compensated'").fetchall()
    connection.close()
    assert len(ended) == _SAGAS, f"sagas are missing: {ended}"
    assert set(ended.values()) <= {"completed", "compensated"}, f"not all have ended: {ended}"
    assert ended["count-0"] == "compensated"
    told = [str(cause).partition(":")[0] for (cause,) in causes]
    assert set(told) <= {"Deadlock", "Rejected"}, f"other causes than expected: {told}"
    assert left == [], f"locks are left: {left}"
    assert mail == [], f"mail is left: {mail}"
    completed = list(ended.values()).count("completed")
    assert _sql("SELECT value FROM tally") == completed, f"{completed} have counted: {_sql('SELECT value FROM tally')}"
