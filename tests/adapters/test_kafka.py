"""Queues on a Kafka cluster."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator, Iterator
from typing import Any, cast
from uuid import uuid4

import anyio
import pytest
from aiokafka.consumer.group_coordinator import CoordinatorGroupRebalance
from aiokafka.errors import OutOfOrderSequenceNumber

from sagas.errors import TransportError
from sagas.testing.contracts import OpenQueue, QueueContract
from sagas.testing.contracts.queues import QueueCase
from sagas.transport import Delivery, Message, Queue, open_queue
from sagas_adapters.kafka import KafkaQueue
from tests.adapters.child import holding
from tests.adapters.loads import nothing_is_left
from tests.adapters.loops import OnAsyncio, OnOtherLoops, Some
from tests.support.servers.kafka import KafkaServer
from tests.support.servers.process import free_port

# Seconds. The mock cluster waits for the members of a group for a second less; a real one takes no less than 6.
SESSION = 1.5


@pytest.fixture(scope="session")
def kafka() -> Iterator[KafkaServer]:
    with KafkaServer() as server, pytest.MonkeyPatch.context() as patch:
        # The mock cluster refuses a member that asks for its partitions after the leader has told them; Kafka does not.
        at_once = CoordinatorGroupRebalance._on_join_leader  # noqa: SLF001

        async def later(self: CoordinatorGroupRebalance, response: Any) -> Any:
            await asyncio.sleep(0.1)
            return await at_once(self, response)

        patch.setattr(CoordinatorGroupRebalance, "_on_join_leader", later)
        yield server


class OnKafka:
    leeway = 5.0

    @pytest.fixture
    async def connect(self, kafka: KafkaServer) -> AsyncIterator[OpenQueue]:
        name, opened = f"contract-{uuid4().hex}", list[KafkaQueue]()

        async def connect() -> KafkaQueue:
            opened.append(KafkaQueue(kafka.servers, name, visibility=1.0, max_deliveries=3, session=SESSION))
            return opened[-1]

        yield connect
        for queue in opened:
            await queue.close()


async def _side_by_side(case: QueueCase, connect: OpenQueue, queue: Queue) -> None:
    """The contract's test, with consumers that have joined before: while members join, the mock takes no commits."""

    async def join(consumer: Queue) -> Queue:
        assert isinstance(consumer, KafkaQueue)
        await consumer._run(consumer._have_consumer)  # noqa: SLF001 - to receive would take messages
        return consumer

    async def joined() -> Queue:
        return await join(await connect())

    await join(queue)
    await QueueContract.test_consumers_side_by_side_never_hold_the_same_message(
        cast("QueueContract", case), joined, queue
    )


class TestKafkaQueue(OnAsyncio, OnKafka, QueueContract):
    """All of the contract."""

    async def test_consumers_side_by_side_never_hold_the_same_message(self, connect: OpenQueue, queue: Queue) -> None:
        await _side_by_side(self, connect, queue)


class TestKafkaQueueOnOtherLoops(OnOtherLoops, OnKafka, Some):
    """Some of it, or all."""

    async def test_consumers(self, connect: OpenQueue, queue: Queue) -> None:
        await _side_by_side(self, connect, queue)


@pytest.fixture
def url(kafka: KafkaServer) -> str:
    """A queue of this test's own."""
    return f"{kafka.url}?queue=q-{uuid4().hex}&visibility=60&max_deliveries=10&session={SESSION}"


class TestTroubles(OnAsyncio):
    async def test_nothing_is_lost_when_a_consumer_is_killed(self, url: str) -> None:
        """Others get its messages when it is taken for dead, and know that they were delivered before."""
        queue = open_queue(url)
        await queue.send(*(Message(body=str(number).encode(), group="a") for number in range(3)))
        async with holding(url, 1) as held:
            await anyio.sleep(1.0)  # how often it was delivered is committed meanwhile
        found = list[tuple[bytes, int]]()
        with anyio.fail_after(60):
            while len(found) < 3:
                for delivery in await queue.receive(wait=30):
                    found.append((delivery.message.body, delivery.count))
                    await queue.ack(delivery)
        assert held == {b"0"}
        assert found == [(b"0", 2), (b"1", 1), (b"2", 1)]
        await queue.close()

    async def test_the_next_consumer_knows_what_was_dealt_with_out_of_order(self, url: str) -> None:
        """Though Kafka keeps one offset only."""
        first = open_queue(url)
        await first.send(*(Message(body=str(number).encode(), headers={"n": "1"}) for number in range(20)))
        found = list[Delivery]()
        with anyio.fail_after(30):
            while len(found) < 20:
                found += await first.receive(20, wait=1)
        await first.ack(*found[1::2])
        await first.close()
        second = open_queue(url)
        again = list[Delivery]()
        with anyio.fail_after(30):
            while len(again) < 10:
                again += await second.receive(20, wait=1)
        assert {each.message.body for each in again} == {each.message.body for each in found[0::2]}
        assert {each.count for each in again} == {2}
        assert await second.receive(20, wait=1) == []
        await second.close()


@pytest.mark.anyio
async def test_without_its_brokers_nothing_waits_for_ever_and_nothing_is_called_acknowledged() -> None:
    """The producer itself tries for ever, and so do commits; closing would wait for both."""
    async with nothing_is_left():
        with KafkaServer() as server, anyio.fail_after(60):
            queue = KafkaQueue(server.servers, "q", session=SESSION, timeout=1.0)
            fresh = KafkaQueue(server.servers, "q", session=SESSION, timeout=1.0)
            await fresh.send(Message(body=b"0"))
            (held,) = await queue.receive(wait=30)
            server.kill()
            for _ in range(2):
                with pytest.raises(TransportError, match="Kafka cannot be reached"):
                    await queue.ack(held)
            with pytest.raises(TransportError, match="Kafka cannot be reached"):
                await queue.send(Message(body=b"1"))
            with pytest.raises(TransportError, match="Kafka cannot be reached"):
                await fresh.receive(wait=30)
            await fresh.close()
            await queue.close()


@pytest.mark.anyio
async def test_whoever_waits_to_join_a_group_hears_of_the_end(url: str) -> None:
    """The others keep what they hold for a minute, and so long the group waits for them."""
    holder, joining = open_queue(url), open_queue(url)
    async with nothing_is_left():
        await joining.send(Message(body=b"0"))
        (_,) = await holder.receive(wait=30)
        with anyio.fail_after(30):
            async with anyio.create_task_group() as group:
                group.start_soon(_refused, joining)
                await anyio.sleep(0.5)  # by now it has asked to join, in all likelihood
                await joining.close()
        await holder.close()


class TestProducer(OnAsyncio):
    @pytest.mark.anyio
    async def test_one_that_brokers_have_forgotten_is_replaced(self, url: str) -> None:
        """It refuses all that follows, as when its messages were too long apart."""
        queue = open_queue(url)
        assert isinstance(queue, KafkaQueue)
        await queue.send(Message(body=b"1"))
        queue._producer._message_accumulator.fail_all(OutOfOrderSequenceNumber())  # noqa: SLF001 - as its sender does
        with pytest.raises(TransportError, match="OutOfOrderSequenceNumber"):
            await queue.send(Message(body=b"2"))
        await queue.send(Message(body=b"3"))
        await queue.close()


@pytest.mark.anyio
async def test_closing_leaves_nothing_running(url: str) -> None:
    """No task and no thread, also while somebody waits."""
    async with nothing_is_left():
        queue = open_queue(url)
        await queue.send(Message(body=b"1"))
        (found,) = await queue.receive(wait=30)
        assert found.count == 1
        async with anyio.create_task_group() as group:
            group.start_soon(_refused, queue)
            await anyio.wait_all_tasks_blocked()
            await queue.close()


async def _refused(queue: Queue) -> None:
    with pytest.raises(TransportError, match="is closed"):
        await queue.receive(wait=60)


class TestOpening:
    def test_a_url_opens_it_and_shows_no_password(self) -> None:
        queue = open_queue("kafka://user:secret@one:9092,two:9092?queue=payments&max_bytes=1000&partitions=3")
        assert isinstance(queue, KafkaQueue)
        assert (queue.name, queue.capabilities.max_bytes) == ("payments", 1000)

    def test_a_password_may_have_any_letters(self) -> None:
        queue = open_queue("kafka://me%40home:p%40ss%2Fword@one:9092?queue=payments")
        assert isinstance(queue, KafkaQueue)
        assert queue._options["sasl_plain_username"] == "me@home"  # noqa: SLF001 - the mock cluster asks for none
        assert queue._options["sasl_plain_password"] == "p@ss/word"  # noqa: SLF001, S105 - the same

    @pytest.mark.anyio
    async def test_without_its_library_it_says_what_to_install(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setitem(sys.modules, "aiokafka", None)
        queue = open_queue("kafka://localhost?queue=payments")
        with pytest.raises(TransportError, match=r"pip install 'sagakit\[kafka\]'"):
            await queue.receive()
        await queue.close()

    @pytest.mark.anyio
    async def test_a_broker_that_is_not_there_is_a_transport_error(self) -> None:
        queue = open_queue(f"kafka://127.0.0.1:{free_port()}?queue=payments")
        with pytest.raises(TransportError, match="queue payments: Kafka cannot be reached"):
            await queue.send(Message(body=b"1"))
        await queue.close()
