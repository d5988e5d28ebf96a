"""Where a test's sagas live, the clocks and the probes that the tests of the coordinator share."""

from __future__ import annotations

import sqlite3
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import anyio
import psycopg

from sagas import Coordinator, Saga
from sagas.coordinator.clock import SystemClock
from sagas.stores.memory import MemoryStore
from sagas.stores.port import Store
from sagas.stores.postgres import PostgresStore
from sagas.stores.sqlite import SqliteStore

__all__ = ["Clock", "Gate", "Place", "until"]

_PATIENCE = 10.0


@dataclass
class Place:
    """A journal that lasts as long as the test, for as many coordinators as it wants.

    Attributes:
        path: The SQLite file, if it is one.
        url: The PostgreSQL database, if it is one. Neither: in memory.
    """

    path: Path | None
    url: str | None = None
    _memory: MemoryStore = field(default_factory=MemoryStore)

    def store(self) -> Store:
        """Another store on the journal, as another process has one; not open yet."""
        if self.url is not None:
            return PostgresStore(self.url, own_time=False)  # tests have clocks of their own
        return self._memory if self.path is None else SqliteStore(f"sqlite:///{self.path}")

    def coordinator(self, *sagas: Saga[..., Any], **options: Any) -> Coordinator:
        """Another coordinator, by default with a store of its own; one that looks often, since tests are impatient."""
        options.setdefault("poll", 0.01)
        return Coordinator(options.pop("store", None) or self.store(), sagas=sagas, **options)

    def sql(self, statement: str, *values: object) -> list[Any]:
        """Reads or changes the database behind everybody's back; ``?`` stands for a value."""
        if self.url is not None:
            with psycopg.connect(self.url.replace("+psycopg", "", 1), autocommit=True) as server:
                done = server.execute(statement.replace("?", "%s").encode(), values)
                return done.fetchall() if done.description else []
        assert self.path is not None, "what is in memory is not read so"
        connection = sqlite3.connect(self.path, isolation_level=None, timeout=_PATIENCE)
        try:
            return connection.execute(statement, values).fetchall()
        finally:
            connection.close()


class Clock(SystemClock):
    """The machine's time, but ``ahead`` by some seconds, without chance, and with pauses by ``pace`` as long."""

    def __init__(self, ahead: float = 0.0, *, pace: float = 1.0) -> None:
        super().__init__()
        self.ahead = ahead
        self.pace = pace

    def now(self) -> float:
        return super().now() + self.ahead

    def steady(self) -> float:
        return super().steady() + self.ahead

    def chance(self) -> float:
        return 0.0

    async def sleep(self, seconds: float) -> None:
        await super().sleep(seconds * self.pace)


class Gate:
    """Where a step waits until the test lets it go on; knows how many have come."""

    def __init__(self) -> None:
        self.arrived = 0
        self._open = anyio.Event()
        self._arrival = anyio.Event()

    async def wait(self) -> None:
        """Arrives, and waits to be let go on."""
        self.arrived += 1
        self._arrival.set()
        await self._open.wait()

    async def arrival(self, count: int = 1) -> None:
        """Waits until so many have arrived."""
        with anyio.fail_after(_PATIENCE):
            while self.arrived < count:
                self._arrival = anyio.Event()
                await self._arrival.wait()

    def open(self) -> None:
        """Lets everybody go on."""
        self._open.set()


async def until(check: Callable[[], Awaitable[object]]) -> None:
    """Waits until something holds that can only be asked for.

    Raises:
        TimeoutError: It does not come to hold.
    """
    with anyio.fail_after(_PATIENCE):
        while not await check():  # noqa: ASYNC110 - what is asked for gives no sign when it comes to hold
            await anyio.sleep(0.002)
