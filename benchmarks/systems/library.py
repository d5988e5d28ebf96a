"""This library on a durable database, with or without spans."""

from __future__ import annotations

import sqlite3
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, closing
from pathlib import Path
from typing import Any

from benchmarks.model import Case
from benchmarks.systems.library_sagas import awaits_approval, five_steps
from benchmarks.workload import ORDERS, gate
from sagas import Coordinator, SagaCompensated


class LibraryRunner:
    """Runs the benchmark's sagas on one coordinator."""

    completed_query = "SELECT count(*) FROM saga WHERE status = 'completed'"

    def __init__(self, coordinator: Coordinator, facts: Callable[[], dict[str, Any]] = dict[str, Any]) -> None:
        """Uses `coordinator`, which is open."""
        self._coordinator = coordinator
        self._facts = facts
        self._ran = 0

    async def run(self, case: Case, saga_id: str) -> None:
        """Runs one saga and waits for it."""
        self._ran += 1
        ended = Case.COMPLETED
        try:
            await self._coordinator.run(five_steps(ORDERS[case]), id=saga_id)
        except SagaCompensated:
            ended = Case.COMPENSATED
        if ended is not case:
            raise AssertionError(f"{saga_id} ended {ended}, not {case}")

    async def start(self, saga_id: str) -> None:
        """Starts a saga without waiting for it."""
        await self._coordinator.start(five_steps(ORDERS[Case.COMPLETED]), id=saga_id)

    async def park(self, saga_id: str) -> None:
        """Starts a saga that waits for a signal."""
        await self._coordinator.start(awaits_approval(ORDERS[Case.COMPLETED]), id=saga_id)

    async def parked(self) -> int:
        """Counts the sagas whose only step has begun; it ends at once."""
        return gate.arrived

    async def facts(self) -> dict[str, Any]:
        """How many sagas ran and, with spans, how many of those arrived."""
        return {"sagas": self._ran} | self._facts()


@asynccontextmanager
async def open_runner(url: str) -> AsyncIterator[LibraryRunner]:
    """Opens a coordinator on the database at `url`, with the durability it has by default."""
    async with Coordinator(url, sagas=[five_steps, awaits_approval]) as coordinator:
        yield LibraryRunner(coordinator)


@asynccontextmanager
async def open_traced_runner(url: str) -> AsyncIterator[LibraryRunner]:
    """The same with every span exported to a collector in this process."""
    from benchmarks.systems.collector import Collector

    collector = Collector()
    async with Coordinator(
        url,
        sagas=[five_steps, awaits_approval],
        tracer_provider=collector.provider,
    ) as coordinator:
        yield LibraryRunner(coordinator, collector.facts)


async def capture(database: Path, case: Case, saga_id: str) -> None:
    """Runs one saga, and keeps a copy of the database as it was while the saga ran.

    Leaves `database` and, beside it, the copy with the suffix `.running`: what the library
    wrote, for the ceiling to write again.
    """

    def copy_database() -> None:
        with (
            closing(sqlite3.connect(database)) as source,
            closing(sqlite3.connect(database.with_suffix(".running"))) as target,
        ):
            source.backup(target)

    gate.visit = copy_database
    async with open_runner(f"sqlite:///{database}") as runner:
        await runner.run(case, saga_id)
