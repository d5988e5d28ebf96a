"""A small TCP proxy that loses answers, and delivers requests late."""

from __future__ import annotations

import random
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

import anyio
from anyio.abc import SocketAttribute, SocketStream, TaskGroup

__all__ = ["BadLine"]

_GONE = (anyio.BrokenResourceError, anyio.ClosedResourceError, anyio.EndOfStream, OSError)
# Seconds within which the pieces of one request follow each other.
_PIECES = 0.05
# Seconds after which a late request was dealt with, if it was whole.
_ANSWERED = 5.0


class BadLine:
    """Stands between orders and stock.

    Args:
        port: Of stock.
        chance: Decides what goes wrong.
        lose: Probability that an answer is lost, and its connection with it.
        delay: Probability that a request arrives late, when nobody waits for its answer any more.

    Attributes:
        bad: Whether anything goes wrong at the moment.
        lost: How many answers were lost.
        late: How many requests were late.
        held: How many of them are on their way.
        port: Where it listens.
    """

    def __init__(self, port: int, chance: random.Random, *, lose: float = 0.06, delay: float = 0.04) -> None:
        self._there = port
        self._chance = chance
        self._lose, self._delay = lose, delay
        self.bad = True
        self.lost = self.late = self.held = self.port = 0

    @asynccontextmanager
    async def open(self) -> AsyncGenerator[None]:
        """Listens."""
        listener = await anyio.create_tcp_listener(local_host="127.0.0.1")
        self.port = listener.extra(SocketAttribute.local_port)  # noqa: S610 - of anyio, not of Django
        async with listener, anyio.create_task_group() as self._group:
            self._group.start_soon(listener.serve, self._carry)
            yield
            self._group.cancel_scope.cancel()

    async def _carry(self, near: SocketStream) -> None:
        """Carries what comes and goes through a connection, until it breaks."""
        async with near:
            try:
                far = await anyio.connect_tcp("127.0.0.1", self._there)
            except OSError:
                return
            async with far, anyio.create_task_group() as both:
                both.start_soon(self._requests, near, far, both)
                both.start_soon(self._answers, near, far, both)

    async def _requests(self, near: SocketStream, far: SocketStream, both: TaskGroup) -> None:
        """Carries requests."""
        try:
            while True:
                piece = await near.receive()
                if self._happens(self._delay):
                    self._group.start_soon(self._deliver_late, await _rest(near, piece), self._chance.uniform(0.1, 3.0))
                    break
                await far.send(piece)
        except _GONE:
            pass
        both.cancel_scope.cancel()

    async def _answers(self, near: SocketStream, far: SocketStream, both: TaskGroup) -> None:
        """Carries answers."""
        try:
            while True:
                piece = await far.receive()
                if self._happens(self._lose):
                    self.lost += 1
                    break
                await near.send(piece)
        except _GONE:
            pass
        both.cancel_scope.cancel()

    def _happens(self, probability: float) -> bool:
        return self.bad and self._chance.random() < probability

    async def _deliver_late(self, request: bytes, seconds: float) -> None:
        """Delivers a request, and takes no answer; however often stock has to be asked to listen."""
        self.late += 1
        self.held += 1
        while True:
            await anyio.sleep(seconds)
            try:
                async with await anyio.connect_tcp("127.0.0.1", self._there) as far:
                    await far.send(request)
                    with anyio.move_on_after(_ANSWERED):
                        await far.receive()
                break
            except _GONE:
                seconds = 0.5
        self.held -= 1


async def _rest(stream: SocketStream, begun: bytes) -> bytes:
    """Takes the rest of a request, which comes at once."""
    with anyio.move_on_after(_PIECES):
        while True:
            begun += await stream.receive()
    return begun
