"""What the page about PostgreSQL says of its URL, its tables, the rights in them, and connections."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import threading
import uuid
from collections.abc import AsyncGenerator, Generator, Sequence
from contextlib import asynccontextmanager, contextmanager

import anyio
import psycopg
import pytest
from sqlalchemy import make_url, text
from sqlmodel import Session

from sagas import Client, Coordinator, Event, Schedule, SchemaMismatch, Worker, emit, lock, receive, saga, step
from sagas.stores import store_for
from sagas.transport import QueueTransport
from sagas.transport.events import read_event
from sagas_adapters.http import SqlResponses
from sagas_adapters.http.problems import Response
from sagas_adapters.sql import SqlQueue
from tests.docs.asking import PATIENCE, ask, plain, until, with_query
from tests.docs.examples import blocks
from tests.docs.pages import ON_POSTGRES, ROOT


@step
async def reserve(item: str) -> str:
    return f"{item} is reserved"


@saga
async def order(item: str) -> str:
    async with lock(item):
        await reserve(item)
    return await receive("go", str)


@saga
async def told(item: str) -> str:
    await emit(Event(type="reserved"))
    return await reserve(item)


@step(transactional=True)
def show(session: Session, setting: str) -> str:
    """Asks the connection of a transactional step how it is set."""
    return str(session.connection().execute(text("SELECT current_setting(:setting)"), {"setting": setting}).scalar())


@saga
async def settings() -> list[str]:
    return [await show(name) for name in ("synchronous_commit", "search_path")]


# --- the URL and the tables -----------------------------------------------------------------------------------------


async def test_options_in_the_url_hold_on_every_connection(postgres_url: str) -> None:
    ask(postgres_url, "CREATE SCHEMA sagas")
    url = with_query(postgres_url, synchronous_commit="off", options="-csearch_path=sagas")
    async with Coordinator(url, sagas=[settings]) as coordinator:
        assert await coordinator.run(settings()) == ["off", "sagas"]
    found = ask(postgres_url, "SELECT DISTINCT table_schema FROM information_schema.tables WHERE table_name ~ '^saga'")
    assert found == [("sagas",)]


def test_processes_that_start_together_create_the_tables_one_after_the_other(postgres_url: str) -> None:
    failed: list[Exception] = []

    def open_one() -> None:
        store = store_for(postgres_url)
        try:
            store.open(migrate=True)
        except Exception as error:
            failed.append(error)
        finally:
            store.close()

    threads = [threading.Thread(target=open_one) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failed == []
    assert ask(postgres_url, "SELECT count(*) FROM saga_migration") == [(1,)]


@contextmanager
def _role(url: str, grants: str, name: str) -> Generator[str]:
    """A user with the rights that the page grants to ``name``, and no others; gives the URL to connect as it."""
    own, secret = f"{name}_{uuid.uuid4().hex}", uuid.uuid4().hex
    ask(url, f"CREATE ROLE {own} LOGIN PASSWORD '{secret}'")
    try:
        for statement in filter(str.strip, grants.split(";")):
            ask(url, re.sub(rf"\bTO {name}\b", f"TO {own}", statement))
        yield make_url(url).set(username=own, password=secret).render_as_string(hide_password=False)
    finally:
        ask(url, f"DROP OWNED BY {own}")
        ask(url, f"DROP ROLE {own}")


def _migrate(url: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "sagas", "migrate", "--store", url], check=False, capture_output=True, text=True,
        cwd=ROOT, env=os.environ | {"PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr


async def test_a_user_with_the_rights_of_the_page_runs_sagas_in_tables_that_an_admin_made(postgres_url: str) -> None:
    """And a client with fewer starts, signals, cancels, waits, reads, and pauses schedules."""
    with pytest.raises(SchemaMismatch, match="sagas migrate"):
        async with Coordinator(postgres_url, migrate=False):
            pass
    _migrate(postgres_url)
    for_coordinators, *_, for_clients = blocks(ON_POSTGRES, "sql")
    with _role(postgres_url, for_coordinators, "shop") as shop, _role(postgres_url, for_clients, "web") as web:
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            ask(shop, "CREATE TABLE saga_other (id integer)")
        daily = Schedule("daily", lambda due: order("lamp"), every=86_400)
        async with (
            Coordinator(shop, sagas=[order], schedules=[daily], migrate=False) as coordinator,
            Client(web) as client,
        ):
            with anyio.fail_after(PATIENCE):
                handle = await client.start(order("lamp"), id="order-1")
                await client.signal("order-1", "go", "gone")
                assert await handle.result() == "gone"
                await client.start(order("desk"), id="order-2")
                await client.cancel("order-2", reason="no")
                await until(lambda: ask(postgres_url, "SELECT 1 FROM saga WHERE status = 'compensated'"))
                assert [x.id for x in await client.list()] == ["order-2", "order-1"]
                assert (await client.get("order-1")).status == "completed"
                assert await coordinator.run(order("lamp"), id="order-1") == "gone"
                await until(lambda: ask(postgres_url, "SELECT 1 FROM saga_schedule WHERE name = 'daily'"))
                await client.pause_schedule("daily")
                assert [x.name for x in await client.schedules() if x.paused] == ["daily"]
                await client.resume_schedule("daily")
                assert [x.name for x in await client.schedules() if not x.paused] == ["daily"]
        assert len(await _coordinators(web)) == 0


async def test_responses_do_with_the_rights_of_the_page(postgres_url: str) -> None:
    _migrate(postgres_url)
    for_responses = blocks(ON_POSTGRES, "sql")[4]
    with _role(postgres_url, for_responses, "shop") as shop:
        async with SqlResponses(shop, migrate=False) as responses:
            assert await responses.begin("a", b"f") is None
            await responses.finish("a", Response(202, b"{}"))
            assert await responses.begin("a", b"f") == Response(202, b"{}")
            assert await responses.begin("b", b"f") is None
            await responses.forget("b")


async def test_events_workers_and_queues_do_with_the_rights_of_the_page(postgres_url: str) -> None:
    """A coordinator that sends events to a queue of the database, whose worker has a user of its own."""
    _migrate(postgres_url)
    for_coordinators, for_events, for_workers, for_queues, *_ = blocks(ON_POSTGRES, "sql")
    with (
        _role(postgres_url, for_coordinators + for_events + for_queues, "shop") as shop,
        _role(postgres_url, for_workers + for_queues, "shop") as workshop,
    ):
        requests, replies = SqlQueue(shop, "requests"), SqlQueue(shop, "replies")
        async with (
            Worker([reserve], inbox=workshop) as worker,
            Coordinator(
                shop,
                sagas=[told],
                routes={"reserve": QueueTransport(requests, replies)},
                events=SqlQueue(shop, "events"),
                migrate=False,
            ) as coordinator,
            anyio.create_task_group() as group,
        ):
            group.start_soon(worker.serve, f"{workshop}&queue=requests")
            with anyio.fail_after(PATIENCE):
                assert await coordinator.run(told("lamp")) == "lamp is reserved"
                events = SqlQueue(workshop, "events")
                (delivery,) = await events.receive(wait=PATIENCE)
                await events.close()
            assert read_event(delivery.message).type == "reserved"
            group.cancel_scope.cancel()


async def _coordinators(url: str) -> Sequence[object]:
    async with Client(url) as client:
        return await client.coordinators()


# --- connections ----------------------------------------------------------------------------------------------------

_COUNT = """
    SELECT count(*) FROM pg_stat_activity
    WHERE backend_type = 'client backend' AND datname = current_database() AND pid <> pg_backend_pid()
"""
_NAMES = "SELECT application_name FROM pg_stat_activity WHERE application_name LIKE 'sagas %%' AND datname = %s"


def _said(row: str) -> tuple[int, int]:
    """Reads from the page how many connections something has: when it is quiet, and under load."""
    found = re.search(rf"^\| {re.escape(row)} \| (\d+) \| (\d+) \|$", ON_POSTGRES.read_text(), re.MULTILINE)
    assert found is not None, row
    return int(found[1]), int(found[2])


class _Everything:
    """Has everything under way at once that takes a connection."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.goes_on = threading.Event()

        @step(transactional=True)
        def wait(session: Session, number: int) -> None:
            session.connection()
            self.goes_on.wait(PATIENCE)

        @saga
        async def waiting(number: int) -> None:
            await wait(number)

        self.saga = waiting

    def count(self) -> int:
        """Says how many connections there are, but for the two of the test."""
        return int(ask(self.url, _COUNT)[0][0])

    @asynccontextmanager
    async def locked(self) -> AsyncGenerator[None]:
        """Keeps everybody from mail and from the lines of locks, and from writing any record that changes them."""
        with psycopg.connect(plain(self.url)) as connection:
            connection.execute("LOCK TABLE saga_mail, saga_lock, saga_schedule IN ACCESS EXCLUSIVE MODE")
            try:
                yield
            finally:
                connection.rollback()


@pytest.mark.parametrize("transactional", [True, False])
async def test_a_coordinator_has_no_more_connections_than_the_page_says(postgres_url: str, transactional: bool) -> None:
    quiet, most = _said("`Coordinator`" if transactional else "`Coordinator`, without transactional steps")
    everything = _Everything(postgres_url)
    async with Coordinator(postgres_url, sagas=[order, everything.saga], poll=0.02) as coordinator:
        await coordinator.start(order("first"), id="first")
        await until(lambda: ask(postgres_url, "SELECT 1 FROM saga_journal WHERE kind = 'StepSucceeded'"))
        for number in range(20 * transactional):
            await coordinator.start(everything.saga(number), id=f"waiting-{number}")
        async with anyio.create_task_group() as group, everything.locked():
            for number in range(20):
                group.start_soon(coordinator.schedules)
                group.start_soon(coordinator.start, order(f"{number}"))
            await until(lambda: everything.count() - 1 >= most)
            await anyio.sleep(0.3)
            assert everything.count() - 1 <= most
            everything.goes_on.set()
        await until(lambda: everything.count() <= quiet)
        named = {name for (name,) in ask(postgres_url, _NAMES, make_url(postgres_url).database)}
        assert named == {"sagas listens", "sagas announces", "sagas is alive"}


async def test_a_client_has_no_more_connections_than_the_page_says(postgres_url: str) -> None:
    quiet, most = _said("`Client`")
    everything = _Everything(postgres_url)
    async with Client(postgres_url, migrate=True) as client, anyio.create_task_group() as group:
        handle = await client.start(order("lamp"), id="order-1")
        group.start_soon(handle.result)
        async with anyio.create_task_group() as asking, everything.locked():
            for _ in range(20):
                asking.start_soon(client.schedules)
                asking.start_soon(client.start, order("lamp"))
            await anyio.sleep(0.5)
            assert quiet - 1 <= everything.count() - 1 <= most
        await until(lambda: everything.count() <= quiet)
        group.cancel_scope.cancel()


async def test_without_notifications_no_connection_is_kept_for_what_lasts(postgres_url: str) -> None:
    async with Coordinator(with_query(postgres_url, notify="off"), sagas=[settings]) as coordinator:
        await coordinator.run(settings())
        assert ask(postgres_url, _NAMES, make_url(postgres_url).database) == []
