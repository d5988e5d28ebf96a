"""Acknowledgements that are gathered: none gets lost, and nobody waits for them."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace

import anyio
import pytest

from sagas.errors import TransportError
from sagas.transport import Delivery, MemoryQueue, Message, acks
from sagas.transport.acks import Acks

pytestmark = pytest.mark.anyio

LONG = 1e9


class Noting(MemoryQueue):
    """Notes how many were acknowledged together."""

    def __init__(self) -> None:
        super().__init__(visibility=LONG)
        self.calls: list[int] = []
        self.failures: list[Exception] = []
        self.hang = False

    async def ack(self, *deliveries: Delivery) -> None:
        self.calls.append(len(deliveries))
        if self.hang:
            await anyio.sleep_forever()
        if self.failures:
            raise self.failures.pop()
        await super().ack(*deliveries)


async def delivered(queue: MemoryQueue, count: int, *, group: str | None = None) -> Sequence[Delivery]:
    """Has some messages delivered."""
    await queue.send(*[Message(body=b"") for _ in range(count)])
    found = await queue.receive(count)
    return [replace(x, message=Message(body=b"", group=group)) for x in found]


@asynccontextmanager
async def running(gathered: Acks) -> AsyncGenerator[None]:
    async with anyio.create_task_group() as group:
        group.start_soon(gathered.run)
        yield
        group.cancel_scope.cancel()


async def until(queue: Noting, calls: int) -> None:
    with anyio.fail_after(20):
        while len(queue.calls) < calls:  # noqa: ASYNC110 - what is called is watched
            await anyio.sleep(0.001)


async def test_what_comes_together_is_acknowledged_together() -> None:
    queue = Noting()
    gathered = Acks(queue, most=100)
    async with running(gathered):
        for delivery in await delivered(queue, 5):
            gathered.put(delivery)
        await until(queue, 1)
    assert queue.calls == [5]


@pytest.mark.parametrize("why", ["a full batch", "a group", "a hurry"])
async def test_nothing_lingers_that_others_wait_for(why: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(acks, "_LINGER", LONG)
    queue = Noting()
    gathered = Acks(queue, most=3 if why == "a full batch" else 100)
    async with running(gathered):
        for delivery in await delivered(queue, 3, group="one" if why == "a group" else None):
            gathered.put(delivery)
        if why == "a hurry":
            gathered.hurry()
        await until(queue, 1)
    assert queue.calls == [3]


async def test_what_lingers_when_all_ends_is_acknowledged_by_a_flush(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(acks, "_LINGER", LONG)
    queue = Noting()
    gathered = Acks(queue, most=100)
    async with running(gathered):
        for delivery in await delivered(queue, 2):
            gathered.put(delivery)
    assert queue.calls == []
    await gathered.flush()
    assert queue.calls == [2]


async def test_a_call_that_was_cancelled_is_made_again() -> None:
    queue = Noting()
    queue.hang = True
    settled: list[Delivery] = []
    gathered = Acks(queue, most=100, settled=settled.extend)
    async with running(gathered):
        for delivery in await delivered(queue, 2):
            gathered.put(delivery)
        await until(queue, 1)
    assert settled == []
    queue.hang = False
    await gathered.flush()
    assert (queue.calls, len(settled)) == ([2, 2], 2)


@pytest.mark.parametrize("failure", [TransportError("the broker is away"), ValueError("a mistake of the adapter's")])
async def test_a_failure_keeps_no_others_from_being_acknowledged(failure: Exception) -> None:
    """What could not be is delivered again, and answered from memory."""
    queue = Noting()
    queue.failures = [failure]
    settled: list[Delivery] = []
    gathered = Acks(queue, most=100, settled=settled.extend)
    async with running(gathered):
        (first, second) = await delivered(queue, 2)
        gathered.put(first)
        await until(queue, 1)
        gathered.put(second)
        await until(queue, 2)
        with anyio.fail_after(20):
            while len(settled) < 2:  # noqa: ASYNC110 - what is settled is watched
                await anyio.sleep(0.001)
    assert settled == [first, second]
