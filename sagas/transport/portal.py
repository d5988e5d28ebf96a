"""Where clients that know only asyncio run, whatever event loop their users run on."""

from __future__ import annotations

import asyncio
import sys
import threading
from concurrent.futures import Future
from contextvars import Context, copy_context
from typing import TYPE_CHECKING, Generic, TypeVar, TypeVarTuple

import anyio

from sagas.errors import TransportError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from trio.lowlevel import TrioToken

__all__ = ["AsyncioPortal"]

T = TypeVar("T")
Ts = TypeVarTuple("Ts")

# Seconds after which a task that was cancelled and goes on is cancelled once more: some code loses a cancellation, such
# as ``asyncio.wait_for`` before Python 3.12 if what it waits for ends at the same time.
_AGAIN = 0.5


class _Thread:
    """One thread with an event loop for all that need one. It ends with the last of them, or with the process."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._users = 0
        self._thread: threading.Thread | None = None
        self._loop: Future[asyncio.AbstractEventLoop] = Future()
        self._stop = asyncio.Event()

    def enter(self) -> asyncio.AbstractEventLoop:
        """Gives the event loop, started if need be; ``leave`` has to follow."""
        with self._lock:
            if self._thread is None:
                self._loop = Future()
                # A daemon, so that a program which forgets to close something ends all the same.
                self._thread = threading.Thread(
                    target=asyncio.run, args=(self._serve(self._loop),), name="sagas asyncio portal", daemon=True
                )
                self._thread.start()
            self._users += 1
            return self._loop.result()

    async def _serve(self, ready: Future[asyncio.AbstractEventLoop]) -> None:
        """Lets others use this event loop, until nobody does any more; in the thread."""
        self._stop = asyncio.Event()
        ready.set_result(asyncio.get_running_loop())
        await self._stop.wait()

    def leave(self) -> None:
        """Ends the thread, if nobody else needs it."""
        with self._lock:
            self._users -= 1
            if self._users == 0 and self._thread is not None:
                self._loop.result().call_soon_threadsafe(self._stop.set)
                self._thread.join()
                self._thread = None


_thread = _Thread()


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
            loop = await anyio.to_thread.run_sync(_thread.enter)
            if self._loop is None:
                self._loop = loop
            else:  # another task was faster
                await anyio.to_thread.run_sync(_thread.leave)
        assert self._loop is not None, "it was set above"
        return self._loop

    async def close(self) -> None:
        """Lets go of the thread; nothing that was made in there may be used any more. Closing twice does no harm."""
        loop, self._loop = self._loop, None
        if loop is not None:
            with anyio.CancelScope(shield=True):
                await anyio.to_thread.run_sync(_thread.leave)


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
            with anyio.CancelScope(shield=True):
                while not self._ended.is_set():
                    self._loop.call_soon_threadsafe(self._cancel)
                    with anyio.move_on_after(_AGAIN):
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
