"""Requests that are at work in a participant's process: whoever asks again finds them."""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from secrets import token_urlsafe
from typing import TYPE_CHECKING, Final

import anyio

from sagas_adapters.http.problems import HttpProblem, Response

if TYPE_CHECKING:
    from sagas.transport.port import StepRequest

__all__ = ["Job", "Jobs", "spawn"]

# Seconds for which the answer of a request that was promised is kept, when nobody has fetched it.
_KEPT: Final = 120.0
# Seconds between two answers that only pass on signs of life.
_BEAT: Final = 0.2

# The event loop keeps only weak references to its tasks.
_tasks = set["asyncio.Task[None]"]()


def spawn(function: Callable[[], Awaitable[None]]) -> None:
    """Runs something in the event loop, whatever becomes of whoever asked for it; it raises nothing."""
    if anyio.get_cancelled_exc_class() is asyncio.CancelledError:
        task = asyncio.ensure_future(_run(function))
        _tasks.add(task)
        task.add_done_callback(_tasks.discard)
        return
    import trio

    trio.lowlevel.spawn_system_task(function)


async def _run(function: Callable[[], Awaitable[None]]) -> None:
    """Makes a coroutine of an awaitable."""
    await function()


class Job:
    """A request that is at work.

    Attributes:
        request: What it is.
        callback: To whom its answer goes besides, if it was promised.
        response: Its answer, once it is there.
        beats: How many signs of life it gave.
        number: Names it, once its answer was promised.
    """

    __slots__ = ("_changed", "beats", "callback", "number", "request", "response")

    def __init__(self, request: StepRequest) -> None:
        self.request = request
        self.callback: str | None = None
        self.response: Response | None = None
        self.beats = 0
        self.number: str | None = None
        self._changed = anyio.Event()

    def beat(self) -> None:
        """Takes a sign of life."""
        self.beats += 1
        self._tell()

    def end(self, response: Response) -> None:
        """Takes the answer."""
        self.response = response
        self._tell()

    def _tell(self) -> None:
        """Wakes whoever waits."""
        changed, self._changed = self._changed, anyio.Event()
        changed.set()

    async def wait(self, seconds: float, beats: int | None) -> Response | None:
        """Waits for the answer, or for more signs of life than whoever asks knows of.

        Args:
            seconds: At most so long.
            beats: How many it knows of; ``None`` if it wants none.
        """
        with anyio.move_on_after(seconds):
            while self.response is None:
                if beats is not None and self.beats > beats:
                    await self._pause()
                    break
                await self._changed.wait()
        return self.response

    async def _pause(self) -> None:
        """Lets signs of life add up for a moment, unless the answer comes."""
        with anyio.move_on_after(_BEAT):
            while self.response is None:
                await self._changed.wait()


class Jobs:
    """All requests that are at work here, and answers that were promised and not fetched.

    Args:
        limit: How many may be at work at once, and how many promised answers are kept.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._running: dict[tuple[str, str], Job] = {}
        self._promised: dict[str, Job] = {}
        self._kept: OrderedDict[str, float] = OrderedDict()

    def find(self, request: StepRequest) -> Job | None:
        """Gives the same request, if it is at work."""
        return self._running.get((request.kind, request.idempotency_key))

    def begin(self, request: StepRequest) -> Job:
        """Adds a request.

        Raises:
            HttpProblem: There are too many.
        """
        if len(self._running) >= self._limit:
            detail = f"{self._limit} requests are at work here, and no more are taken; this one was not begun"
            raise HttpProblem("busy", 503, detail, retry_after=1.0)
        job = Job(request)
        self._running[request.kind, request.idempotency_key] = job
        return job

    def end(self, job: Job, response: Response) -> None:
        """Takes the answer of a request."""
        self._running.pop((job.request.kind, job.request.idempotency_key), None)
        if job.number is not None:
            self._kept[job.number] = time.monotonic()
            self._forget()
        job.end(response)

    def _forget(self) -> None:
        """Drops answers that nobody has fetched for long, or too many of them."""
        oldest = time.monotonic() - _KEPT
        while self._kept and (len(self._kept) > self._limit or next(iter(self._kept.values())) < oldest):
            number, _ = self._kept.popitem(last=False)
            self._promised.pop(number, None)

    def promise(self, job: Job) -> str:
        """Names a request, so that its answer can be fetched later."""
        if job.number is None:
            job.number = token_urlsafe(18)
            self._promised[job.number] = job
        return job.number

    def promised(self, number: str) -> Job:
        """Finds a request by its name.

        Raises:
            HttpProblem: There is none.
        """
        job = self._promised.get(number)
        if job is None:
            detail = "no such request is at work here (any more). Send it again: its key makes that safe"
            raise HttpProblem("unknown-request", 404, detail)
        return job

    def __len__(self) -> int:
        return len(self._running)
