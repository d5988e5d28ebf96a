"""A durable write for each round trip, as one would make it without this library."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Protocol

from anyio import CapacityLimiter, to_thread

__all__ = ["Write", "open_disk"]

Write = Callable[[str, str], Awaitable[None]]

_TABLE = "CREATE TABLE IF NOT EXISTS note (name TEXT NOT NULL, value TEXT NOT NULL)"
_INSERT = "INSERT INTO note VALUES (?, ?)"


class _Disk(Protocol):
    async def write(self, name: str, value: str) -> None: ...


class _OneByOne:
    """A transaction for each write, in a thread."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection
        self._thread = CapacityLimiter(1)

    async def write(self, name: str, value: str) -> None:
        """Returns when it is durable."""
        await to_thread.run_sync(self._connection.execute, _INSERT, (name, value), limiter=self._thread)


class _Grouped:
    """One transaction for all that came while the last one was on its way to the disk."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection
        self._waiting: list[tuple[tuple[str, str], asyncio.Future[None]]] = []
        self._running: asyncio.Task[None] | None = None

    async def write(self, name: str, value: str) -> None:
        """Returns when it is durable."""
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append(((name, value), future))
        if self._running is None:
            self._running = asyncio.create_task(self._run())
        await future

    async def _run(self) -> None:
        while self._waiting:
            some, self._waiting = self._waiting, []
            await to_thread.run_sync(self._commit, [row for row, _ in some])
            for _, future in some:
                future.set_result(None)
        self._running = None

    def _commit(self, rows: list[tuple[str, str]]) -> None:
        self._connection.execute("BEGIN IMMEDIATE")
        self._connection.executemany(_INSERT, rows)
        self._connection.execute("COMMIT")


@asynccontextmanager
async def open_disk(path: Path, *, grouped: bool) -> AsyncIterator[Write]:
    """Gives what writes durably into a SQLite file, by itself or together with others."""
    connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = FULL")
    connection.execute(_TABLE)
    disk: _Disk = (_Grouped if grouped else _OneByOne)(connection)
    yield disk.write
    connection.close()
