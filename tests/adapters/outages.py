"""What a queue on a broker has to survive: the broker is killed, and consumers are."""

from __future__ import annotations

import math
import subprocess
import sys
import textwrap
from collections.abc import Callable
from contextlib import suppress

import anyio
import anyio.to_thread
import pytest

from sagas.errors import DeliveryExpired, TransportClosed, TransportError
from sagas.transport import Message, Queue
from tests.adapters.loads import nothing_is_left
from tests.support.servers.process import Server

__all__ = ["MakeQueue", "OutageContract"]

# Makes a connection to a queue of this test's own: with so many seconds of visibility.
MakeQueue = Callable[[float], Queue]

_KILLS = 3
_PATIENCE = 60.0


class Load:
    """Senders and consumers that go on, whatever happens to the broker.

    Attributes:
        confirmed: Numbers whose ``send`` returned.
        arrived: Numbers that were received.
        troubles: How often somebody was told that something went wrong.
    """

    def __init__(self, make: MakeQueue) -> None:
        self._make = make
        self.confirmed: set[int] = set()
        self.arrived: set[int] = set()
        self.troubles = 0
        self.sending = True

    async def send(self, first: int) -> None:
        """Sends numbers in twos, one of each a little later; again and again, until it is confirmed."""
        queue, number = self._make(1.0), first
        while self.sending:
            batch = [
                Message(body=str(number).encode()),
                Message(body=str(number + 1).encode(), headers={"kind": "later"}, delay=0.2),
            ]
            try:
                await queue.send(*batch)
            except TransportError:
                await self._recover()
            else:
                self.confirmed |= {number, number + 1}
                number += 2
        await queue.close()

    async def consume(self) -> None:
        """Receives and acknowledges, until all that was confirmed has arrived."""
        queue = self._make(1.0)
        while self.sending or not self.confirmed <= self.arrived:
            try:
                found = await queue.receive(10, wait=0.5)
                self.arrived |= {int(delivery.message.body) for delivery in found}
                with suppress(DeliveryExpired):
                    await queue.ack(*found)
            except TransportError:
                await self._recover()
        await queue.close()

    async def _recover(self) -> None:
        self.troubles += 1
        await anyio.sleep(0.02)

    async def reach(self, count: int) -> None:
        """Waits until so many are confirmed."""
        while len(self.confirmed) < count:  # noqa: ASYNC110 - what is waited for is somebody else's code
            await anyio.sleep(0.01)


class OutageContract:
    """Give it the fixtures ``server``, of each test's own, and ``make``."""

    async def test_nothing_that_was_confirmed_is_lost_when_the_broker_is_killed(
        self, server: Server, make: MakeQueue
    ) -> None:
        """Again and again, under load. Duplicates are allowed, and connections mend themselves."""
        load = Load(make)
        with anyio.fail_after(_PATIENCE):
            async with anyio.create_task_group() as group:
                for number in range(3):
                    group.start_soon(load.send, 1_000_000 * number)
                    group.start_soon(load.consume)
                for _ in range(_KILLS):
                    await load.reach(len(load.confirmed) + 60)
                    await anyio.to_thread.run_sync(server.kill)
                    await anyio.to_thread.run_sync(server.start)
                await load.reach(len(load.confirmed) + 60)
                load.sending = False
        assert load.confirmed <= load.arrived
        assert load.troubles >= _KILLS, "somebody has to be told that what was under way may not have been done"

    async def test_a_broker_that_is_away_is_a_transport_error_and_forgiven(
        self, server: Server, make: MakeQueue
    ) -> None:
        """Also for whoever waits. What was delivered before can still be acknowledged."""
        queue, fresh = make(30.0), make(30.0)
        await queue.send(Message(body=b"1"))
        (held,) = await queue.receive(wait=10)
        server.kill()
        for each in (queue, fresh):
            with anyio.fail_after(10), pytest.raises(TransportError):
                await each.receive(wait=30)
            with pytest.raises(TransportError):
                await each.send(Message(body=b"2"))
        server.start()
        await queue.ack(held)
        await fresh.send(Message(body=b"3"))
        (found,) = await queue.receive(wait=10)
        assert found.message.body == b"3"
        for each in (queue, fresh):
            await each.close()

    async def test_whoever_waits_for_ever_gets_what_comes_or_hears_of_the_end(self, make: MakeQueue) -> None:
        """An endless wait is no error, and closing ends it."""
        queue, found = make(30.0), list[bytes]()

        async def wait() -> None:
            with pytest.raises(TransportClosed):
                while True:
                    for delivery in await queue.receive(wait=math.inf):
                        found.append(delivery.message.body)
                        await queue.ack(delivery)

        async with nothing_is_left():
            with anyio.fail_after(20):
                async with anyio.create_task_group() as group:
                    group.start_soon(wait)
                    await anyio.wait_all_tasks_blocked()
                    await queue.send(Message(body=b"1"))
                    while not found:  # noqa: ASYNC110 - what is waited for is in another task
                        await anyio.sleep(0.01)
                    await queue.close()
        assert found == [b"1"]

    async def test_what_a_killed_consumer_held_is_delivered_to_others(self, url: str, make: MakeQueue) -> None:
        """When its time is over; and what it was waiting for, at once."""
        queue = make(1.0)
        await queue.send(Message(body=b"held"))
        with _consumer(f"{url}?queue=outage&visibility=1") as process:
            assert process.stdout is not None
            line = await anyio.to_thread.run_sync(process.stdout.readline)
            assert line == b"held\n"
            await anyio.sleep(0.1)  # by now it waits for the next one, in all likelihood
            process.kill()
            process.wait()
        await queue.send(Message(body=b"fresh"))
        found: dict[bytes, int] = {}
        with anyio.fail_after(10):
            while len(found) < 2:
                for delivery in await queue.receive(wait=10):
                    found[delivery.message.body] = delivery.count
        assert found[b"held"] == 2
        await queue.close()


def _consumer(url: str) -> subprocess.Popen[bytes]:
    """A process that takes a message, and then waits for another one."""
    code = f"""
        import asyncio
        from sagas.transport import open_queue

        async def main():
            queue = open_queue({url!r})
            (delivery,) = await queue.receive(wait=30)
            print(delivery.message.body.decode(), flush=True)
            await queue.receive(wait=30)

        asyncio.run(main())
    """
    return subprocess.Popen([sys.executable, "-c", textwrap.dedent(code)], stdout=subprocess.PIPE)
