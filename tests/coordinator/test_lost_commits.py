"""A server that has lost its last commits: one that took over and was behind, or did not wait for its disk."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncGenerator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import anyio
import psycopg
import pytest
from anyio import to_thread
from sqlmodel import Session, text

from sagas import Coordinator, SagaCompensated, SagaNotFound, receive, saga, step
from tests.support.postgres import PostgresServer

# It keeps commits to itself until it is told to write them, so that a kill loses them for sure.
_FORGETFUL = {"synchronous_commit": "off", "wal_writer_delay": "10s", "wal_writer_flush_after": "1GB"}
_SAGAS, _STEPS = 8, 12
_STEPS_DONE = "SELECT count(*) FROM saga_journal WHERE kind = 'StepSucceeded'"
_HOLES = "SELECT count(*) FROM (SELECT 1 FROM saga_journal GROUP BY saga_id HAVING max(seq) + 1 <> count(*)) AS x"


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
def server() -> Iterator[PostgresServer]:
    """A server that loses what was committed since the last time that it was told to write it down."""
    with PostgresServer(_FORGETFUL, parent=Path("/tmp")) as own:  # noqa: S108 - a short path, for its socket
        yield own


class World:
    """What the steps have done, and how far they may go."""

    def __init__(self) -> None:
        self.charged = Counter[str]()
        self.refunded = Counter[str]()
        self.limit = 0
        self.moved = anyio.Event()

    def allow(self, limit: int) -> None:
        """Lets steps with smaller numbers through."""
        self.limit = limit
        moved, self.moved = self.moved, anyio.Event()
        moved.set()

    async def may(self, number: int) -> None:
        """Waits for that."""
        while number >= self.limit:
            await self.moved.wait()


world = World()


@pytest.fixture(autouse=True)
def new_world() -> None:
    world.__init__()  # type: ignore[misc]  # all anew, for the steps know it by name


@step
async def charge(number: int) -> int:
    await world.may(number)
    return number


@charge.compensator
async def refund(number: int) -> None:
    world.refunded[str(number)] += 1


@step(transactional=True)
def book(session: Session, saga_id: str, number: int) -> int:
    session.connection().execute(text("INSERT INTO booked VALUES (:id, :number)"), {"id": saga_id, "number": number})
    return number


@saga
async def pay() -> int:
    for number in range(_STEPS):
        await charge(number)
    return 1


@saga
async def books(saga_id: str) -> int:
    for number in range(_STEPS):
        await charge(number)
        await book(saga_id, number)
    return 1


@saga
async def asks() -> list[str]:
    return [await receive("go"), await receive("go")]


def _ask(url: str, question: str) -> int:
    with psycopg.connect(url.replace("+psycopg", ""), autocommit=True) as connection:
        row = connection.execute(question.encode()).fetchone()
        return 0 if row is None else int(row[0])


async def _write_down(url: str) -> None:
    def checkpoint() -> None:
        with psycopg.connect(url.replace("+psycopg", ""), autocommit=True) as connection:
            connection.execute("CHECKPOINT")

    await to_thread.run_sync(checkpoint)


async def _until(url: str, question: str, answer: int) -> None:
    while await to_thread.run_sync(_ask, url, question) != answer:  # noqa: ASYNC110 - a server tells no events
        await anyio.sleep(0.01)


@asynccontextmanager
async def _loss(server: PostgresServer) -> AsyncGenerator[None]:
    """What is committed in the block is lost after it; the server is there again."""
    yield
    await to_thread.run_sync(server.kill)
    await to_thread.run_sync(server.start)


async def test_sagas_go_on_from_what_the_server_still_has(server: PostgresServer) -> None:
    """No journal gets a hole; whoever is cancelled afterwards undoes exactly what the journal says was done."""
    url = server.create_database()
    with anyio.fail_after(60):
        async with Coordinator(url, sagas=[pay]) as coordinator:
            handles = [await coordinator.start(pay(), id=f"s{number}") for number in range(_SAGAS)]
            world.allow(3)
            await _until(url, _STEPS_DONE, 3 * _SAGAS)
            await _write_down(url)
            async with _loss(server):
                world.allow(7)
                await _until(url, _STEPS_DONE, 7 * _SAGAS)
            assert await to_thread.run_sync(_ask, url, _STEPS_DONE) < 7 * _SAGAS, "nothing was lost"
            world.allow(8)
            await _until(url, _STEPS_DONE, 8 * _SAGAS)
            await coordinator.cancel("s0", reason="no longer wanted")
            world.allow(_STEPS)
            with pytest.raises(SagaCompensated):
                await handles[0].result()
            assert [await handle.result() for handle in handles[1:]] == [1] * (_SAGAS - 1)
        assert await to_thread.run_sync(_ask, url, _HOLES) == 0
        async with Coordinator(url, sagas=[pay]) as another:
            for number in range(_SAGAS):
                await another.get(f"s{number}")
    assert world.refunded == {str(number): 1 for number in range(8)} | (
        {"8": 1} if "8" in world.refunded else {}  # it may have been let through before the cancel came
    )


async def test_a_saga_whose_end_was_lost_ends_again(server: PostgresServer) -> None:
    """It is not in memory any more, and its row is its coordinator's own, so that nobody else takes it."""
    url = server.create_database()
    with anyio.fail_after(60):
        async with Coordinator(url, sagas=[pay]) as coordinator:
            handle = await coordinator.start(pay(), id="s")
            await _write_down(url)
            async with _loss(server):
                world.allow(_STEPS)
                assert await handle.result() == 1
            assert await to_thread.run_sync(_ask, url, "SELECT count(*) FROM saga WHERE status = 'completed'") == 0
            await _until(url, "SELECT count(*) FROM saga WHERE status = 'completed'", 1)
    assert await to_thread.run_sync(_ask, url, _HOLES) == 0


async def test_a_signal_after_the_loss_reaches_the_saga_as_the_server_knows_it(server: PostgresServer) -> None:
    """In memory it was further, so what became of the signal there must not count."""
    url = server.create_database()
    with anyio.fail_after(60):
        async with Coordinator(url, sagas=[asks]) as coordinator:
            handle = await coordinator.start(asks(), id="s")
            await _write_down(url)
            async with _loss(server):
                await coordinator.signal("s", "go", "lost")
            await coordinator.signal("s", "go", "again")
            await coordinator.signal("s", "go", "and on")
            assert await handle.result() == ["again", "and on"]
    assert await to_thread.run_sync(_ask, url, _HOLES) == 0


async def test_whoever_waits_for_a_saga_whose_start_was_lost_hears_so(server: PostgresServer) -> None:
    url = server.create_database()
    with anyio.fail_after(60):
        async with Coordinator(url, sagas=[pay]) as coordinator:
            await _write_down(url)
            async with _loss(server):
                handle = await coordinator.start(pay(), id="s")
            with pytest.raises(SagaNotFound):
                await handle.result()


async def test_transactional_steps_are_booked_once_as_far_as_the_server_knows(server: PostgresServer) -> None:
    """A step's writes and its record were lost together, so its writes are there once after it was done again."""
    url = server.create_database()
    _create(url)
    with anyio.fail_after(60):
        async with Coordinator(url, sagas=[books]) as coordinator:
            handles = [await coordinator.start(books(f"b{number}"), id=f"b{number}") for number in range(_SAGAS)]
            world.allow(3)
            await _until(url, "SELECT count(*) FROM booked", 3 * _SAGAS)
            await _write_down(url)
            async with _loss(server):
                world.allow(7)
                await _until(url, "SELECT count(*) FROM booked", 7 * _SAGAS)
            world.allow(_STEPS)
            assert [await handle.result() for handle in handles] == [1] * _SAGAS
    assert await to_thread.run_sync(_ask, url, _HOLES) == 0
    assert await to_thread.run_sync(_ask, url, "SELECT count(*) FROM booked") == _SAGAS * _STEPS


def _create(url: str) -> None:
    with psycopg.connect(url.replace("+psycopg", ""), autocommit=True) as connection:
        connection.execute("CREATE TABLE booked (id text, number int, PRIMARY KEY (id, number))")
