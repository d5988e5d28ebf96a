"""Senders and consumers at work while something is killed, and what they may expect."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field

import anyio

from sagas.errors import TransportError
from sagas.transport import Message, Queue

__all__ = ["Load", "nothing_is_left", "until"]

PATIENCE = 90.0


async def until(check: Callable[[], bool]) -> None:
    """Waits until something is so."""
    with anyio.fail_after(PATIENCE):
        while not check():  # noqa: ASYNC110 - what is waited for is in another process
            await anyio.sleep(0.01)


@dataclass
class Load:
    """Numbers that travel through a queue.

    Attributes:
        confirmed: Those whose ``send`` returned.
        dealt_with: Those that a consumer acknowledged, or tried to.
        failures: How many calls failed.
        sent: How many were tried.
    """

    confirmed: set[int] = field(default_factory=set[int])
    dealt_with: set[int] = field(default_factory=set[int])
    failures: int = 0
    sent: int = 0
    stopped: bool = False

    async def send(self, queue: Queue) -> None:
        """Sends one after the other, until it is stopped."""
        while not self.stopped:
            self.sent += 1
            number = self.sent
            try:
                await queue.send(Message(body=str(number).encode()))
                self.confirmed.add(number)
            except TransportError:
                self.failures += 1
                await anyio.sleep(0.05)

    async def consume(self, queue: Queue) -> None:
        """Takes what comes, for ever."""
        while True:
            try:
                found = await queue.receive(10, wait=1.0)
                self.dealt_with.update(int(delivery.message.body) for delivery in found)
                await queue.ack(*found)
            except TransportError:
                self.failures += 1
                await anyio.sleep(0.05)

    async def run(self, queues: Sequence[Queue], trouble: Callable[[], Awaitable[object]]) -> None:
        """Has half of the connections send and the others consume, until the trouble is over and all is received."""
        async with anyio.create_task_group() as group:
            for number, queue in enumerate(queues):
                group.start_soon(self.consume if number % 2 else self.send, queue)
            await until(lambda: len(self.dealt_with) > 20)
            await trouble()
            before = len(self.confirmed)
            await until(lambda: len(self.confirmed) > before + 20)
            self.stopped = True
            with suppress(TimeoutError):
                await until(lambda: self.confirmed <= self.dealt_with)
            group.cancel_scope.cancel()
        assert self.confirmed - self.dealt_with == set(), "these were confirmed, and lost"


@asynccontextmanager
async def nothing_is_left() -> AsyncGenerator[None]:
    """Makes sure that no task and no thread of the adapters' outlives what is done within."""
    before = _running()
    yield
    await until(lambda: _running() <= before)


def _running() -> set[object]:
    """Gives tasks and threads, without those that anyio keeps for the next call in a thread."""
    threads: set[object] = {
        each for each in threading.enumerate() if "worker" not in each.name.lower() and "Trio" not in each.name
    }
    try:
        return threads | set[object](asyncio.all_tasks())
    except RuntimeError:  # trio runs this
        return threads
