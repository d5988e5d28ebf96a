"""NATS JetStream: ``nats-py``, with a stream for requests and one for replies."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from benchmarks.remote.bare.port import Answers, Ask, Handle

__all__ = ["answering", "asking"]

_MOST = 64


async def _stream(jetstream: Any, name: str) -> Any:
    """Makes a stream whose messages go when they are acknowledged, and gives what pulls from it."""
    from nats.js.api import ConsumerConfig, RetentionPolicy, StorageType, StreamConfig

    config = StreamConfig(name=name, subjects=[name], retention=RetentionPolicy.WORK_QUEUE, storage=StorageType.FILE)
    await jetstream.add_stream(config)
    return await jetstream.pull_subscribe(name, durable="all", config=ConsumerConfig(max_ack_pending=10_000))


async def _pull(pulling: Any, take: Any) -> None:
    """Takes messages as they come."""
    while True:
        try:
            messages = await pulling.fetch(_MOST, timeout=5)
        except TimeoutError:  # nothing came; the library's own is one, and so is what it raises on a busy machine
            continue
        for message in messages:
            take(message)


@asynccontextmanager
async def answering(url: str, prefix: str, handle: Handle) -> AsyncIterator[str]:
    """See ``Bare``."""
    import nats

    client = await nats.connect(url)
    jetstream = client.jetstream()
    await _stream(jetstream, f"{prefix}-replies")
    pulling = await _stream(jetstream, f"{prefix}-requests")
    async with asyncio.TaskGroup() as group:

        async def answer(message: Any) -> None:
            body = await handle(message.data)
            await jetstream.publish(f"{prefix}-replies", body, headers=message.headers)
            await message.ack()

        task = group.create_task(_pull(pulling, lambda message: group.create_task(answer(message))))
        yield url
        task.cancel()
    await client.close()


@asynccontextmanager
async def asking(url: str, prefix: str) -> AsyncIterator[Ask]:
    """See ``Bare``."""
    import nats

    client = await nats.connect(url)
    jetstream = client.jetstream()
    answers = Answers()
    pulling = await jetstream.pull_subscribe(f"{prefix}-replies", durable="all")
    async with asyncio.TaskGroup() as group:

        async def hear(message: Any) -> None:
            answers.hear(message.headers["name"], message.data)
            await message.ack()

        async def ask(body: bytes) -> bytes:
            name, future = answers.expect()
            await jetstream.publish(f"{prefix}-requests", body, headers={"name": name})
            return await future

        task = group.create_task(_pull(pulling, lambda message: group.create_task(hear(message))))
        yield ask
        task.cancel()
    await client.close()
