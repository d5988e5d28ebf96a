"""A SQLite file as a queue: ``sqlite3``, two tables, a transaction for each thing that is done.

A request is sent in one transaction, taken in one (so that no other worker takes it), and answered in one, which writes
the reply and removes the request. The reply is taken away in one more.
"""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import urlsplit

from anyio import CapacityLimiter, to_thread

from benchmarks.remote.bare.port import Answers, Ask, Handle

__all__ = ["answering", "asking"]

_TABLES = (
    "CREATE TABLE IF NOT EXISTS request (id INTEGER PRIMARY KEY, name TEXT, body BLOB, held INTEGER DEFAULT 0)",
    "CREATE TABLE IF NOT EXISTS reply (id INTEGER PRIMARY KEY, name TEXT, body BLOB)",
)
_SEND = "INSERT INTO request (name, body) VALUES (?, ?)"
_TAKE = """
    UPDATE request SET held = 1 WHERE id = (SELECT id FROM request WHERE NOT held ORDER BY id LIMIT 1)
    RETURNING id, name, body
"""
_HEAR = "DELETE FROM reply WHERE id = (SELECT min(id) FROM reply) RETURNING id, name, body"
_SHORTEST, _LONGEST = 0.002, 0.05


class _File:
    """The database, from one thread at a time."""

    def __init__(self, url: str) -> None:
        path = urlsplit(url).path[1:]
        self._thread = CapacityLimiter(1)
        self._writer, self._watcher = _open(path), _open(path)
        for table in _TABLES:
            self._writer.execute(table)
        self._version = -1

    async def write(self, *statements: tuple[str, tuple[Any, ...]]) -> None:
        """Executes statements in one transaction."""
        await to_thread.run_sync(self._write, statements, limiter=self._thread)

    def _write(self, statements: tuple[tuple[str, tuple[Any, ...]], ...]) -> None:
        self._writer.execute("BEGIN IMMEDIATE")
        for statement, values in statements:
            self._writer.execute(statement, values)
        self._writer.execute("COMMIT")

    async def take(self, statement: str) -> tuple[Any, ...] | None:
        """Executes a statement that takes a row, unless there is none."""
        return await to_thread.run_sync(self._take, statement, limiter=self._thread)

    def _take(self, statement: str) -> tuple[Any, ...] | None:
        rows = self._writer.execute(statement).fetchall()  # in a transaction of its own
        return rows[0] if rows else None

    async def follow(self, statement: str, table: str, take: Any) -> None:
        """Takes rows as they come."""
        pause = _SHORTEST
        some = f"SELECT EXISTS (SELECT 1 FROM {table}{' WHERE NOT held' if table == 'request' else ''})"
        while True:
            if self._watcher.execute(some).fetchone()[0]:
                if (row := await self.take(statement)) is not None:
                    take(*row)
                pause = _SHORTEST
            else:
                await asyncio.sleep(pause)
                pause = min(1.15 * pause, _LONGEST)


def _open(path: str) -> sqlite3.Connection:
    connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False, timeout=10)
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = FULL")
    return connection


@asynccontextmanager
async def answering(url: str, _: str, handle: Handle) -> AsyncIterator[str]:
    """See ``Bare``."""
    file = _File(url)
    async with asyncio.TaskGroup() as group:

        async def answer(number: int, name: str, body: bytes) -> None:
            reply = await handle(body)
            await file.write(
                ("INSERT INTO reply (name, body) VALUES (?, ?)", (name, reply)),
                ("DELETE FROM request WHERE id = ?", (number,)),
            )

        def take(number: int, name: str, body: bytes) -> None:
            group.create_task(answer(number, name, body))

        task = group.create_task(file.follow(_TAKE, "request", take))
        yield url
        task.cancel()


@asynccontextmanager
async def asking(url: str, _: str) -> AsyncIterator[Ask]:
    """See ``Bare``."""
    file = _File(url)
    answers = Answers()

    async def ask(body: bytes) -> bytes:
        name, future = answers.expect()
        await file.write((_SEND, (name, body)))
        return await future

    async with asyncio.TaskGroup() as group:
        task = group.create_task(file.follow(_HEAR, "reply", lambda _, name, body: answers.hear(name, body)))
        yield ask
        task.cancel()
