"""A connection pooler between coordinators and PostgreSQL, which gives each transaction to another connection."""

from __future__ import annotations

import logging
from collections.abc import Iterator

import anyio
import psycopg
import pytest
from sqlalchemy import text
from sqlmodel import Session

from sagas import Client, Coordinator, Limit, Rejected, SagaCompensated, gather, lock, receive, saga, sleep, step
from sagas.stores import store_for
from tests.support.pgbouncer import BINARY, pooled

pytestmark = pytest.mark.skipif(BINARY is None, reason="there is no pgbouncer here")

# As many as a driver takes to prepare a statement that comes again and again, and some more.
_ROUNDS = 12
_CONNECTIONS = 8


@step(limit=Limit(concurrency=2, across="store"))
async def work(number: int) -> int:
    return number


@work.compensator
async def undo(number: int) -> None: ...


@step(transactional=True)
def enter(session: Session, number: int) -> int:
    session.connection().execute(text("INSERT INTO ledger VALUES (:number)"), {"number": number})
    if number % 4 == 3:
        raise Rejected(number)
    return number


@saga
async def body(number: int) -> list[int]:
    """Something of everything."""
    async with lock(f"lock-{number % 3}"):
        done = await gather(work(number), work(number))
    await sleep(0.01)
    told = await receive("told", int)
    return [*done, told, await enter(number)]


@pytest.fixture(scope="module")
def anyio_backend() -> str:
    """What is tested is between the store and the server, where no event loop is."""
    return "asyncio"


@pytest.fixture
def direct(postgres_url: str) -> str:
    """A journal, with the ledger beside its tables; without a pooler."""
    store = store_for(postgres_url)
    store.open(migrate=True)
    store.close()
    with psycopg.connect(postgres_url.replace("+psycopg", "")) as connection:
        connection.execute("CREATE TABLE ledger (number INTEGER)")
    return postgres_url


@pytest.fixture
def through(direct: str) -> Iterator[str]:
    """The same behind a pooler."""
    with pooled(direct) as url:
        yield url


def _entries(url: str) -> list[int]:
    with psycopg.connect(url.replace("+psycopg", "")) as connection:
        return [number for (number,) in connection.execute("SELECT number FROM ledger ORDER BY number")]


async def _rounds(client: Client, first: int) -> None:
    """Runs sagas one after the other, so that every statement comes often enough."""
    for number in range(first, first + _ROUNDS):
        handle = await client.start(body(number), id=f"s{number}")
        await client.signal(f"s{number}", "told", 7)
        if number % 4 == 3:
            with pytest.raises(SagaCompensated):
                await handle.result()
        else:
            assert await handle.result() == [number, number, 7, number]


@pytest.mark.parametrize("option", ["", "&notify=off"], ids=["found out", "notify=off"])
async def test_coordinators_work_through_a_pooler(
    option: str, through: str, direct: str, caplog: pytest.LogCaptureFixture
) -> None:
    """They poll, and nothing that they do needs a connection of their own."""
    url = through + option
    with caplog.at_level(logging.INFO):
        async with (
            Coordinator(url, sagas=[body], poll=0.02),
            Coordinator(url, sagas=[body], poll=0.02),
            Client(url, poll=0.05) as client,
        ):
            with anyio.fail_after(60):
                await _rounds(client, 0)
    assert _entries(direct) == [number for number in range(_ROUNDS) if number % 4 != 3]
    told = [x.getMessage() for x in caplog.records if x.name.startswith("sagas") and x.levelno >= logging.WARNING]
    # Two may be about to take over the same saga.
    troubles = [line for line in told if "taken over" not in line]
    assert len(troubles) == (0 if option else 3), "each finds it out by itself, once"
    assert all("as behind a pooler; it is polled" in line for line in troubles), troubles


@pytest.mark.parametrize("option", ["", "&notify=off"], ids=["found out", "notify=off"])
async def test_nothing_is_left_on_a_pooled_connection(option: str, through: str, direct: str) -> None:
    """No setting, lock, prepared statement or channel that its next user would have to live with."""
    url = through + option
    async with Coordinator(url, sagas=[body], poll=0.02), Client(url, poll=0.05) as client:
        with anyio.fail_after(60):
            await _rounds(client, 0)
        left = _left(through)
    assert left == {"on", 0}


def _left(url: str) -> set[object]:
    """Looks at all of the pooler's connections, each of which it gives in turn."""
    queries = (
        "SHOW enable_seqscan", "SHOW synchronous_commit", "SELECT count(*) FROM pg_prepared_statements",
        "SELECT count(*) FROM pg_listening_channels()",
        "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND pid = pg_backend_pid()",
    )  # fmt: skip
    found: set[object] = set()
    with psycopg.connect(url.replace("+psycopg", ""), prepare_threshold=None, autocommit=True) as connection:
        for query in queries:
            for _ in range(2 * _CONNECTIONS):
                found.update(row[0] for row in connection.execute(query.encode()))
    return found


async def test_who_is_connected_directly_hears_those_behind_a_pooler(through: str, direct: str) -> None:
    """A client behind one announces what it asks for, though it hears nothing itself."""
    async with Coordinator(direct, sagas=[body], poll=60), Client(through, poll=0.05) as client:
        with anyio.fail_after(30):
            await _rounds(client, 0)
