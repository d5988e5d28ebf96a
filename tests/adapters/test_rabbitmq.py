"""Queues on a RabbitMQ server, which is killed at times."""

from __future__ import annotations

import sys
from collections.abc import AsyncGenerator, AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import Any, cast
from uuid import uuid4

import aiormq
import anyio
import pytest
from aiormq.abc import AbstractChannel

from sagas.errors import TransportError
from sagas.testing.contracts import OpenQueue, QueueContract
from sagas.transport import Message, Queue, open_queue
from sagas_adapters.rabbitmq import RabbitQueue, _Link
from tests.adapters.child import holding
from tests.adapters.loads import Load, nothing_is_left, until
from tests.adapters.loops import OnAsyncio, OnOtherLoops, Some
from tests.support.servers.process import free_port
from tests.support.servers.rabbitmq import RabbitServer, need_rabbitmq


@pytest.fixture(scope="session")
def rabbit() -> Iterator[RabbitServer]:
    need_rabbitmq()
    with RabbitServer() as server:
        yield server


class OnRabbit:
    leeway = 2.0

    @pytest.fixture
    async def connect(self, rabbit: RabbitServer) -> AsyncIterator[OpenQueue]:
        name, opened = f"contract {uuid4().hex}", list[RabbitQueue]()

        async def connect() -> RabbitQueue:
            opened.append(RabbitQueue(rabbit.url, name, visibility=1.0, max_deliveries=3))
            return opened[-1]

        yield connect
        for queue in opened:
            await queue.close()


class TestRabbitQueue(OnAsyncio, OnRabbit, QueueContract):
    """All of the contract."""


class TestRabbitQueueOnOtherLoops(OnOtherLoops, OnRabbit, Some):
    """Some of it, or all."""


@asynccontextmanager
async def _operator(rabbit: RabbitServer) -> AsyncGenerator[AbstractChannel]:
    """A connection of somebody who may do everything."""
    connection = await aiormq.connect(rabbit.url)
    yield await connection.channel()
    await connection.close()


@pytest.fixture
def url(rabbit: RabbitServer) -> str:
    """A queue of this test's own."""
    return f"{rabbit.url}?queue=q-{uuid4().hex}&visibility=60&max_deliveries=10"


class TestTroubles(OnAsyncio):
    async def test_nothing_confirmed_is_lost_when_the_broker_is_killed(self, rabbit: RabbitServer, url: str) -> None:
        """In the middle of it, twice; the connections come back by themselves."""
        load, queues = Load(), [open_queue(url) for _ in range(4)]

        async def kill_twice() -> None:
            for _ in range(2):
                # A node that is killed forgets which quorum queues it made or recovered within the last half second.
                await anyio.sleep(3)
                await anyio.to_thread.run_sync(rabbit.kill)
                await anyio.to_thread.run_sync(rabbit.start)
                before = len(load.confirmed)
                await until(lambda: len(load.confirmed) > before)  # noqa: B023 - it is over before the next round

        try:
            await load.run(queues, kill_twice)
        finally:
            for queue in queues:
                await queue.close()
        assert load.failures > 0, "the broker was not missed"

    async def test_a_consumer_that_is_killed_leaves_its_messages_to_others(self, url: str) -> None:
        """Long before they would be visible again."""
        queue = open_queue(url)
        await queue.send(*(Message(body=str(number).encode()) for number in range(3)))
        async with holding(url, 2) as held:
            (free,) = await queue.receive(3)
            assert {*held, free.message.body} == {b"0", b"1", b"2"}
            await queue.ack(free)
        with anyio.fail_after(30):
            again = [*await queue.receive(wait=30), *await queue.receive(wait=30)]
        assert {delivery.message.body for delivery in again} == held
        assert {delivery.count for delivery in again} == {2}
        await queue.close()

    async def test_what_nobody_was_given_is_not_counted(self, rabbit: RabbitServer) -> None:
        """RabbitMQ also counts what it was about to send to a consumer that is cancelled."""
        url = f"{rabbit.url}?queue=q-{uuid4().hex}&visibility=60&max_deliveries=2"
        load, queues = Load(), [open_queue(url) for _ in range(4)]

        async def send_a_thousand() -> None:
            await until(lambda: load.sent > 1000)

        await load.run(queues, send_a_thousand)
        assert list(await queues[0].dead_letters()) == []
        for queue in queues:
            await queue.close()

    async def test_a_queue_that_somebody_has_deleted_is_made_anew(self, rabbit: RabbitServer) -> None:
        """After an error, since what it held is gone."""
        queue = open_queue(f"{rabbit.url}?queue=q-{uuid4().hex}")
        await queue.send(Message(body=b"1"))
        async with _operator(rabbit) as channel:
            await channel.queue_delete(queue.name)
        with pytest.raises(TransportError, match="does not take"):
            await queue.send(Message(body=b"2"))
        await queue.send(Message(body=b"3"))
        (found,) = await queue.receive(wait=30)
        assert found.message.body == b"3"
        await queue.close()

    @pytest.mark.parametrize("refuses", [True, False])
    async def test_what_cannot_be_buried_is_buried_when_it_can_be(self, rabbit: RabbitServer, *, refuses: bool) -> None:
        """It is not held for ever by a consumer that has given it back."""
        url = f"{rabbit.url}?queue=q-{uuid4().hex}&visibility=1&max_deliveries=1"
        queue = open_queue(url)
        await queue.send(Message(body=b"1"))
        (held,) = await queue.receive(wait=30)
        dead = f"{queue.name}.dead"
        async with _operator(rabbit) as channel:
            await channel.queue_delete(dead)
            if refuses:
                full: dict[str, Any] = {"x-max-length": 0, "x-overflow": "reject-publish"}
                await channel.queue_declare(dead, arguments=full)
            with pytest.raises(TransportError, match="does not take a message for"):
                await queue.nack(held, reason="no such order")
            if refuses:
                await channel.queue_delete(dead)
        other = open_queue(url)
        with anyio.fail_after(30):
            while not (letters := await other.dead_letters()):
                assert list(await queue.receive()) == []
                await anyio.sleep(0.05)
        assert [letter.message.body for letter in letters] == [b"1"]
        await queue.close()
        await other.close()

    async def test_a_delivery_limit_of_another_is_refused(self, url: str) -> None:
        queue, other = open_queue(url), open_queue(url, max_deliveries=3)
        await queue.send(Message(body=b"1"))
        with pytest.raises(TransportError, match="exists, and is another kind of queue or has another delivery limit"):
            await other.receive()
        await queue.close()
        await other.close()


@pytest.mark.anyio
async def test_a_message_never_goes_to_a_consumer_that_is_being_left(url: str) -> None:
    """It would lie there until its time is over, though the one before was acknowledged long ago."""
    sender, taker = open_queue(url), open_queue(url)
    found: list[bytes] = []
    try:
        with anyio.fail_after(30):
            async with anyio.create_task_group() as group:
                for number in range(30):
                    group.start_soon(sender.send, Message(body=b"%d" % number))
                    (delivery,) = await taker.receive(10, wait=30)
                    group.start_soon(taker.ack, delivery)
                    found.append(delivery.message.body)
            assert await taker.receive(10) == []
    finally:
        await sender.close()
        await taker.close()
    assert found == [b"%d" % number for number in range(30)]


async def test_closing_leaves_nothing_running(url: str) -> None:
    """No task and no thread, also while somebody waits."""
    async with nothing_is_left():
        queue = open_queue(url)
        await queue.send(Message(body=b"1"), Message(body=b"2", delay=60))
        await queue.receive()
        async with anyio.create_task_group() as group:
            group.start_soon(_refused, queue)
            await anyio.wait_all_tasks_blocked()
            await queue.close()


async def _refused(queue: Queue) -> None:
    with pytest.raises(TransportError, match="is closed"):
        await queue.receive(wait=60)


def test_only_deliveries_without_another_between_them_are_acknowledged_as_one() -> None:
    """The one between may be on its way back: it would be lost."""
    link = _Link(*[cast("Any", None)] * 3)
    assert link.reach({1, 2, 4}) == 2
    link.tell(1, 2, 4)
    assert link.reach({5, 6}) == 2
    link.tell(3)
    assert link.reach({5, 6, 8}) == 6


class TestOpening:
    def test_a_url_opens_it_and_shows_no_password(self) -> None:
        queue = open_queue("amqps://user:secret@host:5671/shop?queue=payments&max_bytes=1000&heartbeat=5")
        assert isinstance(queue, RabbitQueue)
        assert (queue.name, queue.capabilities.max_bytes) == ("payments", 1000)

    @pytest.mark.anyio
    async def test_without_its_library_it_says_what_to_install(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setitem(sys.modules, "aiormq", None)
        queue = open_queue("amqp://localhost?queue=payments")
        with pytest.raises(TransportError, match=r"pip install 'sagakit\[rabbitmq\]'"):
            await queue.receive()
        await queue.close()

    @pytest.mark.anyio
    async def test_a_broker_that_is_not_there_is_a_transport_error(self) -> None:
        queue = open_queue(f"amqp://user:secret@127.0.0.1:{free_port()}?queue=payments")
        with pytest.raises(TransportError, match="queue payments: RabbitMQ cannot be reached") as raised:
            await queue.receive()
        assert "secret" not in str(raised.value)
        await queue.close()
