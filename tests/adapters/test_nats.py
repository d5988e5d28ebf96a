"""Queues on a NATS server, which is killed at times."""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import suppress
from dataclasses import replace
from uuid import uuid4

import anyio
import pytest

from sagas.errors import DeliveryExpired, MessageTooLarge, NotSupported, TransportError
from sagas.testing.contracts import OpenQueue, QueueContract
from sagas.transport import Message, open_queue
from sagas_adapters.nats import NatsQueue
from tests.adapters.loops import OnAsyncio, OnOtherLoops, Some
from tests.adapters.outages import MakeQueue, OutageContract
from tests.support.servers.nats import NatsServer


@pytest.fixture(scope="session")
def nats() -> Iterator[NatsServer]:
    with NatsServer() as server:
        yield server


class OnNats:
    leeway = 0.5

    @pytest.fixture
    async def connect(self, nats: NatsServer) -> AsyncIterator[OpenQueue]:
        name, opened = f"contract {uuid4().hex}", list[NatsQueue]()

        async def connect() -> NatsQueue:
            opened.append(NatsQueue(nats.url, queue=name, visibility=0.7, max_deliveries=3, dedup_window=2.0))
            return opened[-1]

        yield connect
        for queue in opened:
            await queue.close()


class TestNatsQueue(OnAsyncio, OnNats, QueueContract):
    """All of the contract."""


class TestNatsQueueOnOtherLoops(OnOtherLoops, OnNats, Some):
    """Some of it, or all."""


class TestNatsOutage(OutageContract):
    @pytest.fixture
    def server(self) -> Iterator[NatsServer]:
        with NatsServer() as server:
            yield server

    @pytest.fixture
    def url(self, server: NatsServer) -> str:
        return server.url

    @pytest.fixture
    def make(self, url: str) -> MakeQueue:
        return lambda visibility: NatsQueue(url, queue="outage", visibility=visibility, max_deliveries=1000)


@pytest.fixture
async def queue(nats: NatsServer) -> AsyncIterator[NatsQueue]:
    queue = NatsQueue(nats.url, queue=uuid4().hex, max_deliveries=2)
    yield queue
    await queue.close()


async def _received(queue: NatsQueue) -> Message:
    (delivery,) = await queue.receive(wait=10)
    await queue.ack(delivery)
    return delivery.message


async def test_a_url_opens_it(nats: NatsServer) -> None:
    url = f"{nats.url}?queue=a.b%20{uuid4().hex}&visibility=2&max_deliveries=7&dedup_window=9&max_bytes=2000&timeout=3"
    queue = open_queue(url)
    assert isinstance(queue, NatsQueue)
    assert (queue.visibility, queue.max_deliveries) == (2.0, 7)
    await queue.send(Message(body=b"1", dedup_id="a b"))
    assert await _received(queue) == Message(body=b"1", dedup_id="a b")
    assert (queue.capabilities.dedup_window, queue.capabilities.max_bytes) == (9.0, 2000)
    await queue.close()


@pytest.mark.parametrize("query", ["colour=red", "replicas=many"])
def test_what_a_url_says_is_understood_or_refused(query: str) -> None:
    with pytest.raises(TransportError, match=query.partition("=")[0]):
        open_queue(f"nats://user:secret@localhost:4222?queue=q&{query}")


async def test_a_password_is_not_told() -> None:
    queue = NatsQueue("nats://user:secret@127.0.0.1:1", queue="q", timeout=0.5)
    with pytest.raises(TransportError, match=r"queue q at nats://127\.0\.0\.1:1") as refusal:
        await queue.send(Message(body=b"x"))
    assert "secret" not in str(refusal.value)
    await queue.close()


def test_without_its_library_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "nats", None)
    with pytest.raises(TransportError, match=r"pip install 'sagakit\[nats\]'"):
        open_queue("nats://localhost:4222?queue=q")


async def test_headers_keep_what_clients_strip_or_cannot_carry(queue: NatsQueue) -> None:
    headers = {"x": "  a b  ", "percent": "100 %41", "empty": "", "space": " ", "lines": "a\r\nb", "far": "é"}
    await queue.send(Message(body=b"", headers=headers, dedup_id="é 1 "))
    assert await _received(queue) == Message(body=b"", headers=headers, dedup_id="é 1 ")


async def test_a_header_whose_name_cannot_be_one_is_refused(queue: NatsQueue) -> None:
    with pytest.raises(NotSupported, match="'two words'"):
        await queue.send(Message(body=b"1"), Message(body=b"2", headers={"two words": ""}))
    assert list(await queue.receive()) == []


async def test_a_delayed_message_is_as_it_was_sent(queue: NatsQueue) -> None:
    """Though the server takes away what was for itself."""
    await queue.send(Message(body=b"1", headers={"x": "y"}, dedup_id="id", delay=0.2))
    await queue.send(Message(body=b"1", headers={"x": "y"}, dedup_id="id"))
    assert await _received(queue) == Message(body=b"1", headers={"x": "y"}, dedup_id="id")
    assert list(await queue.receive(wait=0.5)) == []


async def test_a_message_with_a_dedup_id_can_be_redriven(queue: NatsQueue) -> None:
    await queue.send(Message(body=b"1", dedup_id="id"))
    for _ in range(2):
        (delivery,) = await queue.receive(wait=10)
        await queue.nack(delivery)
    assert await queue.redrive() == 1
    assert await _received(queue) == Message(body=b"1", dedup_id="id")


async def test_acknowledging_what_is_dead_is_refused(queue: NatsQueue) -> None:
    """It was not dealt with, as far as anybody who looks there can see."""
    await queue.send(Message(body=b"1"))
    (delivery,) = await queue.receive(wait=10)
    await queue.nack(delivery)
    (delivery,) = await queue.receive(wait=10)
    await queue.nack(delivery)
    with pytest.raises(DeliveryExpired):
        await queue.ack(delivery)
    assert len(await queue.dead_letters()) == 1


async def test_many_headers_are_too_large_for_the_server_before_anything_is_sent(queue: NatsQueue) -> None:
    headers = {f"h{number}": "x" for number in range(50_000)}
    with pytest.raises(MessageTooLarge, match="with all its headers"):
        await queue.send(Message(body=b"1"), Message(body=b"x" * 600_000, headers=headers))
    assert list(await queue.receive()) == []


async def test_what_the_server_takes_is_declared(nats: NatsServer) -> None:
    with NatsServer("max_payload: 100000") as small:
        queue = NatsQueue(small.url, queue="q")
        await queue.send(Message(body=b"1"))
        most = queue.capabilities.max_bytes
        assert most is not None
        assert 80_000 < most < 100_000
        await queue.send(Message(body=b"x" * most))
        with pytest.raises(MessageTooLarge, match=str(most)):
            await queue.send(Message(body=b"x" * (most + 1)))
        await queue.close()


async def test_whoever_stops_waiting_often_spends_no_deliveries(queue: NatsQueue) -> None:
    """The server does not keep requests of those who have left."""
    for _ in range(20):
        with anyio.move_on_after(0.01):
            await queue.receive(wait=60)
    await queue.send(Message(body=b"1"))
    (delivery,) = await queue.receive(wait=10)
    assert delivery.count == 1


@pytest.mark.parametrize("what", ["STREAM.DELETE.{}", "CONSUMER.DELETE.{}.sagas"])
async def test_what_somebody_has_deleted_is_made_anew(nats: NatsServer, what: str) -> None:
    """And nothing counts as sent or acknowledged that nobody has heard of."""
    name = uuid4().hex
    sender, taker = (NatsQueue(nats.url, queue=name, visibility=60.0) for _ in range(2))
    await sender.send(Message(body=b"1"))
    (held,) = await taker.receive(wait=10)
    with anyio.fail_after(20):
        await anyio.to_thread.run_sync(_order, nats.port, f"$JS.API.{what.format(f'sagas_{name}')}")
        with pytest.raises(TransportError, match="nobody keeps the stream"):
            await taker.ack(held)
        if what.startswith("STREAM"):
            with pytest.raises(TransportError, match="nobody keeps the stream"):
                await sender.send(Message(body=b"2"))
        await sender.send(Message(body=b"3"))
        found = set[bytes]()
        while b"3" not in found:
            found |= {delivery.message.body for delivery in await taker.receive(10, wait=1)}
    for queue in (sender, taker):
        await queue.close()


class TestSealed(OnAsyncio):
    @pytest.mark.anyio
    async def test_what_the_server_refuses_to_remove_is_not_called_acknowledged(self, queue: NatsQueue) -> None:
        """Where another connection has to ask for that, since the server may have forgotten the delivery."""
        await queue.send(Message(body=b"1"), Message(body=b"2"))
        held = await queue.receive(2, wait=10)
        link = queue._link  # noqa: SLF001 - an operator would use a client like this one
        assert link is not None
        config = (await link.jetstream.stream_info(f"sagas_{queue.name}")).config
        await link.jetstream.update_stream(replace(config, sealed=True))
        await link.close()
        for _ in range(2):
            with pytest.raises(TransportError, match="sealed"):
                await queue.ack(*held)


async def test_whoever_waits_for_messages_that_somebody_has_deleted_goes_on(nats: NatsServer, queue: NatsQueue) -> None:
    """After an error, which says so."""
    assert list(await queue.receive()) == []
    errors = list[TransportError]()

    async def wait() -> None:
        while True:
            try:
                await _received(queue)
            except TransportError as error:
                errors.append(error)
                await anyio.sleep(0.01)
            else:
                return

    with anyio.fail_after(20):
        async with anyio.create_task_group() as group:
            group.start_soon(wait)
            await anyio.wait_all_tasks_blocked()
            await anyio.to_thread.run_sync(_order, nats.port, f"$JS.API.STREAM.DELETE.sagas_{queue.name}")
            while not errors:  # noqa: ASYNC110 - what is waited for is on the server
                await anyio.sleep(0.01)
            with suppress(TransportError):
                await queue.send(Message(body=b"0"))
            await queue.send(Message(body=b"1"))


async def test_what_others_publish_arrives_too(nats: NatsServer) -> None:
    """With the names of headers as ours are."""
    name = uuid4().hex
    queue = NatsQueue(nats.url, queue=name)
    assert list(await queue.receive()) == []
    with anyio.fail_after(10):
        await anyio.to_thread.run_sync(_publish, nats.port, f"sagas.queue.{name}")
        assert await _received(queue) == Message(body=b"hello", headers={"ce-type": "greeting"})
    await queue.close()


def _publish(port: int, subject: str) -> None:
    """Speaks NATS, as any client would."""
    import socket

    headers = b"NATS/1.0\r\nCE-Type: greeting\r\n\r\n"
    with socket.create_connection(("127.0.0.1", port)) as client:
        client.sendall(b'CONNECT {"verbose":false,"headers":true}\r\n')
        client.sendall(
            b"HPUB %s %d %d\r\n%shello\r\nPING\r\n" % (subject.encode(), len(headers), len(headers) + 5, headers)
        )
        while b"PONG" not in client.recv(10_000):
            pass


def _order(port: int, subject: str) -> None:
    """Asks something of the server, as an operator would."""
    import socket

    with socket.create_connection(("127.0.0.1", port)) as client:
        client.sendall(b'CONNECT {"verbose":false}\r\nSUB answer 1\r\nPUB %s answer 0\r\n\r\n' % subject.encode())
        heard = b""
        while b'"success":true' not in heard:
            heard += client.recv(10_000)
