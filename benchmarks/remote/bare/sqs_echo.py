"""Amazon SQS: ``boto3`` in threads, one message a call, as its own examples do."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import partial
from typing import Any
from urllib.parse import parse_qs, urlsplit

from anyio import CapacityLimiter, to_thread

from benchmarks.remote.bare.port import Answers, Ask, Handle

__all__ = ["answering", "asking"]

_MOST, _WAIT, _READERS, _THREADS = 10, 1, 2, 32


class _Sqs:
    """A client."""

    def __init__(self, url: str) -> None:
        import boto3
        from botocore.config import Config

        parts = urlsplit(url)
        endpoint = parse_qs(parts.query).get("endpoint", [None])[0]
        config = Config(max_pool_connections=_THREADS + _READERS)
        self._client: Any = boto3.client("sqs", region_name=parts.hostname, endpoint_url=endpoint, config=config)
        self._threads = CapacityLimiter(_THREADS)
        self._reading = CapacityLimiter(_READERS)

    async def make(self, name: str) -> str:
        """Makes a queue; gives its URL."""
        made = await self._run(self._client.create_queue, QueueName=name)
        return str(made["QueueUrl"])

    async def _run(self, function: Callable[..., Any], **arguments: Any) -> Any:
        """Calls something in a thread."""
        return await to_thread.run_sync(partial(function, **arguments), limiter=self._threads)

    async def send(self, queue: str, name: str, body: bytes) -> None:
        """Sends a message."""
        attributes = {"name": {"DataType": "String", "StringValue": name}}
        await self._run(
            self._client.send_message, QueueUrl=queue, MessageBody=body.decode(), MessageAttributes=attributes
        )

    async def done(self, queue: str, message: Any) -> None:
        """Removes a message that was dealt with."""
        await self._run(self._client.delete_message, QueueUrl=queue, ReceiptHandle=message["ReceiptHandle"])

    async def read(self, queue: str, take: Callable[[str, bytes, Any], None]) -> None:
        """Takes messages as they come."""
        receive = partial(
            self._client.receive_message, QueueUrl=queue, MaxNumberOfMessages=_MOST, WaitTimeSeconds=_WAIT,
            MessageAttributeNames=["All"],
        )  # fmt: skip
        while True:
            for message in (await to_thread.run_sync(receive, limiter=self._reading)).get("Messages", ()):
                take(message["MessageAttributes"]["name"]["StringValue"], message["Body"].encode(), message)


@asynccontextmanager
async def answering(url: str, prefix: str, handle: Handle) -> AsyncIterator[str]:
    """See ``Bare``."""
    sqs = _Sqs(url)
    requests, replies = await sqs.make(f"{prefix}-requests"), await sqs.make(f"{prefix}-replies")
    async with asyncio.TaskGroup() as group:

        async def answer(name: str, body: bytes, message: Any) -> None:
            await sqs.send(replies, name, await handle(body))
            await sqs.done(requests, message)

        def take(name: str, body: bytes, message: Any) -> None:
            group.create_task(answer(name, body, message))

        tasks = [group.create_task(sqs.read(requests, take)) for _ in range(_READERS)]
        yield url
        for task in tasks:
            task.cancel()


@asynccontextmanager
async def asking(url: str, prefix: str) -> AsyncIterator[Ask]:
    """See ``Bare``."""
    sqs = _Sqs(url)
    requests, replies = await sqs.make(f"{prefix}-requests"), await sqs.make(f"{prefix}-replies")
    answers = Answers()
    async with asyncio.TaskGroup() as group:

        async def ask(body: bytes) -> bytes:
            name, future = answers.expect()
            await sqs.send(requests, name, body)
            return await future

        def take(name: str, body: bytes, message: Any) -> None:
            answers.hear(name, body)
            group.create_task(sqs.done(replies, message))

        tasks = [group.create_task(sqs.read(replies, take)) for _ in range(_READERS)]
        yield ask
        for task in tasks:
            task.cancel()
