"""What all contracts of queues begin with."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import ClassVar

import anyio
import pytest

from sagas.transport.queues import Delivery, Message, Queue

__all__ = ["PATIENCE", "Elapse", "OpenQueue", "QueueCase", "bodies", "messages"]

# Opens another connection to the same queue, as another process would.
OpenQueue = Callable[[], Awaitable[Queue]]
# Lets so many seconds pass.
Elapse = Callable[[float], Awaitable[object]]

# Real seconds after which a test that should have ended has failed.
PATIENCE = 30.0
_POLLS = 40


def messages(*numbers: int, group: str | None = None) -> list[Message]:
    """Messages whose bodies are numbers."""
    return [Message(body=str(number).encode(), group=group) for number in numbers]


def bodies(found: Sequence[Delivery]) -> list[int]:
    """The numbers in messages."""
    return [int(delivery.message.body) for delivery in found]


class QueueCase:
    """Give it the fixture ``connect``.

    Attributes:
        leeway: Seconds by which the queue may deliver later than it could.
        longest: Seconds that a test may take.
    """

    pytestmark = pytest.mark.anyio
    leeway: ClassVar[float] = 5.0
    longest: ClassVar[float] = 30.0

    @pytest.fixture
    def connect(self) -> OpenQueue:
        """Opens another connection to one queue, which is empty when the test begins.

        A short ``visibility`` (a second) and few ``max_deliveries`` (three, no less) make the tests short where time
        is real.
        """
        raise NotImplementedError(
            f"{type(self).__name__} needs a fixture `connect`: an async function without parameters that opens another "
            "connection to one queue, which is empty when the test begins. See docs/how-to/write-your-own.md"
        )

    @pytest.fixture
    async def queue(self, connect: OpenQueue) -> Queue:
        """A connection."""
        return await connect()

    @pytest.fixture
    def elapse(self) -> Elapse:
        """Lets so many seconds pass; override it where time is not real."""
        return anyio.sleep

    async def beside(self, queue: Queue, connect: OpenQueue) -> Queue:
        """A connection that gets what another one gives back: any, or where each has its own part, only that one."""
        return await connect() if queue.capabilities.shared else queue

    async def arriving(self, queue: Queue, elapse: Elapse, count: int = 1) -> list[Delivery]:
        """Receives so many messages, which are there by now, or nearly."""
        found: list[Delivery] = []
        for _ in range(_POLLS):
            found.extend(await queue.receive(count - len(found)))
            if len(found) == count:
                return found
            await elapse(self.leeway / _POLLS)
        raise AssertionError(
            f"{queue.name}: of {count} messages that should be delivered now, {len(found)} came within "
            f"{self.leeway:g} s: {found}"
        )

    async def nothing_arrives(self, queue: Queue) -> None:
        """Makes sure that there is nothing to be delivered now."""
        found = await queue.receive(queue.capabilities.max_batch)
        assert found == [], f"{queue.name}: {bodies(found)} should not be delivered now"
