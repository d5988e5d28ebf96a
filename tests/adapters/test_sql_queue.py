"""The queue in a SQL database does what every queue does, on SQLite and on PostgreSQL."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import anyio
import pytest
from sqlalchemy import create_engine, make_url, text

from sagas.errors import MessageTooLarge, TransportClosed, TransportError
from sagas.stores.opening import store_for
from sagas.stores.sql import SqlStore
from sagas.testing.contracts import OpenQueue, QueueContract
from sagas.transport import Delivery, Message, Queue, open_queue
from sagas_adapters.sql import SqlQueue
from sagas_adapters.sql.desk import Desk
from tests.adapters.loops import OnAsyncio, OnOtherLoops, Some

Numbers = list[int]


class _Case:
    """In real time, which is short."""

    leeway = 2.0

    @pytest.fixture
    async def connect(self, url: str) -> AsyncIterator[OpenQueue]:
        opened: list[SqlQueue] = []

        async def connect() -> Queue:
            queue = SqlQueue(url, "q", visibility=1.0, max_deliveries=3, dedup_window=2.0)
            opened.append(queue)
            return queue

        yield connect
        for queue in opened:
            await queue.close()


class _OnSqlite(_Case):
    @pytest.fixture
    def url(self, tmp_path: Path) -> str:
        return f"sqlite:///{tmp_path / 'q.db'}"


class _OnPostgres(_Case):
    @pytest.fixture
    def url(self, postgres_url: str) -> str:
        return postgres_url


class TestSqliteQueue(_OnSqlite, OnAsyncio, QueueContract): ...


class TestPostgresQueue(_OnPostgres, OnAsyncio, QueueContract): ...


class TestSqliteQueueOnOtherLoops(_OnSqlite, OnOtherLoops, Some): ...


class TestPostgresQueueOnOtherLoops(_OnPostgres, OnOtherLoops, Some): ...


# --- what only this one does ----------------------------------------------------------------------------------------


@pytest.fixture(params=["sqlite", "postgres"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'q.db'}"
    url: str = request.getfixturevalue("postgres_url")
    return url


@pytest.fixture
def store(url: str) -> Iterator[SqlStore]:
    store = store_for(url)
    assert isinstance(store, SqlStore)
    store.open(migrate=True)
    yield store
    store.close()


@pytest.fixture
def anyio_backend() -> tuple[str, dict[str, Any]]:
    return "asyncio", {"use_uvloop": False}


def _numbers(*numbers: int) -> list[Message]:
    return [Message(body=str(number).encode()) for number in numbers]


def _read(found: list[Delivery] | Any) -> Numbers:
    return [int(delivery.message.body) for delivery in found]


async def test_many_tasks_share_a_commit(store: SqlStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """What comes while the first one is under way goes into the next one."""
    transactions = 0
    begin = store.begin

    def counted() -> Any:
        nonlocal transactions
        transactions += 1
        return begin()

    monkeypatch.setattr(store, "begin", counted)
    queue = SqlQueue(store, "q")
    async with anyio.create_task_group() as group:
        for number in range(100):
            group.start_soon(queue.send, *_numbers(number))
    assert transactions <= 5
    assert sorted(_read(await queue.receive(100))) == list(range(100))
    await queue.close()


async def test_queues_of_a_database_know_nothing_of_each_other(url: str) -> None:
    one, other = (SqlQueue(url, name) for name in ("one", "other"))
    await one.send(*_numbers(1))
    await other.send(*_numbers(2))
    assert [_read(await queue.receive(5)) for queue in (one, other)] == [[1], [2]]
    await one.close()
    await other.close()


async def test_whoever_waits_hears_at_once_of_another_store_on_the_same_database(url: str, store: SqlStore) -> None:
    """Much sooner than somebody who polls has a reason to look again."""
    waits, sends = SqlQueue(url, "q"), SqlQueue(store, "q")
    await sends.receive()
    found: list[Numbers] = []

    async def wait() -> None:
        found.append(_read(await waits.receive(wait=30.0)))

    with anyio.fail_after(20.0):
        async with anyio.create_task_group() as group:
            group.start_soon(wait)
            await anyio.sleep(0.3)
            await sends.send(*_numbers(1))
    assert found == [[1]]
    await waits.close()
    await sends.close()


async def test_a_message_goes_with_the_transaction_it_is_sent_in_or_not_at_all(url: str, store: SqlStore) -> None:
    """Whoever waits hears of it, also from an engine of the user's own."""
    queue = SqlQueue(url, "q")
    with pytest.raises(LookupError), store.begin() as connection:
        queue.send_within(connection, *_numbers(1))
        raise LookupError
    found: list[Numbers] = []

    async def wait() -> None:
        found.append(_read(await queue.receive(5, wait=30.0)))

    engine = create_engine(make_url(url))
    with anyio.fail_after(20.0):
        async with anyio.create_task_group() as group:
            group.start_soon(wait)
            await anyio.sleep(0.1)
            with engine.begin() as connection:
                queue.send_within(connection, *_numbers(2, 3))
    engine.dispose()
    assert found == [[2, 3]]
    await queue.close()


async def test_what_is_sent_in_a_transaction_is_checked_and_deduplicated_too(url: str, store: SqlStore) -> None:
    queue = SqlQueue(url, "q", max_bytes=10)
    with store.begin() as connection:
        queue.send_within(connection)
        queue.send_within(connection, Message(body=b"1", dedup_id="a"), Message(body=b"2", dedup_id="a"))
        queue.send_within(connection, Message(body=b"3", dedup_id="a", group="g"), Message(body=b"4", delay=60.0))
        with pytest.raises(MessageTooLarge):
            queue.send_within(connection, Message(body=b"x" * 11))
    assert _read(await queue.receive(5)) == [1]
    await queue.close()


async def test_one_message_that_cannot_be_kept_spoils_no_others(url: str) -> None:
    """PostgreSQL keeps no zeros in a text; SQLite does."""
    queue = SqlQueue(url, "q")
    refused: list[str] = []

    async def send(message: Message) -> None:
        try:
            await queue.send(message)
        except TransportError as error:
            refused.append(str(error))

    async with anyio.create_task_group() as group:
        for number in range(5):
            group.start_soon(send, Message(body=str(number).encode()))
        group.start_soon(send, Message(body=b"5", group="a\0b"))
    found = _read(await queue.receive(10))
    assert sorted(found) == (list(range(5)) if refused else list(range(6)))
    assert len(refused) == (1 if url.startswith("postgres") else 0)
    await queue.close()


async def test_what_was_taken_for_somebody_who_left_is_there_for_others_at_once(url: str) -> None:
    """Not only when it would be visible again."""
    queue = SqlQueue(url, "q")
    await queue.send(*_numbers(1))
    for _ in range(20):
        with anyio.move_on_after(0.0005):
            await queue.receive()
            await queue.close()
            return  # it was too fast to be interrupted
    with anyio.fail_after(20.0):
        (found,) = await queue.receive(wait=20.0)
    assert found.count == 1
    await queue.close()


async def test_a_connection_that_is_closed_lets_go_of_those_who_wait_on_it(url: str) -> None:
    one, other = SqlQueue(url, "q"), SqlQueue(url, "q")
    await other.receive()

    async def close() -> None:
        await anyio.sleep(0.05)
        await one.close()

    async with anyio.create_task_group() as group:
        group.start_soon(close)
        with anyio.fail_after(20.0), pytest.raises(TransportClosed):
            await one.receive(wait=60.0)
    await other.send(*_numbers(1))
    assert _read(await other.receive()) == [1]
    await other.close()


async def test_a_connection_lets_go_of_those_whom_a_transaction_is_looking_for_when_it_is_closed(url: str) -> None:
    """It would let them wait again when it has found nothing."""
    one, other = SqlQueue(url, "q"), SqlQueue(url, "q")
    await other.receive()
    engine = create_engine(url)
    with anyio.fail_after(20.0), engine.connect() as connection:
        async with anyio.create_task_group() as group:
            connection.exec_driver_sql("LOCK TABLE saga_message" if "postgres" in url else "BEGIN IMMEDIATE")
            group.start_soon(_refused, one)
            while not one._lane._flying:  # noqa: ASYNC110, SLF001 - nothing else tells
                await anyio.sleep(0.001)
            await one.close()
            connection.rollback()
    engine.dispose()
    await other.close()


async def _refused(queue: SqlQueue) -> None:
    with pytest.raises(TransportClosed):
        await queue.receive(wait=60.0)


async def test_a_database_that_is_not_there_is_told_and_may_come_later(tmp_path: Path) -> None:
    directory = tmp_path / "later"
    queue = SqlQueue(f"sqlite:///{directory / 'q.db'}", "q")
    with pytest.raises(TransportError, match="later"):
        await queue.send(*_numbers(1))
    directory.mkdir()
    await queue.send(*_numbers(2))
    assert _read(await queue.receive(5)) == [2]
    await queue.close()


async def test_an_event_loop_that_ended_does_not_hold_up_the_next_one(tmp_path: Path) -> None:
    queue = SqlQueue(f"sqlite:///{tmp_path / 'q.db'}", "q")

    async def one() -> None:
        with anyio.move_on_after(0.05):
            async with anyio.create_task_group() as group:
                for number in range(50):
                    group.start_soon(queue.send, *_numbers(number))
                group.start_soon(queue.receive, 1)

    for _ in range(3):
        await anyio.to_thread.run_sync(anyio.run, one)
    with anyio.fail_after(20.0):
        await queue.send(*_numbers(99))
    await queue.close()


async def test_a_url_names_a_queue_with_all_that_it_has(url: str) -> None:
    add = "&" if "?" in url else "?"
    queue = open_queue(f"{url}{add}queue=q&visibility=7&dedup_window=5&max_bytes=0", max_deliveries=2)
    assert isinstance(queue, SqlQueue)
    assert (queue.name, queue.visibility, queue.max_deliveries) == ("q", 7.0, 2)
    assert (queue.capabilities.dedup_window, queue.capabilities.max_bytes) == (5.0, None)
    await queue.send(Message(body=b"x" * 2_000_000))
    assert len((await queue.receive())[0].message.body) == 2_000_000
    await queue.close()


def test_only_a_sql_database_will_do() -> None:
    with pytest.raises(TransportError, match="no SQL database"):
        SqlQueue("memory:", "q")


async def test_the_documentation_says_what_it_can(tmp_path: Path) -> None:
    """A row a capability, as a queue has them by default."""
    page = (Path(__file__).parents[2] / "docs/how-to/queues-sql.md").read_text(encoding="utf-8")
    queue = SqlQueue(f"sqlite:///{tmp_path / 'q.db'}", "q")
    said = {True: "yes", False: "no", None: "any"}
    able = asdict(queue.capabilities)
    told = {name: f"{value:g}" if isinstance(value, float) else str(value) for name, value in able.items()}
    table = {name: said.get(value, told[name]) for name, value in able.items()}
    assert dict(re.findall(r"^\| `(\w+)` \| (\w+) \|$", page, re.MULTILINE)) == table
    await queue.close()


# --- many messages --------------------------------------------------------------------------------------------------

_FILL = """
    INSERT INTO saga_message (queue, ready_at, held, count, group_id, headers, body)
    SELECT queue, ready_at, false, 0, group_id, CAST('' AS {bytes}), CAST('1' AS {bytes}) FROM
    (SELECT 'q' AS queue, 0.0 AS ready_at, NULL AS group_id UNION ALL SELECT 'q', 1e12, NULL
     UNION ALL SELECT 'q', 0.0, 'all' UNION ALL SELECT 'other', 0.0, NULL) AS kinds,
    ({numbers}) AS numbers
"""
_MANY = 25_000
_NUMBERS = {
    "sqlite": f"WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {_MANY}) SELECT i FROM n",
    "postgresql": f"SELECT generate_series(1, {_MANY})",
}


@pytest.fixture
def full(store: SqlStore) -> SqlStore:
    """A hundred thousand messages: ready, delayed, all of one group, and another queue's."""
    with store.begin() as connection:
        name = connection.dialect.name
        of_bytes = "bytea" if name == "postgresql" else "BLOB"
        connection.execute(text(_FILL.format(numbers=_NUMBERS[name], bytes=of_bytes)))
    return store


def _plans(store: SqlStore, url: str, function: Callable[[Desk], object]) -> list[str]:
    """How the database would find the rows of each statement that a function executes."""
    plans: list[str] = []
    with store.begin() as connection:
        real = connection.exec_driver_sql
        explain = "EXPLAIN" if connection.dialect.name == "postgresql" else "EXPLAIN QUERY PLAN"

        def explained(statement: str, parameters: Any = None) -> Any:
            if isinstance(parameters, dict):
                lines = [str(row[-1]) for row in real(f"{explain} {statement}", parameters)]
                plans.append("\n".join([statement, *lines]))
            return real(statement, parameters)

        connection.exec_driver_sql = explained  # type: ignore[assignment, method-assign]  # looks over its shoulder
        function(Desk(connection, 1e9))
    return plans


def _everything(desk: Desk) -> None:
    """All that is done again and again."""
    for _ in range(2):
        desk.sweep("q", 5, "silence")
        found = desk.take("q", 40, 30.0)
        places = [(int(delivery.receipt.partition(".")[0]), delivery.count) for delivery in found]
        desk.extend(places[0], 60.0)
        desk.nack(places[0], delay=1.0, reason="", last=False)
        desk.nack(places[1], delay=0.0, reason="", last=True)
        desk.untake(places[2:4])
        desk.ack(places)
        desk.behind.add(("q", "all"))
        desk.go_on()
        desk.next_due("q")
        desk.dead_letters("q", 10)
        desk.take("q", 40, 30.0)


def test_no_statement_reads_a_whole_table(full: SqlStore, url: str) -> None:
    """By the plans that the database makes, without having counted the rows."""
    plans = _plans(full, url, _everything)
    assert len(plans) > 20
    for plan in plans:
        assert re.search(r"SCAN (saga_message|[mho])\b|Seq Scan on saga_message", plan) is None, plan


async def test_receiving_stays_fast_however_many_wait(full: SqlStore) -> None:
    """A bound that only a scan of all of them would break."""
    queue = SqlQueue(full, "q")
    await queue.receive(100)
    with anyio.fail_after(20.0):
        for _ in range(100):
            await queue.ack(*await queue.receive(10))
    await queue.close()
