"""How a coordinator's event loop calls its store, which is synchronous."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

import anyio
from anyio import from_thread, to_thread
from anyio.lowlevel import checkpoint

if TYPE_CHECKING:
    from collections.abc import Callable

    from anyio import CapacityLimiter

__all__ = ["Calls", "DirectCalls", "ThreadCalls"]


class Calls(Protocol):
    """See the module."""

    async def call(self, function: Callable[..., Any], *args: object, limiter: CapacityLimiter) -> Any:
        """Calls a function to its end, whatever is cancelled meanwhile."""
        ...

    def back(self, function: Callable[..., Any], *args: object) -> Any:
        """Calls a function in the event loop, from one that ``call`` has called."""
        ...


class ThreadCalls:
    """For stores that block: calls them in worker threads."""

    async def call(self, function: Callable[..., Any], *args: object, limiter: CapacityLimiter) -> Any:
        """See ``Calls.call``."""
        with anyio.CancelScope(shield=True):
            return await to_thread.run_sync(function, *args, limiter=limiter)

    def back(self, function: Callable[..., Any], *args: object) -> Any:
        """See ``Calls.back``."""
        return from_thread.run_sync(function, *args)


class DirectCalls:
    """For stores without I/O: calls them at once, but lets what is ready first have its turn."""

    async def call(self, function: Callable[..., Any], *args: object, limiter: CapacityLimiter) -> Any:  # noqa: ARG002 - nothing to limit
        """See ``Calls.call``."""
        await checkpoint()
        return function(*args)

    def back(self, function: Callable[..., Any], *args: object) -> Any:
        """See ``Calls.back``."""
        return function(*args)
