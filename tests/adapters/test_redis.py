"""Queues on a Redis server, which is killed at times."""

from __future__ import annotations

import socket
import sys
from collections.abc import AsyncIterator, Iterator
from uuid import uuid4

import anyio
import pytest
from redis.exceptions import ConnectionError as Disconnected

from sagas.errors import DeliveryExpired, TransportError
from sagas.testing.contracts import OpenQueue, QueueContract
from sagas.transport import Message, open_queue
from sagas_adapters.redis import RedisQueue, _Server
from tests.adapters.loops import OnAsyncio, OnOtherLoops, Some
from tests.adapters.outages import MakeQueue, OutageContract
from tests.support.servers.redis import RedisServer


@pytest.fixture(scope="session")
def redis() -> Iterator[RedisServer]:
    with RedisServer() as server:
        yield server


class OnRedis:
    leeway = 0.5

    @pytest.fixture
    async def connect(self, redis: RedisServer) -> AsyncIterator[OpenQueue]:
        name, opened = f"contract {uuid4().hex}", list[RedisQueue]()

        async def connect() -> RedisQueue:
            opened.append(RedisQueue(redis.url, queue=name, visibility=0.7, max_deliveries=3, dedup_window=2.0))
            return opened[-1]

        yield connect
        for queue in opened:
            await queue.close()


class TestRedisQueue(OnAsyncio, OnRedis, QueueContract):
    """All of the contract."""


class TestRedisQueueOnOtherLoops(OnOtherLoops, OnRedis, Some):
    """Some of it, or all."""


class TestRedisOutage(OutageContract):
    @pytest.fixture
    def server(self) -> Iterator[RedisServer]:
        with RedisServer() as server:
            yield server

    @pytest.fixture
    def url(self, server: RedisServer) -> str:
        return server.url

    @pytest.fixture
    def make(self, url: str) -> MakeQueue:
        return lambda visibility: RedisQueue(url, queue="outage", visibility=visibility, max_deliveries=1000)


@pytest.fixture
async def queue(redis: RedisServer) -> AsyncIterator[RedisQueue]:
    queue = RedisQueue(redis.url, queue=uuid4().hex, max_deliveries=2)
    yield queue
    await queue.close()


async def _received(queue: RedisQueue) -> Message:
    (delivery,) = await queue.receive(wait=10)
    await queue.ack(delivery)
    return delivery.message


async def test_a_url_opens_it(redis: RedisServer) -> None:
    """With options of redis-py's beside ours."""
    url = (
        f"{redis.url}?queue=a+{uuid4().hex}&visibility=2&max_deliveries=7&dedup_window=9&max_bytes=2000&client_name=me"
    )
    queue = open_queue(url)
    assert isinstance(queue, RedisQueue)
    assert (queue.visibility, queue.max_deliveries) == (2.0, 7)
    assert (queue.capabilities.dedup_window, queue.capabilities.max_bytes) == (9.0, 2000)
    await queue.send(Message(body=b"1", dedup_id="a b", group="g"))
    assert await _received(queue) == Message(body=b"1", dedup_id="a b", group="g")
    await queue.close()


def test_what_a_url_says_is_understood_or_refused() -> None:
    with pytest.raises(TransportError, match="dedup_window"):
        open_queue("redis://localhost:6379?queue=q&dedup_window=long")


async def test_a_password_is_not_told() -> None:
    queue = RedisQueue("redis://:secret@127.0.0.1:1/1", queue="q", timeout=0.5)
    with pytest.raises(TransportError, match=r"queue q at redis://127\.0\.0\.1:1/1") as refusal:
        await queue.send(Message(body=b"x"))
    assert "secret" not in str(refusal.value)
    await queue.close()


def test_without_its_library_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "redis", None)
    with pytest.raises(TransportError, match=r"pip install 'sagakit\[redis\]'"):
        open_queue("redis://localhost:6379?queue=q")


async def test_headers_are_any_text(queue: RedisQueue) -> None:
    headers = {"x": "  a b  ", "empty": "", "lines": "a\r\nb", "far": "é", "two words": "1"}
    await queue.send(Message(body=b"", headers=headers, dedup_id="é 1 ", group=""))
    assert await _received(queue) == Message(body=b"", headers=headers, dedup_id="é 1 ", group="")


async def test_acknowledging_what_is_dead_is_refused(queue: RedisQueue) -> None:
    """It was not dealt with, as far as anybody who looks there can see."""
    await queue.send(Message(body=b"1"))
    (delivery,) = await queue.receive(wait=10)
    await queue.nack(delivery)
    (delivery,) = await queue.receive(wait=10)
    await queue.nack(delivery)
    with pytest.raises(DeliveryExpired):
        await queue.ack(delivery)
    assert len(await queue.dead_letters()) == 1


async def test_a_server_that_forgets_scripts_is_told_again(redis: RedisServer, queue: RedisQueue) -> None:
    await queue.send(Message(body=b"1"))
    await anyio.to_thread.run_sync(_command, redis, "SCRIPT FLUSH")
    assert (await _received(queue)).body == b"1"


async def test_a_queue_that_was_deleted_begins_anew(redis: RedisServer, queue: RedisQueue) -> None:
    await queue.send(Message(body=b"1"))
    await anyio.to_thread.run_sync(_command, redis, "FLUSHALL")
    await queue.send(Message(body=b"2"))
    assert (await _received(queue)).body == b"2"


async def test_whoever_waits_gets_what_is_put_off_meanwhile(queue: RedisQueue) -> None:
    """Though it did not know of it when it went to sleep."""
    found: list[bytes] = []

    async def wait() -> None:
        found.append((await _received(queue)).body)

    with anyio.fail_after(10):
        async with anyio.create_task_group() as group:
            group.start_soon(wait)
            await anyio.wait_all_tasks_blocked()
            await queue.send(Message(body=b"1", delay=0.3))
    assert found == [b"1"]


async def test_a_group_keeps_its_order_over_delays_and_dead_letters(queue: RedisQueue) -> None:
    """Whoever is first keeps away all that are behind, until it is dealt with or dead."""
    await queue.send(Message(body=b"1", group="g", delay=0.3), Message(body=b"2", group="g"), Message(body=b"3"))
    assert (await _received(queue)).body == b"3"
    assert list(await queue.receive()) == []
    for _ in range(2):
        (delivery,) = await queue.receive(10, wait=10)
        assert delivery.message.body == b"1"
        await queue.nack(delivery)
    assert (await _received(queue)).body == b"2"
    assert await queue.redrive() == 1
    assert (await _received(queue)).body == b"1"


async def test_what_is_dealt_with_leaves_nothing_behind(redis: RedisServer, queue: RedisQueue) -> None:
    """But the stream, which keeps its group, the bell and a count."""
    await queue.send(Message(body=b"1", group="g"), Message(body=b"2", group="g"), Message(body=b"3", delay=0.1))
    for _ in range(3):
        await _received(queue)
    keys = await anyio.to_thread.run_sync(
        _command, redis, f"EVAL \"return table.concat(redis.call('KEYS', '{_root(queue)}*'), ' ')\" 0"
    )
    left = {key.rpartition(":")[2] for key in keys.split("\r\n")[1].split()}
    assert left == {"stream", "bell", "number"}


def _root(queue: RedisQueue) -> str:
    return f"sagas:{{{queue.name}}}"


def _command(redis: RedisServer, command: str) -> str:
    """Speaks Redis, as any client would."""
    with socket.create_connection(("127.0.0.1", redis.port)) as client:
        client.sendall(command.encode() + b"\r\n")
        return client.recv(10_000).decode()


@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_what_goes_on_while_it_is_closed_leaves_no_connection(redis: RedisServer) -> None:
    """Such as a call that was about to be made again."""
    server = _Server(redis.url, "sagas:{closed}", 5.0)
    assert await server.dead() == []
    await server.close()
    with pytest.raises(Disconnected, match="closed"):
        await server.dead()
