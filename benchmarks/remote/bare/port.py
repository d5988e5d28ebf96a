"""What each way to ask has to have, and what several of them need."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from typing import Protocol

__all__ = ["Answers", "Ask", "Bare", "Handle"]

Ask = Callable[[bytes], Awaitable[bytes]]
Handle = Callable[[bytes], Awaitable[bytes]]


class Bare(Protocol):
    """A module that asks and answers.

    Both queues are as durable as those of the library: who is told that a message was sent will not see it lost.
    """

    def answering(self, url: str, prefix: str, handle: Handle, /) -> AbstractAsyncContextManager[str]:
        """Answers requests through queues whose names begin so; gives where to ask."""
        ...

    def asking(self, url: str, prefix: str, /) -> AbstractAsyncContextManager[Ask]:
        """Gives what sends a request and waits for the reply."""
        ...


class Answers:
    """Replies that are waited for, by the name of the request."""

    def __init__(self) -> None:
        self._waiting: dict[str, asyncio.Future[bytes]] = {}
        self._count = 0

    def expect(self) -> tuple[str, asyncio.Future[bytes]]:
        """Names a request."""
        self._count += 1
        name = str(self._count)
        future = self._waiting[name] = asyncio.get_running_loop().create_future()
        return name, future

    def hear(self, name: str, body: bytes) -> None:
        """Takes a reply."""
        future = self._waiting.pop(name, None)
        if future is not None and not future.done():
            future.set_result(body)
