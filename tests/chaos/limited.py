"""A process of a fleet whose steps are limited across all of it; it may be killed.

``python -m tests.chaos.limited JOURNAL_URL BUSINESS_FILE NAME SAGAS``
"""

from __future__ import annotations

import os
import sqlite3
import sys
import time
from pathlib import Path

import anyio

from sagas import Coordinator, Limit, saga, step

__all__ = ["AT_ONCE", "RATE", "Visit", "create", "visits"]

AT_ONCE, RATE = 3, 20.0
_TABLE = "CREATE TABLE visit (process INTEGER, kind TEXT, saga TEXT, entered REAL, left REAL)"
_BUSINESS: list[Path] = []

Visit = tuple[int, str, str, float, float | None]


def create(path: Path) -> None:
    """Makes the business' database."""
    with sqlite3.connect(path) as connection:
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute(_TABLE)
    connection.close()


def visits(path: Path) -> list[Visit]:
    """Reads which attempts there were, in which process, from when to when; those that were killed have no end."""
    connection = sqlite3.connect(path, timeout=30)
    try:
        return connection.execute("SELECT * FROM visit ORDER BY entered").fetchall()
    finally:
        connection.close()


def _write(statement: str, *values: object) -> int:
    # SIGKILL loses nothing that the operating system has, so the business need not wait for the disk.
    connection = sqlite3.connect(_BUSINESS[0], timeout=30)
    try:
        with connection:
            connection.execute("PRAGMA synchronous=OFF")
            return connection.execute(statement, values).lastrowid or 0
    finally:
        connection.close()


async def _visit(kind: str, saga_id: str, seconds: float) -> None:
    """Writes down when it begins and when it ends."""
    row = _write("INSERT INTO visit VALUES (?, ?, ?, ?, NULL)", os.getpid(), kind, saga_id, time.time())
    await anyio.sleep(seconds)
    _write("UPDATE visit SET left = ? WHERE rowid = ?", time.time(), row)


@step(limit=Limit(concurrency=AT_ONCE, across="store"))
async def visit(who: str) -> None:
    """At most so many at once, in the whole fleet."""
    await _visit("visit", who, 0.005)


@step(limit=Limit(rate=RATE, across="store", name="bell"))
async def ring(who: str) -> None:
    """At most so many within a second, in the whole fleet."""
    await _visit("ring", who, 0.0)


@saga
async def call(who: str) -> None:
    """Rings, and visits twice."""
    await ring(who)
    await visit(who)
    await visit(who)


async def _run(url: str, name: str, sagas: int) -> None:
    async with (
        Coordinator(url, sagas=[call], poll=0.05, lease=2.0, limit_turn=0.1) as coordinator,
        anyio.create_task_group() as group,
    ):
        os.write(1, b"ready\n")
        for number in range(sagas):
            group.start_soon(_one, coordinator, f"{name}-{number}")


async def _one(coordinator: Coordinator, who: str) -> None:
    await coordinator.run(call(who), id=who)


if __name__ == "__main__":
    _BUSINESS.append(Path(sys.argv[2]))
    anyio.run(_run, sys.argv[1], sys.argv[3], int(sys.argv[4]))
