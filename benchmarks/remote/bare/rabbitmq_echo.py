"""RabbitMQ: ``aio-pika``, with quorum queues, publisher confirms and persistent messages."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from benchmarks.remote.bare.port import Answers, Ask, Handle

__all__ = ["answering", "asking"]

_PREFETCH = 256


async def _queue(channel: Any, name: str) -> Any:
    """Makes a queue."""
    return await channel.declare_queue(name, durable=True, arguments={"x-queue-type": "quorum"})


@asynccontextmanager
async def answering(url: str, prefix: str, handle: Handle) -> AsyncIterator[str]:
    """See ``Bare``."""
    import aio_pika

    async with await aio_pika.connect_robust(url) as connection:
        channel = await connection.channel(publisher_confirms=True)
        await channel.set_qos(prefetch_count=_PREFETCH)
        await _queue(channel, f"{prefix}-replies")
        requests = await _queue(channel, f"{prefix}-requests")

        async def answer(message: Any) -> None:
            body = await handle(message.body)
            reply = aio_pika.Message(
                body, correlation_id=message.correlation_id, delivery_mode=aio_pika.DeliveryMode.PERSISTENT
            )
            await channel.default_exchange.publish(reply, f"{prefix}-replies")
            await message.ack()

        await requests.consume(answer)
        yield url


@asynccontextmanager
async def asking(url: str, prefix: str) -> AsyncIterator[Ask]:
    """See ``Bare``."""
    import aio_pika

    answers = Answers()
    async with await aio_pika.connect_robust(url) as connection:
        channel = await connection.channel(publisher_confirms=True)
        await channel.set_qos(prefetch_count=_PREFETCH)
        replies = await _queue(channel, f"{prefix}-replies")

        async def hear(message: Any) -> None:
            answers.hear(message.correlation_id, message.body)
            await message.ack()

        async def ask(body: bytes) -> bytes:
            name, future = answers.expect()
            message = aio_pika.Message(body, correlation_id=name, delivery_mode=aio_pika.DeliveryMode.PERSISTENT)
            await channel.default_exchange.publish(message, f"{prefix}-requests")
            return await future

        await replies.consume(hear)
        yield ask
