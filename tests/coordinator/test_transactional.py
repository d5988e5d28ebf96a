"""Transactional steps: their writes and their record commit together, or neither does."""

# ruff: noqa: SLF001 - looks behind the scenes, where users do not

from __future__ import annotations

import anyio
import pytest
from sqlalchemy import text
from sqlmodel import Session

from sagas import Rejected, Retry, SagaCompensated, current_step, gather, saga, step
from sagas.stores.port import Batch
from sagas.stores.sqlite import SqliteStore
from tests.coordinator.places import Place


@pytest.fixture(autouse=True)
def _ledger(on_disk: Place) -> None:
    on_disk.sql("CREATE TABLE ledger (name TEXT)")


def _entries(place: Place) -> list[str]:
    return sorted(name for (name,) in place.sql("SELECT name FROM ledger"))


@step(transactional=True)
def enter(session: Session, name: str) -> str:
    """Writes; refuses some names after writing them."""
    session.connection().execute(text("INSERT INTO ledger VALUES (:name)"), {"name": name})
    if name.startswith("no"):
        raise Rejected(name)
    return f"{name} {current_step().attempt}"


@enter.compensator
async def strike(name: str, result: str) -> None:
    """Only notes that it was called."""
    UNDONE.append(name)


UNDONE: list[str] = []


@saga
async def entries(names: list[str]) -> list[str]:
    """Enters side by side, then one more."""
    return [*await gather(*(enter(name) for name in names)), await enter("last")]


async def test_writes_commit_with_the_record(on_disk: Place) -> None:
    """Each exactly once, also for many sagas at a time."""
    async with on_disk.coordinator(entries) as coordinator, anyio.create_task_group() as group:
        for number in range(10):
            group.start_soon(coordinator.run, entries([f"a{number}", f"b{number}"]))
    expected = [f"{name}{number}" for name in "ab" for number in range(10)] + ["last"] * 10
    assert _entries(on_disk) == sorted(expected)


async def test_a_failure_takes_its_own_writes_back_and_is_not_undone(on_disk: Place) -> None:
    """Those beside it are undone by their compensators."""
    UNDONE.clear()
    async with on_disk.coordinator(entries) as coordinator:
        with pytest.raises(SagaCompensated, match="Rejected: no"):
            await coordinator.run(entries(["a", "no", "b"]), id="s")
        states = sorted(x.state for x in (await coordinator.get("s")).steps)
    assert _entries(on_disk) == ["a", "b"]
    assert states == ["rejected", "undone", "undone"]
    assert sorted(UNDONE) == ["a", "b"]


async def test_a_failure_that_is_not_declared_is_no_doubt_either(
    on_disk: Place, caplog: pytest.LogCaptureFixture
) -> None:
    """It is tried again; what it wrote before is gone, and a log tells where it failed."""

    @step(transactional=True, retry=Retry(attempts=3, initial=0))
    def flaky(session: Session) -> int:
        session.connection().execute(text("INSERT INTO ledger VALUES ('flaky')"))
        if current_step().attempt < 3:
            raise ConnectionError("no")
        return current_step().attempt

    @step(transactional=True)
    def broken(session: Session) -> int:
        session.connection().execute(text("INSERT INTO nowhere VALUES (1)"))
        return 1

    @saga
    async def body(which: str) -> int:
        return await (flaky() if which == "flaky" else broken())

    async with on_disk.coordinator(body) as coordinator:
        assert await coordinator.run(body("flaky")) == 3
        with pytest.raises(SagaCompensated, match=r"StepFailed.*no such table: nowhere"):
            await coordinator.run(body("broken"))
    assert _entries(on_disk) == ["flaky"]
    told = [record.getMessage() for record in caplog.records if "flaky failed" in record.getMessage()]
    assert [" in flaky" in text for text in told] == [True, True]


async def test_a_result_that_cannot_be_written_takes_the_writes_back(on_disk: Place) -> None:
    """The step is rejected."""

    @step(transactional=True)
    def make(session: Session) -> int:
        session.connection().execute(text("INSERT INTO ledger VALUES ('x')"))
        return "no number"  # type: ignore[return-value]  # is what is tested

    @saga
    async def body() -> int:
        return await make()

    async with on_disk.coordinator(body) as coordinator:
        with pytest.raises(SagaCompensated, match="the result of step make"):
            await coordinator.run(body())
    assert _entries(on_disk) == []


async def test_if_the_commit_fails_neither_is_there_and_the_step_runs_again(
    on_disk: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also when other sagas' records were in the same commit."""
    failures = 0
    write_batch = SqliteStore._write_batch

    def fail_at_first(self: SqliteStore, connection: object, batch: Batch) -> None:
        nonlocal failures
        write_batch(self, connection, batch)  # type: ignore[arg-type]  # a connection
        if any(row.kind == "StepSucceeded" for row in batch.rows) and failures < 3:
            failures += 1
            connection.exec_driver_sql("INSERT INTO nowhere VALUES (1)")  # type: ignore[attr-defined]

    monkeypatch.setattr(SqliteStore, "_write_batch", fail_at_first)
    async with on_disk.coordinator(entries) as coordinator:
        with anyio.fail_after(15):
            async with anyio.create_task_group() as group:
                for number in range(3):
                    group.start_soon(coordinator.run, entries([f"a{number}"]))
        assert [x.status for x in await coordinator.list()] == ["completed"] * 3
    assert failures == 3
    assert _entries(on_disk) == ["a0", "a1", "a2", "last", "last", "last"]


async def test_a_transactional_step_gets_its_turn_while_others_keep_writing(on_disk: Place) -> None:
    """However busy the journal is."""
    go_on = True

    @step
    async def tick() -> int:
        return 1

    @saga
    async def busy() -> int:
        ticks = 0
        while go_on:
            ticks += await tick()
        return ticks

    async with on_disk.coordinator(busy, entries) as coordinator:
        load = [await coordinator.start(busy()) for _ in range(30)]
        try:
            with anyio.fail_after(10):
                await coordinator.run(entries(["a"]))
        finally:
            go_on = False
        for handle in load:
            assert await handle.result() > 0


async def test_in_memory_there_are_no_transactions() -> None:
    """A saga that wants one does not stall the others, and says what to do."""

    @step
    async def fine() -> int:
        return 7

    @saga
    async def good() -> int:
        return await fine()

    place = Place(None)
    async with place.coordinator(entries, good) as coordinator:
        with anyio.fail_after(10), pytest.raises(SagaCompensated, match="transactional"):
            await coordinator.run(entries(["a"]))
        assert await coordinator.run(good()) == 7
