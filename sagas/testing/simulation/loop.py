"""The event loop of a simulated process: asyncio's own tasks, on virtual time, and stopped whenever its process is."""

from __future__ import annotations

import asyncio
import heapq
from asyncio import events
from collections import deque
from contextvars import copy_context
from itertools import count
from types import coroutine
from typing import TYPE_CHECKING, Any, NoReturn, TypeVarTuple, cast

from anyio._backends import _asyncio as anyio_backend

from sagas.errors import SagaError

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Generator, MutableMapping
    from contextvars import Context

__all__ = ["Impossible", "ProcessLoop", "Time", "give_way"]

Ts = TypeVarTuple("Ts")

# Of each task; it keeps the task until its cancel scopes are left, which a dead process never does.
_scopes: MutableMapping[Any, Any] = cast("Any", anyio_backend)._task_states  # noqa: SLF001 - there is no other way


class Impossible(SagaError):  # noqa: N818 - says what it is
    """A step used something that a simulation does not have: a socket, a pipe, another process."""


class Time:
    """Virtual time, which all processes of a fleet share.

    Attributes:
        now: Seconds; POSIX time, for those whose clock nobody has set.
    """

    __slots__ = ("now",)

    def __init__(self, now: float) -> None:
        self.now = now


class Callback:
    """Something to be run, as asyncio's handles, without what those keep for debugging.

    Args:
        function: What to call.
        args: With what.
        context: In which context; that of now by default.
        when: See asyncio; 0 if at once.
    """

    __slots__ = ("_when", "args", "context", "function")

    def __init__(
        self, function: Callable[..., object], args: tuple[Any, ...], context: Context | None, when: float = 0.0
    ) -> None:
        self.function: Callable[..., object] | None = function
        self.args = args
        self.context = copy_context() if context is None else context
        self._when = when

    def cancel(self) -> None:
        """See asyncio."""
        self.function, self.args = None, ()

    def cancelled(self) -> bool:
        """See asyncio."""
        return self.function is None

    def when(self) -> float:
        """See asyncio."""
        return self._when


class ProcessLoop(asyncio.AbstractEventLoop):
    """Runs the tasks of one process, as long as it is told to.

    Args:
        time: Of the fleet.

    Attributes:
        stopped: Set to stop it in the middle of its work: nothing after the callback that is running now is run.
        ahead: Seconds by which its own clock is ahead of the fleet's.
        trouble: What went wrong in a callback that nobody waits for.
    """

    def __init__(self, time: Time) -> None:
        self._time = time
        self._ready: deque[Callback] = deque()
        self._timers: list[tuple[float, int, Callback]] = []
        self._numbers = count()
        self._tasks: list[asyncio.Task[Any]] = []
        self.stopped = False
        self.ahead = 0.0
        self.trouble: list[dict[str, Any]] = []

    # --- what the simulation calls ------------------------------------------------------------------------------

    @property
    def ready(self) -> bool:
        """Whether there is something to run now."""
        return bool(self._ready)

    def drain(self, most: int) -> None:
        """Runs what there is to run, until there is nothing, or it is stopped."""
        ready, left = self._ready, most
        outer = events._get_running_loop()  # noqa: SLF001 - documented for exactly this use
        events._set_running_loop(self)  # noqa: SLF001 - documented for exactly this use
        try:
            while ready and left and not self.stopped:
                callback = ready.popleft()
                if callback.function is not None:
                    left -= 1
                    try:
                        callback.context.run(callback.function, *callback.args)
                    except (SystemExit, KeyboardInterrupt):
                        raise
                    except BaseException as error:  # noqa: BLE001 - as asyncio's own loop does
                        self.call_exception_handler({"message": str(error), "exception": error})
        finally:
            events._set_running_loop(outer)  # noqa: SLF001 - documented for exactly this use

    def next_timer(self) -> float | None:
        """Says when its next timer is due, by the fleet's time."""
        timers = self._timers
        while timers and timers[0][2].cancelled():
            heapq.heappop(timers)
        return timers[0][0] - self.ahead if timers else None

    def fire_due(self) -> None:
        """Makes every timer ready that is due."""
        timers, now = self._timers, self.time()
        while timers and timers[0][0] <= now:
            _, _, callback = heapq.heappop(timers)
            if callback.function is not None:
                self._ready.append(callback)

    def bury(self) -> None:
        """Ends what is left of a process that died, once nothing it does can matter any more.

        A killed process runs no ``finally``, but Python's coroutines do when they are collected. So they are closed
        here, after the world was looked at, and whatever they complain about is dropped.
        """
        outer = events._get_running_loop()  # noqa: SLF001 - documented for exactly this use
        events._set_running_loop(None)  # noqa: SLF001 - documented for exactly this use
        try:
            self._close_all()
        finally:
            events._set_running_loop(outer)  # noqa: SLF001 - documented for exactly this use

    def _close_all(self) -> None:
        """Closes what has not ended."""
        self._ready.clear()
        self._timers.clear()
        tasks, self._tasks = self._tasks, []
        for task in tasks:
            _scopes.pop(task, None)
            if not task.done():
                task._log_destroy_pending = False  # type: ignore[attr-defined]  # noqa: SLF001 - it died on purpose
                coroutine = task.get_coro()
                for _ in range(_STUBBORN):
                    try:
                        if coroutine is not None:
                            coroutine.close()
                    except RuntimeError:
                        continue  # it awaited something while it was closed
                    except BaseException:  # noqa: BLE001 - nobody is left to care
                        break
                    else:
                        break
        self._ready.clear()

    # --- what asyncio and its tasks call ------------------------------------------------------------------------

    def time(self) -> float:
        """Gives this process's own steady time."""
        return self._time.now + self.ahead

    def call_soon(  # type: ignore[override]  # typeshed's is for its own loops, and gives their handles
        self, callback: Callable[..., object], *args: Any, context: Context | None = None
    ) -> Callback:
        """See asyncio."""
        soon = Callback(callback, args, context)
        self._ready.append(soon)
        return soon

    call_soon_threadsafe = call_soon  # type: ignore[assignment]

    def call_later(  # type: ignore[override]
        self, delay: float, callback: Callable[..., object], *args: Any, context: Context | None = None
    ) -> Callback:
        """See asyncio."""
        return self.call_at(self.time() + delay, callback, *args, context=context)

    def call_at(  # type: ignore[override]
        self, when: float, callback: Callable[..., object], *args: Any, context: Context | None = None
    ) -> Callback:
        """See asyncio."""
        if self.ahead:
            when += _LATE
        later = Callback(callback, args, context, when)
        heapq.heappush(self._timers, (when, next(self._numbers), later))
        return later

    def create_future(self) -> asyncio.Future[Any]:
        """See asyncio."""
        return asyncio.Future(loop=self)

    def create_task(  # type: ignore[override]
        self, coro: Coroutine[Any, Any, Any], *, name: str | None = None, context: Context | None = None
    ) -> asyncio.Task[Any]:
        """See asyncio."""
        task = asyncio.Task(coro, loop=self, name=name, context=context)
        self._tasks.append(task)
        if len(self._tasks) > _SIFT:
            self._tasks = [x for x in self._tasks if not x.done()]
        return task

    def run_in_executor(self, executor: object, func: Callable[[*Ts], Any], *args: *Ts) -> asyncio.Future[Any]:
        """Runs it at once: a simulation has one thread."""
        del executor
        future = self.create_future()
        try:
            future.set_result(func(*args))
        except Exception as error:  # noqa: BLE001 - for whoever awaits it
            future.set_exception(error)
        return future

    # Every future asks for it, and calls this faster than a method.
    get_debug = staticmethod(bool)  # pyright: ignore[reportAssignmentType]  # which gives ``False``

    def get_task_factory(self) -> None:
        """See asyncio."""
        return

    def is_running(self) -> bool:
        """See asyncio."""
        return True

    def is_closed(self) -> bool:
        """See asyncio."""
        return False

    def call_exception_handler(self, context: dict[str, Any]) -> None:
        """Keeps what went wrong where nobody waits."""
        self.trouble.append(context)

    default_exception_handler = call_exception_handler

    async def shutdown_asyncgens(self) -> None:
        """See asyncio."""


_SIFT = 64
# Seconds. Far ahead a clock counts in steps that are coarser than the fleet's time: then a timer is late, never early.
_LATE = 0.001
_STUBBORN = 3


@coroutine
def give_way() -> Generator[None]:
    """Lets everything else that is ready go first."""
    yield


def _refuse(name: str) -> Callable[..., NoReturn]:
    def refuse(*_: object, **__: object) -> NoReturn:
        raise Impossible(
            f"a step, compensator or probe used the event loop's {name}: in a simulation it talks to the world that "
            "check(world=…) makes, in memory, and not to a network or another process. Replace that client in the world"
        )

    return refuse


for _name in (
    "add_reader", "add_writer", "add_signal_handler", "connect_accepted_socket", "connect_read_pipe",
    "connect_write_pipe", "create_connection", "create_datagram_endpoint", "create_server", "create_unix_connection",
    "create_unix_server", "getaddrinfo", "getnameinfo", "sendfile", "sock_accept", "sock_connect", "sock_recv",
    "sock_recv_into", "sock_sendall", "start_tls", "subprocess_exec", "subprocess_shell",
):  # fmt: skip
    setattr(ProcessLoop, _name, _refuse(_name))
