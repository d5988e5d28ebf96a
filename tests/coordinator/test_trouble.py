"""Databases that are locked, full or damaged."""

# ruff: noqa: SLF001 - looks behind the scenes, where users do not

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from typing import Any

import anyio
import pytest
from sqlalchemy import text
from sqlmodel import Session

from sagas import (
    Coordinator,
    JournalCorrupted,
    NotApplicable,
    SagaStuck,
    StoreError,
    StoreUnavailable,
    receive,
    saga,
    step,
)
from sagas.stores.sqlite import SqliteStore
from tests.coordinator.places import Gate, Place, until

DONE: list[str] = []


@step
async def act(what: str) -> str:
    """Acts."""
    DONE.append(what)
    return what


@saga
async def acts(what: str) -> list[str]:
    """Three steps."""
    return [await act(f"{what}{number}") for number in range(3)]


@saga
async def waits(what: str) -> str:
    """A step and a signal."""
    await act(what)
    return await receive("go", str)


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    DONE.clear()
    monkeypatch.setattr("sagas.stores.sqlite._BUSY_TIMEOUT", 0.02)


@pytest.fixture
def blocker(on_disk: Place) -> Iterator[sqlite3.Connection]:
    """A connection that can lock the database."""
    assert on_disk.path is not None
    connection = sqlite3.connect(on_disk.path, isolation_level=None, timeout=10)
    yield connection
    connection.close()


def _stalled(coordinator: Coordinator) -> StoreError | None:
    assert coordinator._engine is not None
    return coordinator._engine.journal.commits.stalled


async def test_while_the_database_is_locked_sagas_stall_and_then_go_on(
    on_disk: Place, blocker: sqlite3.Connection
) -> None:
    """Nothing is reported that is not durable, and nothing is done twice."""
    results: list[list[str]] = []

    async with on_disk.coordinator(acts) as coordinator:
        await coordinator.run(acts("before"), id="before")

        async def run(number: int) -> None:
            results.append(await coordinator.run(acts(f"{number}."), id=f"s{number}"))

        async with anyio.create_task_group() as group:
            blocker.execute("BEGIN EXCLUSIVE")
            for number in range(3):
                group.start_soon(run, number)

            async def stalled() -> bool:
                return _stalled(coordinator) is not None

            await until(stalled)
            assert results == []
            assert DONE == ["before0", "before1", "before2"]
            assert (await coordinator.get("before")).status == "completed"  # reading goes on
            blocker.execute("ROLLBACK")
        assert _stalled(coordinator) is None
    assert len(results) == 3
    assert len(DONE) == len(set(DONE)) == 12


async def test_a_step_that_ends_while_the_database_is_locked_is_not_repeated(
    on_disk: Place, blocker: sqlite3.Connection
) -> None:
    """Its record waits in memory."""
    gate = Gate()

    @step
    async def wait() -> int:
        await gate.wait()
        return 7

    @saga
    async def body() -> int:
        return await wait()

    async with on_disk.coordinator(body) as coordinator:
        handle = await coordinator.start(body(), id="s")
        await gate.arrival()
        blocker.execute("BEGIN EXCLUSIVE")
        gate.open()

        async def stalled() -> bool:
            return _stalled(coordinator) is not None

        await until(stalled)
        assert (await coordinator.get("s")).steps[0].state == "scheduled"
        blocker.execute("ROLLBACK")
        assert await handle.result() == 7
    assert gate.arrived == 1


async def test_requests_that_need_to_write_elsewhere_say_that_the_database_is_locked(
    on_disk: Place, blocker: sqlite3.Connection
) -> None:
    """A signal to a saga of another coordinator is posted, or refused."""
    async with on_disk.coordinator(waits) as owner, on_disk.coordinator(waits) as other:
        handle = await owner.start(waits("x"), id="s")
        blocker.execute("BEGIN EXCLUSIVE")
        with pytest.raises(StoreUnavailable, match="locked"):
            await other.signal("s", "go", "lost")
        blocker.execute("ROLLBACK")
        await other.signal("s", "go", "heard")
        assert await handle.result() == "heard"


class _Small(SqliteStore):
    """A store whose database cannot grow when told so."""

    def __init__(self, url: str) -> None:
        super().__init__(url)
        self.connections: list[Any] = []

    def _configure(self, connection: Any, _: object) -> None:
        super()._configure(connection, _)
        self.connections.append(connection)

    def limit(self, pages: int) -> None:
        """Sets the largest size of the database; never below what it has."""
        for connection in self.connections:
            connection.execute(f"PRAGMA max_page_count={pages}")


async def test_while_the_disk_is_full_sagas_stall_and_then_go_on(on_disk: Place) -> None:
    """Each in its turn, with what it had done."""
    store = _Small(f"sqlite:///{on_disk.path}")
    async with Coordinator(store, sagas=[acts], poll=0.01) as coordinator:
        await coordinator.run(acts("before"))
        store.limit(1)
        results: list[list[str]] = []

        async def run(number: int) -> None:
            results.append(await coordinator.run(acts(f"{number}" * 3_000), id=f"s{number}"))

        async with anyio.create_task_group() as group:
            for number in range(3):
                group.start_soon(run, number)

            async def stalled() -> bool:
                return "full" in str(_stalled(coordinator))

            await until(stalled)
            assert results == []
            store.limit(1_000_000)
    assert len(results) == 3
    assert len(DONE) == len(set(DONE)) == 12


async def test_a_transactional_step_that_meets_a_full_disk_runs_again_when_there_is_room(on_disk: Place) -> None:
    """A full disk is no failure of the step."""
    store = _Small(f"sqlite:///{on_disk.path}")
    on_disk.sql("CREATE TABLE ledger (text TEXT)")

    @step(transactional=True)
    def enter(session: Session) -> int:
        session.connection().execute(text("INSERT INTO ledger VALUES (:text)"), {"text": "x" * 100_000})
        return 1

    @saga
    async def body() -> int:
        return await enter()

    async with Coordinator(store, sagas=[body], poll=0.01) as coordinator:
        assert await coordinator.run(body()) == 1
        store.limit(1)
        results: list[int] = []
        async with anyio.create_task_group() as group:

            async def run() -> None:
                results.append(await coordinator.run(body()))

            group.start_soon(run)

            async def stalled() -> bool:
                return "full" in str(_stalled(coordinator))

            await until(stalled)
            assert results == []
            store.limit(1_000_000)
    assert results == [1]
    assert on_disk.sql("SELECT count(*) FROM ledger") == [(2,)]


async def test_a_coordinator_can_be_left_while_the_database_is_locked(
    on_disk: Place, blocker: sqlite3.Connection
) -> None:
    """What was not durable is done again by the next one; its lease is known to be over."""
    async with on_disk.coordinator(acts, waits, shutdown_timeout=0.05) as coordinator:
        await coordinator.start(waits("x"), id="s")

        async def waiting() -> bool:
            return (await coordinator.get("s")).waiting

        await until(waiting)
        blocker.execute("BEGIN EXCLUSIVE")
        async with anyio.create_task_group() as group:
            group.start_soon(coordinator.start, acts("y"))
            await anyio.lowlevel.checkpoint()
            group.cancel_scope.cancel()
    blocker.execute("ROLLBACK")
    async with on_disk.coordinator(acts, waits) as coordinator:
        await coordinator.signal("s", "go", "on")
        with anyio.fail_after(10):
            assert await coordinator.run(waits("x"), id="s") == "on"


_DAMAGES = {
    "altered": "UPDATE saga_journal SET data = CAST('{}' AS BLOB) WHERE saga_id = 'bad' AND seq = 1",
    "not JSON": "UPDATE saga_journal SET data = x'ff00' WHERE saga_id = 'bad' AND seq = 0",
    "another kind": "UPDATE saga_journal SET kind = 'Nonsense' WHERE saga_id = 'bad' AND seq = 1",
    "another time": "UPDATE saga_journal SET at = at + 1 WHERE saga_id = 'bad' AND seq = 1",
    "dropped within": "DELETE FROM saga_journal WHERE saga_id = 'bad' AND seq = 0",
    "all dropped": "DELETE FROM saga_journal WHERE saga_id = 'bad'",
    "digest gone": "UPDATE saga_journal SET digest = x'' WHERE saga_id = 'bad' AND seq = 1",
}


@pytest.mark.parametrize("damage", list(_DAMAGES))
async def test_a_damaged_journal_makes_that_saga_stuck_and_no_other(on_disk: Place, damage: str) -> None:
    """With an error that names it; nothing about it runs, and orders to it are refused."""
    async with on_disk.coordinator(waits) as coordinator:
        for name in ("good", "bad"):
            await coordinator.start(waits(name), id=name)

        async def waiting() -> bool:
            return all([(await coordinator.get(name)).waiting for name in ("good", "bad")])

        await until(waiting)
    on_disk.sql(_DAMAGES[damage])
    on_disk.sql("UPDATE saga SET active = 1")
    async with on_disk.coordinator(waits) as coordinator:

        async def stuck() -> bool:
            return [row.id for row in await coordinator.list(status="stuck")] == ["bad"]

        await until(stuck)
        (row,) = await coordinator.list(status="stuck")
        assert "JournalCorrupted: saga bad: " in str(row.error)
        with pytest.raises(SagaStuck, match="JournalCorrupted"):
            await coordinator.run(waits("bad"), id="bad")
        with pytest.raises(JournalCorrupted, match="saga bad"):
            await coordinator.get("bad")
        for order in (coordinator.resume, coordinator.retry):
            with pytest.raises((JournalCorrupted, NotApplicable)):
                await order("bad")
        with pytest.raises((JournalCorrupted, NotApplicable)):
            await coordinator.cancel("bad", reason="x")
        await coordinator.signal("good", "go", "on")
        assert await coordinator.run(waits("good"), id="good") == "on"
    assert sorted(DONE) == ["bad", "good"]
