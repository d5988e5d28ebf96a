"""What a coordinator and a client have in common: a journal, and how to reach it from an event loop."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import anyio
from anyio import CapacityLimiter, to_thread

from sagas.coordinator.watching import Watching
from sagas.errors import CoordinatorClosed, SagaNotFound

if TYPE_CHECKING:
    from collections.abc import Callable

    from sagas.coordinator.clock import Clock
    from sagas.coordinator.runtime import Runtime
    from sagas.stores.port import Codec, SagaRow, Store
    from sagas.telemetry import Tracing

__all__ = ["Link"]

_THREADS = 4
# So many orders are remembered for those who wait for what comes of them.
_REMEMBERED = 1_000


class Link:
    """See the module.

    Args:
        store: The journals.
        clock: Time and chance.
        codec: How payloads are stored.
        tracing: If spans are wanted.
        poll: The longest pause between two looks at a saga that somebody waits for, in seconds; see ``Watching``.

    Attributes:
        runs: Whether sagas run here.
        what: What it is, for messages.
        meanwhile: What becomes of sagas once it is closed.
        closing: Whether it takes nothing new.
        watching: Who waits for which saga.
    """

    runs = False
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
        self.watching = Watching(store, poll=poll, tells=self.runs)
        # Apart from those of steps, which may all be taken for long.
        self._threads = CapacityLimiter(_THREADS)
        self._mending: dict[str, int] = {}
        self._calls = 0
        self._quiet: anyio.Event | None = None
        self._closed = False

    async def in_thread(self, function: Callable[..., Any], *args: object) -> Any:
        """Calls the store; in a worker thread, unless it needs none.

        Raises:
            CoordinatorClosed: The store is closed.
        """
        if self._closed:
            raise CoordinatorClosed(f"the {self.what} is closed")
        if self.store.in_memory:
            return function(*args)
        self._calls += 1
        try:
            with anyio.CancelScope(shield=True):
                return await to_thread.run_sync(function, *args, limiter=self._threads)
        finally:
            self._calls -= 1
            if self._quiet is not None and not self._calls:
                self._quiet.set()

    async def close(self) -> None:
        """Closes the store, when nobody uses it any more."""
        self.closing = True
        self.watching.close()
        while self._calls:
            self._quiet = anyio.Event()
            await self._quiet.wait()
        self._closed = True
        if self.store.in_memory:
            self.store.close()
        else:
            await to_thread.run_sync(self.store.close)

    def post(self, saga_id: str, kind: str, body: bytes) -> None:
        """Leaves an order for whoever drives a saga; called in a thread."""
        mail_id = self.store.post(saga_id, self.clock.now(), kind, body)
        if kind in ("retry", "skip", "resume"):
            self._mending.pop(saga_id, None)
            self._mending[saga_id] = mail_id
            if len(self._mending) > _REMEMBERED:
                del self._mending[next(iter(self._mending))]

    def read(self, saga_id: str) -> SagaRow:
        """Reads a saga that somebody waits for; called in a thread.

        One that is stuck, but has not yet taken an order from here that may help it on, counts as running.

        Raises:
            SagaNotFound: There is no such saga.
        """
        row = self.store.get(saga_id)
        if row is None:
            raise SagaNotFound(f"there is no saga {saga_id!r}")
        mail_id = self._mending.get(saga_id)
        if row.status != "stuck" or mail_id is None:
            return row
        pending = self.store.mail(row.owner, self.clock.now(), 1, mail_id - 1)
        if pending and pending[0].id == mail_id:
            return row._replace(status="running")
        if self._mending.get(saga_id) == mail_id:
            del self._mending[saga_id]
        return self.read(saga_id)  # it may have been taken since the row was read

    def find(self, saga_id: str) -> Runtime | None:  # noqa: ARG002 - a coordinator's engine has some
        """Gives a saga that is driven here."""
        return None
