"""What other processes do with a queue: ``python -m tests.adapters.sql_child URL WHAT``.

Each tells on its output what it has done, one number a line, when it is sure of it.
"""

from __future__ import annotations

import itertools
import sys

import anyio

from sagas.transport import Message
from sagas_adapters.sql import SqlQueue

_VISIBILITY = 1.0


def queue_of(url: str, name: str) -> SqlQueue:
    return SqlQueue(url, name, visibility=_VISIBILITY, max_deliveries=1_000)


def _say(what: object) -> None:
    sys.stdout.write(f"{what}\n")
    sys.stdout.flush()


async def echo(url: str) -> None:
    """Answers what comes."""
    requests, replies = queue_of(url, "requests"), queue_of(url, "replies")
    await requests.receive()
    _say("ready")

    async def answer() -> None:
        while True:
            for delivery in await requests.receive(wait=60.0):
                async with anyio.create_task_group() as group:
                    group.start_soon(replies.send, Message(body=delivery.message.body))
                    group.start_soon(requests.ack, delivery)

    async with anyio.create_task_group() as workers:
        for _ in range(32):
            workers.start_soon(answer)


async def produce(url: str) -> None:
    """Sends from several tasks."""
    queue = queue_of(url, "q")
    numbers = itertools.count()

    async def send() -> None:
        for number in numbers:
            await queue.send(Message(body=str(number).encode()))
            _say(number)

    async with anyio.create_task_group() as group:
        for _ in range(8):
            group.start_soon(send)


async def consume(url: str) -> None:
    """Deals with what comes, in several tasks."""
    queue = queue_of(url, "q")

    async def receive() -> None:
        while True:
            found = await queue.receive(3, wait=60.0)
            await queue.ack(*found)
            for delivery in found:
                _say(int(delivery.message.body))

    async with anyio.create_task_group() as group:
        for _ in range(4):
            group.start_soon(receive)


if __name__ == "__main__":
    anyio.run({"echo": echo, "produce": produce, "consume": consume}[sys.argv[2]], sys.argv[1])
