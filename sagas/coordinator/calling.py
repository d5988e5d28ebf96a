"""Calls functions of the user's: in the event loop or in a thread, within their timeouts."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any, Protocol

import anyio
from anyio import CapacityLimiter, to_thread

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from sagas.context import Pulse


__all__ = ["Caller", "UserFunction"]


class UserFunction(Protocol):
    """A step, a compensator or a probe."""

    @property
    def function(self) -> Callable[..., Any]:
        """What to call."""
        ...

    @property
    def is_async(self) -> bool:
        """Whether it gives a coroutine."""
        ...


class Caller:
    """See the module.

    Args:
        threads: How many functions that are not asynchronous may run side by side.
    """

    def __init__(self, threads: int) -> None:
        self._threads = CapacityLimiter(threads)
        self._running: set[anyio.CancelScope] = set()

    def leave_threads(self) -> None:
        """Stops waiting for functions that run in threads; they run on, and their outcome is nobody's."""
        for scope in self._running:
            scope.cancel()

    async def call(self, target: UserFunction, arguments: Mapping[str, object]) -> Any:
        """Calls a user's function, in a worker thread if it is not asynchronous.

        A thread cannot be interrupted. So its end is waited for, whatever timeout has passed: else it could act when
        the step is being tried again, or even undone, already.
        """
        if target.is_async:
            return await target.function(**arguments)
        function = partial(target.function, **arguments)
        with anyio.CancelScope(shield=True) as scope:
            self._running.add(scope)
            try:
                return await to_thread.run_sync(function, limiter=self._threads, abandon_on_cancel=True)
            finally:
                self._running.discard(scope)
        return await anyio.sleep_forever()  # only a coordinator that is left cancels the scope, and then this task

    async def call_within(self, target: UserFunction, arguments: Mapping[str, object], within: float | None) -> Any:
        """Calls one that may take so many seconds.

        Raises:
            TimeoutError: It took longer.
        """
        with anyio.move_on_after(within):
            return await self.call(target, arguments)
        raise TimeoutError(f"no result within {within:g} s")

    async def call_watched(
        self,
        target: UserFunction,
        arguments: Mapping[str, object],
        within: float | None,
        heartbeat: float,
        pulse: Pulse,
    ) -> Any:
        """Calls one that has to give a sign of life every so many seconds.

        Raises:
            TimeoutError: It gave none, or took longer than ``within``.
        """
        pulse.at = pulse.now()
        result: list[Any] = []
        silent = False

        async def watch(scope: anyio.CancelScope) -> None:
            nonlocal silent
            while (left := pulse.at + heartbeat - pulse.now()) > 0:  # noqa: ASYNC110 - any thread may beat
                await anyio.sleep(left)
            silent = True
            scope.cancel()

        with anyio.move_on_after(within):
            try:
                async with anyio.create_task_group() as group:
                    group.start_soon(watch, group.cancel_scope)
                    result.append(await self.call(target, arguments))
                    group.cancel_scope.cancel()
            except BaseExceptionGroup as several:
                raise several.exceptions[0] from None
        if result:
            return result[0]
        raise TimeoutError(f"no heartbeat within {heartbeat:g} s" if silent else f"no result within {within} s")
