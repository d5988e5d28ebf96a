"""The queue in memory is the reference for every other, with all that it can and with nothing of it."""

from __future__ import annotations

from dataclasses import replace

import anyio
import pytest

from sagas.testing.contracts import Elapse, OpenQueue, QueueContract
from sagas.transport import Capabilities, MemoryQueue, Message
from tests.transport.virtual import VirtualClock


class MemoryQueueContract(QueueContract):
    """In time that does not pass by itself."""

    longest = 1_000.0
    capabilities = MemoryQueue.ABLE

    @pytest.fixture
    def clock(self) -> VirtualClock:
        return VirtualClock()

    @pytest.fixture
    def elapse(self, clock: VirtualClock) -> Elapse:
        return clock.advance

    @pytest.fixture
    def connect(self, clock: VirtualClock) -> OpenQueue:
        first = MemoryQueue(visibility=10.0, max_deliveries=3, capabilities=self.capabilities, clock=clock)

        async def connect() -> MemoryQueue:
            return first.connect()

        return connect


class TestMemoryQueue(MemoryQueueContract):
    """All that it can."""


class TestQueueThatCanDoNothing(MemoryQueueContract):
    """The least that a queue is; and it says so."""

    capabilities = Capabilities(max_batch=1)


class TestQueueThatIgnoresWhatIsLate(MemoryQueueContract):
    capabilities = replace(MemoryQueue.ABLE, late="ignored", max_bytes=None)


async def test_by_itself_it_goes_by_real_time() -> None:
    """Whoever waits sleeps until a delivery is over."""
    queue = MemoryQueue(visibility=0.05)
    await queue.send(Message(body=b"1"))
    (first,) = await queue.receive()
    with anyio.fail_after(10):
        (again,) = await queue.receive(wait=60)
    assert (first.count, again.count) == (1, 2)
