"""What a coordinator and a client have in common: a journal, and how to reach it from an event loop."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import anyio
from anyio import CapacityLimiter, to_thread

from sagas.coordinator.watching import Watching

if TYPE_CHECKING:
    from collections.abc import Callable

    from sagas.coordinator.clock import Clock
    from sagas.coordinator.runtime import Runtime
    from sagas.stores.port import Codec, Store
    from sagas.telemetry import Tracing

__all__ = ["Link"]

_THREADS = 4


class Link:
    """See the module.

    Args:
        store: The journals.
        clock: Time and chance.
        codec: How payloads are stored.
        tracing: If spans are wanted.
        poll: The longest pause between two looks at a saga that somebody waits for, in seconds; see ``Watching``.

    Attributes:
        what: What it is, for messages.
        meanwhile: What becomes of sagas once it is closed.
        closing: Whether it takes nothing new.
        watching: Who waits for which saga.
    """

    what = "client"
    meanwhile = "goes on without it"

    def __init__(
        self, store: Store, clock: Clock, *, codec: Codec | None, tracing: Tracing | None, poll: float = 1.0
    ) -> None:
        self.store = store
        self.clock = clock
        self.codec = codec
        self.tracing = tracing
        self.closing = False
        self.watching = Watching(store, poll=poll)
        # Apart from those of steps, which may all be taken for long.
        self._threads = CapacityLimiter(_THREADS)

    async def in_thread(self, function: Callable[..., Any], *args: object) -> Any:
        """Calls the store; in a worker thread, unless it needs none."""
        if self.store.in_memory:
            return function(*args)
        with anyio.CancelScope(shield=True):
            return await to_thread.run_sync(function, *args, limiter=self._threads)

    def find(self, saga_id: str) -> Runtime | None:  # noqa: ARG002 - a coordinator's engine has some
        """Gives a saga that is driven here."""
        return None
