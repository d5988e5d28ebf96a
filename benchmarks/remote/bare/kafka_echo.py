"""Kafka: ``aiokafka``, with a topic for requests and one for replies, and offsets committed by hand."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import urlsplit

from benchmarks.remote.bare.port import Answers, Ask, Handle

__all__ = ["answering", "asking"]

_MOST, _WAIT = 256, 1_000
_FETCH = 200  # milliseconds, as our own adapter has it: by default the mock cluster makes everybody wait longer


@asynccontextmanager
async def _ends(url: str, read: str) -> AsyncIterator[tuple[Any, Any]]:
    """Gives a consumer of a topic, and a producer."""
    from aiokafka import AIOKafkaConsumer, AIOKafkaProducer

    servers = urlsplit(url).netloc
    async with AIOKafkaProducer(bootstrap_servers=servers, acks="all") as producer:
        await producer.partitions_for(read)  # which has the broker make the topic
        consumer = AIOKafkaConsumer(
            read, bootstrap_servers=servers, group_id=read, enable_auto_commit=False, auto_offset_reset="earliest",
            fetch_max_wait_ms=_FETCH,
        )  # fmt: skip
        async with consumer:
            yield consumer, producer


async def _read(consumer: Any, take: Callable[[Any], Awaitable[None]]) -> None:
    """Takes messages as they come; commits when all of some are dealt with."""
    while True:
        found = await consumer.getmany(timeout_ms=_WAIT, max_records=_MOST)
        if found:
            await asyncio.gather(*(take(record) for records in found.values() for record in records))
            await consumer.commit()


@asynccontextmanager
async def answering(url: str, prefix: str, handle: Handle) -> AsyncIterator[str]:
    """See ``Bare``."""
    async with _ends(url, f"{prefix}-requests") as (consumer, producer), asyncio.TaskGroup() as group:

        async def answer(record: Any) -> None:
            await producer.send_and_wait(f"{prefix}-replies", await handle(record.value), key=record.key)

        task = group.create_task(_read(consumer, answer))
        yield url
        task.cancel()


@asynccontextmanager
async def asking(url: str, prefix: str) -> AsyncIterator[Ask]:
    """See ``Bare``."""
    answers = Answers()
    async with _ends(url, f"{prefix}-replies") as (consumer, producer), asyncio.TaskGroup() as group:

        async def ask(body: bytes) -> bytes:
            name, future = answers.expect()
            await producer.send_and_wait(f"{prefix}-requests", body, key=name.encode())
            return await future

        async def take(record: Any) -> None:
            answers.hear(record.key.decode(), record.value)

        task = group.create_task(_read(consumer, take))
        yield ask
        task.cancel()
