"""What a queue does if it says that it can; and if it cannot, it says that instead of pretending."""

from __future__ import annotations

import pytest

from sagas.errors import NotSupported
from sagas.testing.contracts.queues._case import Elapse, OpenQueue, QueueCase, bodies, messages
from sagas.transport.queues import Message, Queue

__all__ = ["DeadLetterContract", "DedupContract", "DelayContract", "GroupContract"]


class DelayContract(QueueCase):
    """Delays, of what is sent and of what is given back."""

    async def test_a_delayed_message_comes_when_it_is_due_or_is_refused(self, queue: Queue, elapse: Elapse) -> None:
        """Not before; and others are not held up."""
        delayed = Message(body=b"1", delay=2.0)
        if not queue.capabilities.delay:
            with pytest.raises(NotSupported):
                await queue.send(*messages(2), delayed)
            await self.nothing_arrives(queue)
            return
        await queue.send(delayed, *messages(2))
        (first,) = await self.arriving(queue, elapse)
        assert bodies([first]) == [2], "a message came before its delay was over"
        await queue.ack(first)
        await elapse(1.0)
        await self.nothing_arrives(queue)
        await elapse(1.0)
        (second,) = await self.arriving(queue, elapse)
        assert (bodies([second]), second.count) == ([1], 1)

    async def test_what_is_put_off_comes_when_it_is_due_or_that_is_refused(self, queue: Queue, elapse: Elapse) -> None:
        """Longer than it is visible; if that is refused, it is still its consumer's."""
        await queue.send(*messages(1))
        (found,) = await self.arriving(queue, elapse)
        if not queue.capabilities.nack_delay:
            with pytest.raises(NotSupported):
                await queue.nack(found, delay=2.0)
            await self.nothing_arrives(queue)
            await queue.ack(found)
            return
        delay = 2 * queue.visibility
        await queue.nack(found, delay=delay)
        await self.nothing_arrives(queue)
        await elapse(0.75 * delay)
        await self.nothing_arrives(queue)
        await elapse(0.25 * delay)
        assert (await self.arriving(queue, elapse))[0].count == 2


class GroupContract(QueueCase):
    """Messages that belong together, one after the other."""

    async def test_a_group_is_delivered_in_order_or_refused(self, queue: Queue, elapse: Elapse) -> None:
        if not queue.capabilities.groups:
            with pytest.raises(NotSupported):
                await queue.send(*messages(1), *messages(2, group="a"))
            await self.nothing_arrives(queue)
            return
        for number in range(5):
            await queue.send(*messages(number, group="a"), *messages(10 + number, group="b"))
        found: list[int] = []
        while len(found) < 10:
            (one,) = await self.arriving(queue, elapse)
            assert one.message.group == ("a" if bodies([one])[0] < 10 else "b")
            await queue.ack(one)
            found.extend(bodies([one]))
        assert [number for number in found if number < 10] == [0, 1, 2, 3, 4]
        assert [number for number in found if number >= 10] == [10, 11, 12, 13, 14]

    async def test_a_group_waits_for_the_message_that_somebody_holds(
        self, connect: OpenQueue, queue: Queue, elapse: Elapse
    ) -> None:
        """Other groups do not."""
        self._need_groups(queue)
        other = await self.beside(queue, connect)
        await queue.send(*messages(1, 2, group="a"))
        (held,) = await self.arriving(queue, elapse)
        await self.nothing_arrives(other)
        await other.send(*messages(11, group="b"))
        (free,) = await self.arriving(other, elapse)
        assert bodies([held, free]) == [1, 11]
        await queue.ack(held)
        assert bodies(await self.arriving(other, elapse)) == [2]

    async def test_what_is_given_back_stays_the_first_of_its_group(
        self, connect: OpenQueue, queue: Queue, elapse: Elapse
    ) -> None:
        """Whether its consumer gave it back, or fell silent."""
        self._need_groups(queue)
        other = await self.beside(queue, connect)
        await queue.send(*messages(1, 2, group="a"))
        (found,) = await self.arriving(queue, elapse)
        await queue.nack(found)
        assert bodies(await self.arriving(other, elapse)) == [1]
        await elapse(queue.visibility)
        (again,) = await self.arriving(queue, elapse)
        assert (bodies([again]), again.count) == ([1], 3)

    @staticmethod
    def _need_groups(queue: Queue) -> None:
        """Leaves a test out."""
        if not queue.capabilities.groups:
            pytest.skip(f"{queue.name} has no groups: see test_a_group_is_delivered_in_order_or_refused")


class DedupContract(QueueCase):
    """Duplicates that a sender makes, when it does not know whether it has sent."""

    async def test_a_duplicate_is_dropped_or_its_id_is_refused(
        self, connect: OpenQueue, queue: Queue, elapse: Elapse
    ) -> None:
        """Whoever sends it; also when the first one is dealt with. Others are not."""
        one, two = (Message(body=body, dedup_id=f"id {body.decode()}") for body in (b"1", b"2"))
        if queue.capabilities.dedup_window is None:
            with pytest.raises(NotSupported):
                await queue.send(*messages(3), one)
            await self.nothing_arrives(queue)
            return
        other = await connect()
        await queue.send(one)
        await other.send(one, two, one)
        found = [*await self.arriving(queue, elapse), *await self.arriving(queue, elapse)]
        assert sorted(bodies(found)) == [1, 2]
        for delivery in found:
            await queue.ack(delivery)
        await other.send(one)
        await self.nothing_arrives(queue)

    async def test_after_the_window_an_id_is_new(self, queue: Queue, elapse: Elapse) -> None:
        """So that nothing has to be remembered for ever."""
        window = queue.capabilities.dedup_window
        if window is None:
            pytest.skip(f"{queue.name} drops no duplicates: see test_a_duplicate_is_dropped_or_its_id_is_refused")
        if window > self.longest:
            pytest.skip(f"{queue.name} remembers ids for {window:g} s, and a test takes {self.longest:g} s at most")
        message = Message(body=b"1", dedup_id="id")
        await queue.send(message)
        await queue.ack((await self.arriving(queue, elapse))[0])
        await elapse(window + self.leeway)
        await queue.send(message)
        assert bodies(await self.arriving(queue, elapse)) == [1]


class DeadLetterContract(QueueCase):
    """Messages that nobody can handle."""

    async def test_what_was_delivered_too_often_is_not_delivered_any_more(self, queue: Queue, elapse: Elapse) -> None:
        """Not sooner, and not later; what is behind it goes on."""
        await queue.send(*messages(1))
        for count in range(1, queue.max_deliveries + 1):
            (found,) = await self.arriving(queue, elapse)
            assert found.count == count
            await queue.nack(found)
        await self.nothing_arrives(queue)
        await elapse(queue.visibility + self.leeway)
        await self.nothing_arrives(queue)
        await queue.send(*messages(2))
        assert bodies(await self.arriving(queue, elapse)) == [2]

    async def test_a_dead_letter_tells_why_or_there_are_none(self, queue: Queue, elapse: Elapse) -> None:
        """What the last consumer said, or that it said nothing."""
        if not queue.capabilities.dead_letters:
            with pytest.raises(NotSupported):
                await queue.dead_letters()
            with pytest.raises(NotSupported):
                await queue.redrive()
            return
        assert list(await queue.dead_letters()) == []
        for number, speaks in ((1, True), (2, False)):
            await queue.send(Message(body=str(number).encode(), headers={"kind": "order"}))
            await self._exhaust(queue, elapse, speaks=speaks)
        said, silent = sorted(await queue.dead_letters(), key=lambda dead: dead.message.body)
        assert (said.message.body, said.message.headers.get("kind")) == (b"1", "order")
        assert said.reason == "no such order"
        assert silent.message.body == b"2"
        assert silent.reason, "a dead letter has a reason, also if its consumers said nothing"
        assert silent.reason != said.reason
        assert {said.count, silent.count} == {queue.max_deliveries}

    async def test_dead_letters_can_be_sent_back(self, connect: OpenQueue, queue: Queue, elapse: Elapse) -> None:
        """One, or all; they are as new."""
        if not queue.capabilities.dead_letters:
            pytest.skip(f"{queue.name} has no dead letters: see test_a_dead_letter_tells_why_or_there_are_none")
        for number in (1, 2, 3):
            await queue.send(*messages(number))
            await self._exhaust(queue, elapse, speaks=True)
        other = await connect()
        dead = {letter.message.body: letter.id for letter in await other.dead_letters()}
        assert set(dead) == {b"1", b"2", b"3"}
        assert await other.redrive([dead[b"2"]]) == 1
        (found,) = await self.arriving(queue, elapse)
        assert (bodies([found]), found.count) == ([2], 1)
        await queue.ack(found)
        assert {letter.message.body for letter in await other.dead_letters()} == {b"1", b"3"}
        assert len(await other.dead_letters(1)) == 1
        assert await other.redrive() == 2
        assert await other.redrive() == 0
        assert list(await other.dead_letters()) == []
        assert sorted(bodies(await self.arriving(queue, elapse, 2))) == [1, 3]

    async def _exhaust(self, queue: Queue, elapse: Elapse, *, speaks: bool) -> None:
        """Fails to handle the only message, as often as it comes."""
        for _ in range(queue.max_deliveries):
            (found,) = await self.arriving(queue, elapse)
            if speaks:
                await queue.nack(found, reason="no such order")
            else:
                await elapse(queue.visibility)
        if not speaks:
            await elapse(self.leeway)  # a queue may also be so late with noticing that this was the last time
        await self.nothing_arrives(queue)
