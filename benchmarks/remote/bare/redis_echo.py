"""Redis Streams: ``redis.asyncio``, with a stream for requests and one for replies."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from benchmarks.remote.bare.port import Answers, Ask, Handle

__all__ = ["answering", "asking"]

_MOST, _BLOCK, _CONNECTIONS = 64, 1_000, 64
_GROUP = "all"


def _client(url: str) -> Any:
    """Connects; whoever finds no free connection waits for one."""
    from redis.asyncio import BlockingConnectionPool, Redis

    return Redis.from_pool(BlockingConnectionPool.from_url(url, max_connections=_CONNECTIONS, timeout=None))


async def _prepare(client: Any, stream: str) -> None:
    """Makes a stream with a group of consumers."""
    from redis.exceptions import ResponseError

    try:
        await client.xgroup_create(stream, _GROUP, id="0", mkstream=True)
    except ResponseError as error:
        if "BUSYGROUP" not in str(error):
            raise


async def _read(client: Any, stream: str, take: Any) -> None:
    """Takes messages as they come."""
    while True:
        for _, some in await client.xreadgroup(_GROUP, "one", {stream: ">"}, count=_MOST, block=_BLOCK) or ():
            for name, fields in some:
                take(name, fields)


async def _done(client: Any, stream: str, name: bytes) -> None:
    """Removes a message that was dealt with."""
    async with client.pipeline(transaction=True) as pipeline:
        pipeline.xack(stream, _GROUP, name)
        pipeline.xdel(stream, name)
        await pipeline.execute()


@asynccontextmanager
async def answering(url: str, prefix: str, handle: Handle) -> AsyncIterator[str]:
    """See ``Bare``."""
    async with _client(url) as client, asyncio.TaskGroup() as group:
        await _prepare(client, f"{prefix}-requests")
        await _prepare(client, f"{prefix}-replies")

        async def answer(name: bytes, fields: dict[bytes, bytes]) -> None:
            body = await handle(fields[b"body"])
            await client.xadd(f"{prefix}-replies", {"name": fields[b"name"], "body": body})
            await _done(client, f"{prefix}-requests", name)

        def take(name: bytes, fields: dict[bytes, bytes]) -> None:
            group.create_task(answer(name, fields))

        task = group.create_task(_read(client, f"{prefix}-requests", take))
        yield url
        task.cancel()


@asynccontextmanager
async def asking(url: str, prefix: str) -> AsyncIterator[Ask]:
    """See ``Bare``."""
    answers = Answers()
    async with _client(url) as client, asyncio.TaskGroup() as group:

        async def ask(body: bytes) -> bytes:
            name, future = answers.expect()
            await client.xadd(f"{prefix}-requests", {"name": name, "body": body})
            return await future

        def take(name: bytes, fields: dict[bytes, bytes]) -> None:
            answers.hear(fields[b"name"].decode(), fields[b"body"])
            group.create_task(_done(client, f"{prefix}-replies", name))

        task = group.create_task(_read(client, f"{prefix}-replies", take))
        yield ask
        task.cancel()
