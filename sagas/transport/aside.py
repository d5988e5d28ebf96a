"""Tasks of asyncio, for clients that know only that: done to the end, side by side, or with nobody waiting.

In a portal, anyio's shields do not hold: there, tasks are cancelled as asyncio does it.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import TYPE_CHECKING, Any, TypeVar, TypeVarTuple

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable

__all__ = ["Aside", "all_of", "any_of", "ended", "is_cut_off", "whole"]

T = TypeVar("T")
Ts = TypeVarTuple("Ts")


class Aside:
    """Tasks whose failures are nobody's: what they did not do comes to be done in another way."""

    def __init__(self) -> None:
        self._tasks: set[asyncio.Task[None]] = set()

    def spawn(self, act: Awaitable[object]) -> None:
        """Begins something."""
        _ = self.begin(act)

    def begin(self, act: Awaitable[object]) -> asyncio.Task[None]:
        """Begins something; gives what ends when it is done, or has failed."""
        task = asyncio.ensure_future(self._do(act))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def _do(self, act: Awaitable[object]) -> None:
        """Does it."""
        with suppress(Exception):
            await act

    async def ended(self, *, within: float | None = None) -> None:
        """Waits for the end of all that was begun; at most so many seconds."""
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=within)


async def whole(function: Callable[[*Ts], Awaitable[T]], *args: *Ts) -> T:
    """Does something to its end, also when it is cancelled meanwhile."""
    task = asyncio.ensure_future(function(*args))
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        await ended(task)
        raise


async def ended(task: asyncio.Future[Any]) -> None:
    """Waits for the end of something short, whoever is cancelled."""
    while not task.done():
        with suppress(asyncio.CancelledError):
            await asyncio.wait([task])


def is_cut_off(error: BaseException) -> bool:
    """Says whether what a task waits for was cancelled, and not the task itself."""
    task = asyncio.current_task()
    return isinstance(error, asyncio.CancelledError) and not (task is not None and task.cancelling())


async def all_of(acts: Iterable[Awaitable[object]]) -> None:
    """Does things side by side, begun in this order; when one fails, the others are given up."""
    tasks = [asyncio.ensure_future(act) for act in acts]
    try:
        await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()


async def any_of(*events: asyncio.Event, seconds: float) -> None:
    """Waits until one of them happens; at most so many seconds."""
    tasks = [asyncio.ensure_future(event.wait()) for event in events]
    try:
        await asyncio.wait(tasks, timeout=max(0.0, seconds), return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
