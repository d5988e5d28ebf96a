"""Where clients that know only asyncio run, whatever event loop their users run on."""

from __future__ import annotations

import asyncio
import sys
from contextvars import Context, copy_context
from typing import TYPE_CHECKING, Generic, TypeVar, TypeVarTuple

import anyio
from anyio.from_thread import BlockingPortalProvider

from sagas.errors import TransportError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from trio.lowlevel import TrioToken

__all__ = ["AsyncioPortal"]

T = TypeVar("T")
Ts = TypeVarTuple("Ts")

# One thread with an event loop for all that need one; it ends with the last of them.
_provider = BlockingPortalProvider(backend="asyncio")


class AsyncioPortal:
    """Runs coroutine functions on asyncio: in the caller's own event loop if that is one, else in a thread's.

    A connection belongs to the event loop in which it was made. So all that a queue does with its client goes through
    one portal, from the first call to ``close``.
    """

    def __init__(self) -> None:
        self._loop: asyncio.AbstractEventLoop | None = None

    async def run(self, function: Callable[[*Ts], Awaitable[T]], *args: *Ts) -> T:
        """Awaits a function; cancelling this cancels it, and waits for its end.

        Raises:
            TransportError: It was cancelled in there, by nobody out here.
        """
        if anyio.get_cancelled_exc_class() is asyncio.CancelledError:
            return await function(*args)
        loop = self._loop or await self._enter()
        return await _Visit(loop, _token(), function, args).outcome()

    async def _enter(self) -> asyncio.AbstractEventLoop:
        """Has the thread's event loop run."""
        with anyio.CancelScope(shield=True):
            loop = await anyio.to_thread.run_sync(_running_loop)
            if self._loop is None:
                self._loop = loop
            else:  # another task was faster
                await anyio.to_thread.run_sync(_provider.__exit__, None, None, None)
        assert self._loop is not None, "it was set above"
        return self._loop

    async def close(self) -> None:
        """Lets go of the thread; nothing that was made in there may be used any more. Closing twice does no harm."""
        loop, self._loop = self._loop, None
        if loop is not None:
            with anyio.CancelScope(shield=True):
                await anyio.to_thread.run_sync(_provider.__exit__, None, None, None)


def _running_loop() -> asyncio.AbstractEventLoop:
    """Gives the thread's event loop, started if need be."""
    return _provider.__enter__().call(asyncio.get_running_loop)


def _token() -> TrioToken:
    """Gives what wakes tasks of this event loop from other threads."""
    from trio.lowlevel import current_trio_token  # noqa: PLC0415 - it is installed only if it runs

    return current_trio_token()


def _context() -> Context:
    """Gives the caller's context, but for what it says about the event loop: there, anyio has to find asyncio."""
    context = copy_context()
    sniffio = sys.modules.get("sniffio")  # trio brings it
    if sniffio is not None:
        context.run(sniffio.current_async_library_cvar.set, "asyncio")
    return context


class _Visit(Generic[*Ts, T]):
    """One call of a function in another thread's event loop.

    ``BlockingPortal.start_task_soon`` would hold up this event loop until the other one has its turn, and it does
    not tell when a task that was cancelled has ended.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        token: TrioToken,
        function: Callable[[*Ts], Awaitable[T]],
        args: tuple[*Ts],
    ) -> None:
        self._loop = loop
        self._token = token
        self._function = function
        self._args = args
        self._task: asyncio.Task[T] | None = None
        self._ended = anyio.Event()

    async def outcome(self) -> T:
        """Begins, and waits for the end."""
        self._loop.call_soon_threadsafe(self._begin, context=_context())
        try:
            await self._ended.wait()
        except BaseException:
            self._loop.call_soon_threadsafe(self._cancel)
            with anyio.CancelScope(shield=True):
                await self._ended.wait()
            raise
        assert self._task is not None, "it has ended, so it began"
        if self._task.cancelled():
            raise TransportError("a client was cancelled by its own event loop")
        return self._task.result()

    async def _call(self) -> T:
        """Makes a coroutine of whatever can be awaited."""
        return await self._function(*self._args)

    def _begin(self) -> None:
        """Starts the task; in the other thread."""
        self._task = self._loop.create_task(self._call())
        self._task.add_done_callback(self._end)

    def _cancel(self) -> None:
        """Stops it; in the other thread."""
        assert self._task is not None, "it was begun before"
        self._task.cancel()

    def _end(self, task: asyncio.Task[T]) -> None:
        """Wakes whoever waits, if its event loop still runs; in the other thread."""
        if not task.cancelled():
            task.exception()  # whoever waited may be gone, and then nobody else looks at it
        try:
            self._token.run_sync_soon(self._ended.set)
        except RuntimeError:  # trio.RunFinishedError
            return
