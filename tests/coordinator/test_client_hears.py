"""How the end of a saga reaches whoever waits in another process: by notification, and all the same without."""

# ruff: noqa: SLF001 - looks behind the scenes, where users do not

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import Any

import anyio
import psycopg
import pytest
from sqlalchemy import make_url

from sagas import Client, Coordinator, Retry, SagaStuck, saga, step
from sagas.coordinator import watching
from sagas.coordinator.watching import Watching
from sagas.stores.memory import MemoryStore
from sagas.stores.port import SagaRow
from sagas.stores.postgres import PostgresStore
from tests.coordinator.places import Gate, until

# Longer than any test takes: who looks only so often does not find out by looking.
NEVER = 3600.0


class CountingStore(PostgresStore):
    """Counts how often somebody looks."""

    looks = 0

    def get(self, saga_id: str) -> SagaRow | None:
        self.looks += 1
        return super().get(saga_id)


class DeafStore(PostgresStore):
    """Hears nothing, as behind a pooler."""

    def listen(self, patience: float) -> Sequence[str] | None:
        return None


class MuteStore(PostgresStore):
    """Hears, and is not heard."""

    def announce(self, messages: Sequence[str]) -> None:
        super().announce([message for message in messages if message.startswith("echo:")])


class Stopping:
    """A saga whose step waits at a gate."""

    def __init__(self) -> None:
        self.gate = Gate()
        self.broken = False

        @step(pivot=True, retry=Retry(attempts=1))
        async def stop_here(number: int) -> int:
            await self.gate.wait()
            if self.broken:
                raise OSError("broken")
            return number

        @saga
        async def body(number: int) -> int:
            return await stop_here(number)

        self.saga = body


def hears(one: Client | Coordinator) -> bool:
    """Says whether notifications are heard."""
    return one._running().watching._hearing


def knows_of(coordinator: Coordinator, saga_id: str) -> bool:
    """Says whether a coordinator knows that somebody waits."""
    return saga_id in coordinator._running().watching._watched


async def reached(check: Any) -> None:
    """Waits until something holds."""

    async def now() -> bool:
        return bool(check())

    await until(now)


async def test_an_end_arrives_by_notification(postgres_url: str) -> None:
    """Without looking meanwhile, to everybody who waits, on no thread of their own."""
    work, store = Stopping(), CountingStore(postgres_url)
    results: list[int] = []
    looks = threads = 0
    async with Coordinator(postgres_url, sagas=[work.saga]) as coordinator, Client(store, poll=NEVER) as client:

        async def run(number: int) -> None:
            results.append(await client.run(work.saga(number), id=f"s{number}"))

        with anyio.fail_after(20):
            async with anyio.create_task_group() as group:
                for number in range(50):
                    group.start_soon(run, number)
                await work.gate.arrival(50)
                await reached(lambda: hears(client))
                looks, threads = store.looks, threading.active_count()
                await reached(lambda: all(knows_of(coordinator, f"s{n}") for n in range(50)))
                work.gate.open()
    assert sorted(results) == list(range(50))
    assert store.looks - looks <= 100, "one look each when it began to hear, and one when it was told of the end"
    assert threads < 30


async def test_a_saga_that_gets_stuck_is_told_of_too(postgres_url: str) -> None:
    """Each time."""
    work = Stopping()
    work.broken = True
    async with Coordinator(postgres_url, sagas=[work.saga]) as coordinator, Client(postgres_url, poll=NEVER) as client:
        with anyio.fail_after(20):
            handle = await client.start(work.saga(1), id="s")
            for _ in range(3):
                async with anyio.create_task_group() as group:

                    async def wait() -> None:
                        with pytest.raises(SagaStuck, match="broken"):
                            await handle.result()

                    group.start_soon(wait)
                    await work.gate.arrival()
                    await reached(lambda: hears(client) and knows_of(coordinator, "s"))
                    work.gate.open()
                work.gate = Gate()
                await client.retry("s")
            work.broken = False
            work.gate.open()
            assert await handle.result() == 1


async def test_an_end_between_the_look_and_the_notice_of_the_wait_is_told_all_the_same(postgres_url: str) -> None:
    """The coordinator remembers what ended of late."""
    work = Stopping()
    async with Coordinator(postgres_url, sagas=[work.saga]) as coordinator, Client(postgres_url, poll=NEVER) as client:
        await reached(lambda: hears(coordinator))
        with anyio.fail_after(20):
            work.gate.open()
            watching = client._running().watching
            handle = await client.start(work.saga(1), id="s")
            with watching.wait_for("s") as waiter:
                await reached(lambda: hears(client))
                waiter._news = anyio.Event()

                async def ended() -> bool:
                    return (await client.get("s")).status == "completed"

                await until(ended)
                waiter.ask()
                await waiter.news()
            assert await handle.result() == 1


@pytest.mark.parametrize("deaf", ["client", "coordinator", "mute"])
async def test_without_notifications_an_end_is_found_by_looking(postgres_url: str, deaf: str) -> None:
    """Whichever side does not hear or speak."""
    work = Stopping()
    of_coordinator = {"coordinator": DeafStore, "mute": MuteStore}.get(deaf, PostgresStore)
    of_client = DeafStore if deaf == "client" else PostgresStore
    work.gate.open()
    async with (
        Coordinator(of_coordinator(postgres_url), sagas=[work.saga]),
        Client(of_client(postgres_url), poll=0.05) as client,
    ):
        with anyio.fail_after(10):
            assert await client.run(work.saga(1)) == 1


async def test_a_listener_that_was_cut_off_listens_again(postgres_url: str) -> None:
    """And looks in between, so that nothing is missed."""
    work = Stopping()
    async with Coordinator(postgres_url, sagas=[work.saga]) as coordinator, Client(postgres_url, poll=NEVER) as client:
        results: list[int] = []

        async def run(number: int) -> None:
            results.append(await client.run(work.saga(number), id=f"s{number}"))

        with anyio.fail_after(30):
            async with anyio.create_task_group() as group:
                group.start_soon(run, 1)
                await reached(lambda: hears(client) and knows_of(coordinator, "s1"))
                for end_it in (False, True):
                    assert _cut(postgres_url, "sagas listens") == 2
                    await reached(lambda: not hears(client))
                    if end_it:
                        work.gate.open()
                    else:
                        await reached(lambda: hears(client) and hears(coordinator) and knows_of(coordinator, "s1"))
        assert results == [1]


async def test_announcements_that_were_cut_off_go_on(postgres_url: str) -> None:
    """On a new connection."""
    work = Stopping()
    work.gate.open()
    async with Coordinator(postgres_url, sagas=[work.saga]), Client(postgres_url, poll=0.2) as client:
        for number in range(3):
            with anyio.fail_after(10):
                assert await client.run(work.saga(number)) == number
            _cut(postgres_url, "sagas announces")


def _cut(url: str, what: str) -> int:
    """Ends connections as a server or a network does; gives how many."""
    target = make_url(url).set(drivername="postgresql").render_as_string(hide_password=False)
    with psycopg.connect(target, autocommit=True) as connection:
        cut = connection.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
            "WHERE application_name = %s AND datname = current_database()",
            (what,),
        )
        return len(cut.fetchall())


# --- what is remembered ---------------------------------------------------------------------------------------------


class Announcing(MemoryStore):
    """A store that says that it announces."""

    announces = True


def told(watching: Watching) -> list[str]:
    """What is about to be announced."""
    messages, watching._outbox = list(watching._outbox), {}
    return messages


def test_what_is_remembered_of_others_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """The oldest are forgotten; those who wait for them look by themselves."""
    monkeypatch.setattr(watching, "_REMEMBERED", 3)
    one = Watching(Announcing())
    one.hear([])
    assert told(one) == ["who"]
    one.hear([f"watch:{number}" for number in (1, 2, 3, 1, 4)])
    for number in range(1, 5):
        one.changed(str(number), "completed")
    assert told(one) == ["done:1", "done:3", "done:4"]
    for number in range(5, 9):
        one.changed(str(number), "compensated")
    one.hear([f"watch:{number}" for number in range(5, 9)])
    assert told(one) == ["done:6", "done:7", "done:8"]


def test_a_recent_end_is_told_once_and_a_saga_that_goes_on_is_no_end() -> None:
    """Else two who wait for one that was stuck would call each other for ever."""
    one = Watching(Announcing())
    one.hear([])
    assert told(one) == ["who"]
    one.changed("s", "stuck")
    one.hear(["watch:s", "watch:s"])
    assert told(one) == ["done:s"]
    one.changed("s", "running")
    one.changed("s", "completed")
    assert told(one) == ["done:s"]
    one.changed("t", "stuck")
    one.changed("t", "running")
    one.hear(["watch:t"])
    assert not told(one)


def test_who_hears_nothing_remembers_nothing() -> None:
    """It would only grow."""
    one = Watching(Announcing())
    one.changed("s", "completed")
    one.hear([])
    one.hear(["watch:s"])
    assert told(one) == ["who"]
    one.hear(None)
    one.changed("s", "stuck")
    assert not told(one)


def test_who_begins_to_listen_asks_who_waits() -> None:
    """A coordinator that was away for a moment hears of every watch again; a client needs none."""
    waiting, coordinator = Watching(Announcing(), tells=False), Watching(Announcing())
    with waiting.wait_for("s"), waiting.wait_for("t"):
        waiting.hear([])
        assert not told(waiting)
        coordinator.hear([])
        waiting.hear(told(coordinator))
        coordinator.hear(told(waiting))
    coordinator.changed("s", "completed")
    coordinator.changed("u", "completed")
    assert told(coordinator) == ["done:s"]
