"""What wakes a task of a coordinator: an event for one that waits, once, and the lighter for that.

Workers, timers and the journal sleep and are woken for every record. ``anyio.Event`` finds out each time on which
event loop it is, and wraps one of asyncio's, which keeps a queue of those that wait.
"""

from __future__ import annotations

import asyncio
import sys
from functools import partial
from typing import TYPE_CHECKING, Protocol

import anyio
from anyio.lowlevel import checkpoint

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

__all__ = ["Bell", "Gong", "bells"]


class Bell(Protocol):
    """Rings once, for one task at most."""

    def set(self) -> None:
        """Wakes whoever waits. To be called in the thread of the event loop."""
        ...

    def is_set(self) -> bool:
        """Says whether it has rung."""
        ...

    def wait(self) -> Awaitable[None]:
        """Waits until it rings."""
        ...


class _FutureBell:
    """One on asyncio."""

    __slots__ = ("_future",)

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._future: asyncio.Future[None] = asyncio.Future(loop=loop)

    def set(self) -> None:
        """See ``Bell``."""
        if not self._future.done():
            self._future.set_result(None)

    def is_set(self) -> bool:
        """See ``Bell``."""
        return self._future.done() and not self._future.cancelled()  # it is with the task that waited for it

    def wait(self) -> Awaitable[None]:
        """See ``Bell``."""
        return self._future


class Gong:
    """Rings once, for any number of tasks."""

    __slots__ = ("_bells", "_rung")

    def __init__(self) -> None:
        self._bells: list[Bell] = []
        self._rung = False

    def set(self) -> None:
        """Wakes everybody who waits. To be called in the thread of the event loop."""
        self._rung = True
        for bell in self._bells:
            bell.set()

    async def wait(self) -> None:
        """Waits until it rings; others have a turn in any case."""
        if self._rung:
            await checkpoint()
            return
        bell = bells()()
        self._bells.append(bell)
        await bell.wait()


def bells() -> Callable[[], Bell]:
    """Gives what makes bells for the event loop that runs here. To be called by the task that is to wait for them."""
    trio = sys.modules.get("trio")
    if trio is not None and trio.lowlevel.in_trio_task():
        return anyio.Event
    return partial(_FutureBell, asyncio.get_running_loop())
