"""What every queue does: it delivers, at least once, to one consumer at a time."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Awaitable, Callable
from contextlib import nullcontext, suppress
from functools import partial
from itertools import product

import anyio
import pytest

from sagas.errors import DeliveryExpired, MessageTooLarge, NotSupported, TransportClosed
from sagas.testing.contracts.queues._case import PATIENCE, Elapse, OpenQueue, QueueCase, bodies, messages
from sagas.transport.queues import Delivery, Message, Queue

__all__ = ["DeliveryContract"]


class DeliveryContract(QueueCase):
    """Sending, receiving, acknowledging."""

    # --- what is sent -------------------------------------------------------------------------------------------

    async def test_what_is_sent_is_received_as_it_was(self, queue: Queue, elapse: Elapse) -> None:
        """Every byte of it, and every header."""
        headers = {"traceparent": "00-" + "a" * 32 + "-" + "b" * 16 + "-01", "ce-id": "1", "x": "printable: ~ !\"'"}
        await queue.send(Message(body=bytes(range(256)), headers=headers))
        (found,) = await self.arriving(queue, elapse)
        assert found.message.body == bytes(range(256))
        assert {name: found.message.headers.get(name) for name in headers} == headers
        assert (found.count, found.message.group) == (1, None)

    async def test_an_empty_body_is_a_message_too(self, queue: Queue, elapse: Elapse) -> None:
        """Its headers may say it all."""
        await queue.send(Message(body=b"", headers={"kind": "ping"}))
        (found,) = await self.arriving(queue, elapse)
        assert (found.message.body, found.message.headers.get("kind")) == (b"", "ping")

    async def test_sending_nothing_is_no_error(self, queue: Queue) -> None:
        await queue.send()
        await self.nothing_arrives(queue)

    async def test_many_sent_at_once_all_arrive(self, queue: Queue, elapse: Elapse) -> None:
        """More than one batch; in order, if the queue says so."""
        numbers = list(range(2 * queue.capabilities.max_batch + 3))
        await queue.send(*messages(*numbers))
        found: list[int] = []
        while len(found) < len(numbers):
            (one,) = await self.arriving(queue, elapse)
            await queue.ack(one)
            found.extend(bodies([one]))
        assert sorted(found) == numbers
        if queue.capabilities.ordered:
            assert found == numbers, f"{queue.name} says that it keeps the order"

    async def test_a_message_that_is_too_large_fails_before_anything_is_sent(self, queue: Queue) -> None:
        """Also what was to be sent with it; and a header counts."""
        largest = queue.capabilities.max_bytes
        if largest is None:
            pytest.skip(f"{queue.name} declares no largest message: see test_the_largest_message_arrives")
        for large in (Message(body=b"x" * (largest + 1)), Message(body=b"x" * (largest - 3), headers={"ab": "cd"})):
            with pytest.raises(MessageTooLarge, match=str(largest)):
                await queue.send(*messages(1, 2), large)
        await self.nothing_arrives(queue)

    async def test_the_largest_message_arrives(self, queue: Queue, elapse: Elapse) -> None:
        """What the capabilities promise is true."""
        size = queue.capabilities.max_bytes or 5_000_000
        await queue.send(Message(body=b"x" * size))
        (found,) = await self.arriving(queue, elapse)
        assert len(found.message.body) == size

    # --- receiving ----------------------------------------------------------------------------------------------

    async def test_no_more_is_received_than_was_asked_for(self, queue: Queue, elapse: Elapse) -> None:
        """And no more than a batch."""
        most = queue.capabilities.max_batch
        await queue.send(*messages(*range(most + 2)))
        (one,) = await self.arriving(queue, elapse)
        found = await queue.receive(most + 2)
        assert len(found) <= most
        assert not set(bodies(found)) & set(bodies([one]))

    @pytest.mark.parametrize("limit", [0, -1])
    async def test_receiving_less_than_one_is_an_error(self, queue: Queue, limit: int) -> None:
        """A loop around it would never end."""
        with pytest.raises(ValueError, match="limit"):
            await queue.receive(limit)

    async def test_an_empty_queue_gives_nothing_at_once(self, queue: Queue) -> None:
        """If nobody wants to wait."""
        with anyio.fail_after(PATIENCE):
            assert list(await queue.receive(1)) == []

    async def test_an_empty_queue_gives_nothing_after_the_wait(self, queue: Queue, elapse: Elapse) -> None:
        """Not before: whoever asks again at once would keep the broker busy."""
        found: list[list[Delivery]] = []

        async def ask() -> None:
            found.append(list(await queue.receive(1, wait=1.0)))

        with anyio.fail_after(PATIENCE):
            async with anyio.create_task_group() as group:
                group.start_soon(ask)
                await anyio.wait_all_tasks_blocked()
                await elapse(0.5)
                assert found == [], "receive() did not wait"
                await elapse(0.6)
        assert found == [[]]

    async def test_whoever_waits_gets_what_comes(self, connect: OpenQueue, queue: Queue) -> None:
        """At once, not when the wait is over."""
        sender = await connect()
        found: list[list[Delivery]] = []

        async def ask() -> None:
            found.append(list(await queue.receive(1, wait=10 * PATIENCE)))

        with anyio.fail_after(PATIENCE):
            async with anyio.create_task_group() as group:
                group.start_soon(ask)
                await anyio.wait_all_tasks_blocked()
                await sender.send(*messages(7))
        assert [bodies(each) for each in found] == [[7]]

    async def test_whoever_waits_gets_what_is_visible_again(
        self, connect: OpenQueue, queue: Queue, elapse: Elapse
    ) -> None:
        """Though nobody sends anything."""
        other = await self.beside(queue, connect)
        await queue.send(*messages(7))
        await self.arriving(queue, elapse)
        found: list[list[Delivery]] = []

        async def ask() -> None:
            found.append(list(await other.receive(1, wait=queue.visibility + 2 * self.leeway)))

        with anyio.fail_after(PATIENCE):
            async with anyio.create_task_group() as group:
                group.start_soon(ask)
                await anyio.wait_all_tasks_blocked()
                await elapse(queue.visibility + self.leeway)
                with anyio.move_on_after(1.0):  # of real time, for one that is about to
                    while not found:  # noqa: ASYNC110 - what is waited for is somebody else's code
                        await anyio.sleep(0.005)
                group.cancel_scope.cancel()
        assert [bodies(each) for each in found] == [[7]]

    async def test_whoever_stops_waiting_takes_nothing_along(
        self, connect: OpenQueue, queue: Queue, elapse: Elapse
    ) -> None:
        """What comes then is delivered to others, at the latest when it would be visible again."""
        other = await self.beside(queue, connect)
        with anyio.fail_after(PATIENCE):
            async with anyio.create_task_group() as group:
                group.start_soon(partial(queue.receive, wait=10 * PATIENCE))
                await anyio.wait_all_tasks_blocked()
                await other.send(*messages(1))
                group.cancel_scope.cancel()
        await elapse(other.visibility)
        assert bodies(await self.arriving(other, elapse)) == [1]

    # --- at least once ------------------------------------------------------------------------------------------

    async def test_what_is_acknowledged_is_never_delivered_again(
        self, connect: OpenQueue, queue: Queue, elapse: Elapse
    ) -> None:
        """To nobody. Saying it twice does no harm."""
        await queue.send(*messages(1))
        (found,) = await self.arriving(queue, elapse)
        await queue.ack(found)
        await queue.ack(found)
        for consumer in (queue, await connect()):
            await self.nothing_arrives(consumer)
        await elapse(queue.visibility + self.leeway)
        await self.nothing_arrives(queue)

    async def test_many_are_acknowledged_at_once(self, queue: Queue, elapse: Elapse) -> None:
        """Also where one of them was before; and nothing else is."""
        count = min(5, queue.capabilities.max_batch + 1)
        await queue.send(*messages(*range(count)))
        found = await self.arriving(queue, elapse, count)
        await queue.ack(found[0])
        await queue.ack(*found[:-1])
        await queue.ack()
        await elapse(queue.visibility)
        assert bodies(await self.arriving(queue, elapse)) == bodies(found[-1:])
        await self.nothing_arrives(queue)

    async def test_a_delivery_that_is_over_does_not_keep_others_from_being_acknowledged(
        self, connect: OpenQueue, queue: Queue, elapse: Elapse
    ) -> None:
        other = await self.beside(queue, connect)
        await queue.send(*messages(1))
        (late,) = await self.arriving(queue, elapse)
        await elapse(queue.visibility)
        (held,) = await self.arriving(other, elapse)
        await queue.send(*messages(2))
        (fresh,) = await self.arriving(queue, elapse)
        with nullcontext() if queue.capabilities.late == "ignored" else pytest.raises(DeliveryExpired):
            await queue.ack(late, fresh)
        await other.nack(held)
        assert bodies(await self.arriving(queue, elapse)) == [1]
        await elapse(queue.visibility)
        await self.nothing_arrives(queue)

    async def test_a_delivery_is_its_consumers_alone_until_it_is_over(
        self, connect: OpenQueue, queue: Queue, elapse: Elapse
    ) -> None:
        """Then the message is delivered again, and says that it was before."""
        other = await self.beside(queue, connect)
        await queue.send(*messages(1))
        (first,) = await self.arriving(queue, elapse)
        await self.nothing_arrives(other)
        await elapse(queue.visibility / 2)
        await self.nothing_arrives(other)
        await elapse(queue.visibility / 2)
        (second,) = await self.arriving(other, elapse)
        assert (first.count, second.count) == (1, 2)
        assert second.message.body == first.message.body
        assert second.message.headers == first.message.headers
        assert second.receipt != first.receipt

    async def test_what_is_given_back_is_delivered_again(
        self, connect: OpenQueue, queue: Queue, elapse: Elapse
    ) -> None:
        """At once, to anybody."""
        other = await self.beside(queue, connect)
        await queue.send(*messages(1))
        (first,) = await self.arriving(queue, elapse)
        await queue.nack(first)
        (second,) = await self.arriving(other, elapse)
        assert (bodies([second]), second.count) == ([1], 2)

    async def test_what_a_closed_connection_held_is_delivered_again(
        self, connect: OpenQueue, queue: Queue, elapse: Elapse
    ) -> None:
        """At the latest when it is over."""
        other = await connect()
        await queue.send(*messages(1))
        await self.arriving(queue, elapse)
        await queue.close()
        await elapse(other.visibility)
        assert bodies(await self.arriving(other, elapse)) == [1]

    async def test_a_delivery_that_is_over_is_nobodys(self, connect: OpenQueue, queue: Queue, elapse: Elapse) -> None:
        """Whatever its consumer does then is refused or ignored, as declared, and takes nothing from the next one."""
        other = await self.beside(queue, connect)
        await queue.send(*messages(1))
        (late,) = await self.arriving(queue, elapse)
        await elapse(queue.visibility)
        (held,) = await self.arriving(other, elapse)
        acts = [partial(queue.ack, late), partial(queue.nack, late)]
        if queue.capabilities.extend:
            acts.append(partial(queue.extend, late, 10 * queue.visibility))
        for act in acts:
            if queue.capabilities.late == "refused":
                with pytest.raises(DeliveryExpired):
                    await act()
            else:
                await act()
        await self.nothing_arrives(queue)
        await other.nack(held)
        assert bodies(await self.arriving(queue, elapse)) == [1]

    async def test_consumers_side_by_side_never_hold_the_same_message(self, connect: OpenQueue, queue: Queue) -> None:
        """And deal with each one once."""
        total = 40
        held: set[int] = set()
        done: Counter[int] = Counter()
        await queue.send(*messages(*range(total)))

        async def consume(consumer: Queue) -> None:
            while done.total() < total:
                for delivery in await consumer.receive(min(3, consumer.capabilities.max_batch)):
                    (number,) = bodies([delivery])
                    assert number not in held, f"{number} is held by two consumers"
                    held.add(number)
                    await anyio.sleep(0.001)
                    held.remove(number)
                    await consumer.ack(delivery)
                    done[number] += 1
                await anyio.sleep(0.001)

        with anyio.fail_after(PATIENCE):
            async with anyio.create_task_group() as group:
                for consumer in [queue, *[await connect() for _ in range(3)]]:
                    group.start_soon(consume, consumer)
        assert done == Counter(range(total))

    @pytest.mark.parametrize("seed", [1, 2, 3])
    async def test_whatever_consumers_do_no_message_is_lost(
        self, connect: OpenQueue, queue: Queue, elapse: Elapse, seed: int
    ) -> None:
        """They acknowledge, give back, forget, and leave; each message is dealt with, or delivered often enough."""
        rng = random.Random(seed)  # noqa: S311 - to be repeated
        numbers = set(range(20))
        delivered: Counter[int] = Counter()
        done: set[int] = set()
        await queue.send(*messages(*numbers))
        for _ in range(3 * queue.max_deliveries):
            consumer = await connect()
            for _ in range(len(numbers)):
                for delivery in await consumer.receive():
                    (number,) = bodies([delivery])
                    assert number not in done, f"{number} was acknowledged, and came again"
                    delivered[number] += 1
                    if (what := rng.randrange(3)) == 0:
                        await consumer.ack(delivery)
                        done.add(number)
                    elif what == 1:
                        await consumer.nack(delivery)
            await consumer.close()
            await elapse(queue.visibility)
        lost = {number for number in numbers - done if delivered[number] < queue.max_deliveries}
        assert lost == set()
        assert max(delivered.values()) <= queue.max_deliveries

    # --- a longer hold ------------------------------------------------------------------------------------------

    async def test_a_delivery_can_be_held_for_longer_or_that_is_refused(
        self, connect: OpenQueue, queue: Queue, elapse: Elapse
    ) -> None:
        """A consumer that is still at work says so; when it falls silent, others get the message."""
        other = await self.beside(queue, connect)
        await queue.send(*messages(1))
        (found,) = await self.arriving(queue, elapse)
        if not queue.capabilities.extend:
            with pytest.raises(NotSupported):
                await queue.extend(found, queue.visibility)
            await queue.ack(found)
            return
        for _ in range(4):
            await elapse(queue.visibility / 2)
            await queue.extend(found, queue.visibility)
            await self.nothing_arrives(other)
        await elapse(queue.visibility)
        (again,) = await self.arriving(other, elapse)
        assert again.count == 2

    async def test_a_delivery_may_end_while_something_else_becomes_of_it(self, queue: Queue, elapse: Elapse) -> None:
        """As one that is held for longer at the moment when its work is done. Nothing comes of it but a refusal."""
        acts: list[Callable[[Delivery], Awaitable[None]]] = [
            queue.ack,
            queue.nack,
            partial(queue.extend, seconds=queue.visibility),
        ]
        pairs = list(product(acts if queue.capabilities.extend else acts[:2], repeat=2))
        await queue.send(*messages(*range(len(pairs))))
        held = {bodies([found])[0]: found for found in await self.arriving(queue, elapse, len(pairs))}

        async def attempt(act: Callable[[Delivery], Awaitable[None]], delivery: Delivery) -> None:
            with suppress(DeliveryExpired):
                await act(delivery)

        with anyio.fail_after(PATIENCE):
            async with anyio.create_task_group() as group:
                for number, pair in enumerate(pairs):
                    for act in pair:
                        group.start_soon(attempt, act, held[number])
        await elapse(queue.visibility)
        given_back = {number for number, pair in enumerate(pairs) if queue.ack not in pair}
        again: set[int] = set()
        while not given_back <= again:
            again.update(bodies(await self.arriving(queue, elapse)))
        while more := await queue.receive(queue.capabilities.max_batch):
            again.update(bodies(more))
        either = {number for number, pair in enumerate(pairs) if queue.ack in pair and queue.nack in pair}
        assert again <= given_back | either, "a message was acknowledged, and came again"

    # --- closing ------------------------------------------------------------------------------------------------

    async def test_a_closed_connection_says_so(self, connect: OpenQueue, queue: Queue, elapse: Elapse) -> None:
        """Closing it twice does no harm, and other connections go on."""
        other = await connect()
        await queue.send(*messages(1))
        (held,) = await self.arriving(queue, elapse)
        await queue.close()
        await queue.close()
        for act in (queue.receive, partial(queue.send, *messages(2)), partial(queue.ack, held)):
            with pytest.raises(TransportClosed):
                await act()
        await other.send(*messages(3))
        found = bodies(await self.arriving(other, elapse))
        if 3 not in found:  # what was held may come sooner than it has to
            found += bodies(await self.arriving(other, elapse))
        assert 3 in found
