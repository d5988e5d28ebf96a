"""A process that cannot reach the database any more, or not for long, and lives."""

from __future__ import annotations

import threading
import time
from collections import Counter

import anyio
import orjson
import pytest
from sqlalchemy import create_engine, insert, text
from sqlmodel import Session

from sagas import Coordinator, Retry, receive, saga, step
from sagas.coordinator.clock import SystemClock
from sagas.coordinator.orders import encode_order
from sagas.errors import StoreUnavailable
from sagas.stores import postgres
from sagas.stores.port import Lease
from sagas.stores.postgres import PostgresStore
from sagas.stores.tables import metadata

_BELIEVED = 0.5


class Mute(PostgresStore):
    """Cannot say that its coordinator is alive while it is ``cut``."""

    cut = False

    def renew(self, lease: Lease, now: float) -> float:
        if self.cut:
            raise StoreUnavailable("the cable is unplugged")
        return super().renew(lease, now)


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


async def test_a_process_begins_no_attempt_that_cannot_say_that_it_is_alive(
    postgres_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Others take it for dead long before its lease is over, since its connections are gone."""
    monkeypatch.setattr(postgres, "_GRACE", _BELIEVED)
    attempts: list[float] = []
    store = Mute(postgres_url)

    @step(retry=Retry(attempts=1000, initial=0.01, factor=1.0, jitter=0.0))
    async def ask() -> str:
        attempts.append(time.monotonic())
        if len(attempts) < 10 or store.cut or attempts[-1] - attempts[-2] < _BELIEVED:
            raise ConnectionError("no answer yet")
        return "answered"

    @saga
    async def patient() -> str:
        return await ask()

    async with Coordinator(store, sagas=[patient], lease=600.0, poll=0.01) as coordinator:
        handle = await coordinator.start(patient())
        with anyio.fail_after(20):
            while len(attempts) < 20:  # noqa: ASYNC110 - attempts come by themselves
                await anyio.sleep(0.01)
            store.cut = True
            cut_at = time.monotonic()
            # Quiet for twice as long as it is believed, which shows that it is not just a long pause.
            while time.monotonic() < max(cut_at, attempts[-1]) + 2 * _BELIEVED:  # noqa: ASYNC110 - nothing is awaited
                await anyio.sleep(0.01)
            assert attempts[-1] < cut_at + _BELIEVED + 0.2
            store.cut = False
            assert await handle.result() == "answered"


async def test_a_transactional_step_may_be_slow_between_its_statements(
    postgres_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Only where its transaction could keep a new owner waiting does the server end it soon."""
    monkeypatch.setattr(postgres, "_HURRY", text("SET LOCAL idle_in_transaction_session_timeout = '100ms'"))
    threads: list[int] = []

    @step(transactional=True)
    def think(session: Session) -> int:
        session.connection().execute(text("CREATE TABLE thoughts (it int)"))
        threads.append(threading.get_ident())
        time.sleep(0.5)
        return int(session.connection().execute(text("SELECT count(*) FROM thoughts")).scalar_one())

    @saga
    async def slow() -> int:
        return await think()

    async with Coordinator(postgres_url, sagas=[slow]) as coordinator:
        with anyio.fail_after(20):
            assert await coordinator.run(slow()) == 0
    assert len(threads) == 1


class SetBack(SystemClock):
    """The machine's clock, which somebody sets."""

    shift = 0.0

    def now(self) -> float:
        return super().now() + self.shift


async def test_a_clock_that_is_set_back_makes_nobody_believe_in_a_lease_that_is_over(postgres_url: str) -> None:
    """Leases are renewed by a clock that nobody sets."""
    clock, ran = SetBack(), Counter[int]()

    @step
    async def work(number: int) -> int:
        ran[number] += 1
        await anyio.sleep(0.5)
        return number

    @saga
    async def job(number: int) -> int:
        return await work(number)

    async with (
        Coordinator(postgres_url, sagas=[job], clock=clock, lease=1.0) as coordinator,
        Coordinator(postgres_url, sagas=[job], lease=1.0, poll=0.05),
    ):
        clock.shift = -3600.0
        await anyio.sleep(1.5)  # longer than a lease that is not renewed
        with anyio.fail_after(20):
            async with anyio.create_task_group() as group:
                for number in range(5):
                    group.start_soon(coordinator.run, job(number))
    assert ran == Counter(range(5))


async def test_a_clock_that_is_set_back_stops_nobody_from_looking(postgres_url: str) -> None:
    """What nobody announced is found all the same, by a look from time to time."""
    clock = SetBack()

    @saga
    async def job() -> str:
        return await receive("word", str)

    async with Coordinator(postgres_url, sagas=[job], clock=clock) as coordinator:
        handle = await coordinator.start(job(), id="s")
        await anyio.sleep(0.1)  # so that it has looked, and knows when it will again
        clock.shift = -3600.0
        silent = create_engine(postgres_url)
        with silent.begin() as connection:
            body = encode_order(name="word", payload=orjson.Fragment(b'"found"'))
            order = {"saga_id": "s", "at": clock.now(), "kind": "signal", "body": body}
            connection.execute(insert(metadata.tables["saga_mail"]), order)
        silent.dispose()
        with anyio.fail_after(20):
            assert await handle.result() == "found"
