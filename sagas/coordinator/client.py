"""The client: starts sagas and asks things of them, and runs none."""

from __future__ import annotations

import logging
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING, Any

import anyio

from sagas.coordinator.access import Access
from sagas.coordinator.checks import check_number
from sagas.coordinator.clock import Clock, SystemClock
from sagas.coordinator.journal import Journal
from sagas.coordinator.link import Link
from sagas.coordinator.listening import listen
from sagas.coordinator.orders import check_order
from sagas.coordinator.writes import Unattended, Write
from sagas.coordinator.writing import write_record
from sagas.core import events as e
from sagas.core.execution import Execution
from sagas.core.registry import Registry, steps_around
from sagas.core.secrets import Mask, secret_names
from sagas.core.versions import Versions
from sagas.errors import RequestError, StoreError
from sagas.stores import is_store, store_for
from sagas.stores.port import NewSaga
from sagas.telemetry import UNTRACED, find_tracing

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from types import TracebackType
    from typing import Self

    from opentelemetry.trace import TracerProvider

    from sagas.coordinator.access import Wish
    from sagas.coordinator.watching import Watching
    from sagas.core.definitions import Saga
    from sagas.core.operations import SagaCall
    from sagas.stores import Codec, Store

__all__ = ["Client"]

logger = logging.getLogger("sagas.coordinator")

# Seconds that sagas which are being started have to become durable when it is left.
_SHUTDOWN = 5.0


class Client(Access[Link]):
    """Starts sagas, signals, cancels, waits and reads, and runs nothing: ``async with Client(url) as client: …``.

    For a web process, say, beside coordinators on the same database. It takes no part in their work: it holds no
    lease, and no code of a saga runs in it. A saga that it starts waits in the database for a coordinator that has
    its code.

    Works under asyncio, uvloop and trio.

    Args:
        store: A URL (``postgresql+psycopg://…``, ``sqlite:///orders.db``), or a store. It is opened here.
        sagas: The versions that have a weight; no others need be named.
        versions: As for a coordinator, the weights of a saga's versions: new sagas get one by their id, whichever was
            called. A coordinator's own weights are not for what a client starts.
        name: Who asks, for the journal, where ``by`` says nothing else.
        migrate: Whether to create or update the tables.
        codec: As the coordinators have it.
        tracer_provider: Of the OpenTelemetry SDK; the global one by default.
        clock: Time and chance.
        poll: The longest pause between two looks at a saga that somebody waits for, in seconds, where its end is not
            announced; where it is (PostgreSQL), five times as long, in case that an announcement was lost.
        secret_fields: Names of keys in payloads, or patterns (``"*_token"``), that are not shown; ``NAME.result`` is
            all that a step of that name gives, ``NAME.payload`` all that a signal carries. What is marked ``Secret`` in
            ``sagas`` and around is hidden anyway.

    Raises:
        DeclarationError: Something in ``sagas`` is none, or ``versions`` gives a weight to what is not among them.
        RequestError: A number is out of its range.
        StoreError: No store goes by the URL, or nobody else could see it. On entering: the store cannot be opened, or
            its tables do not fit.
    """

    def __init__(
        self,
        store: str | Store,
        *,
        sagas: Iterable[Saga[..., Any]] = (),
        versions: Mapping[str, Mapping[str, int]] | None = None,
        name: str | None = None,
        migrate: bool = False,
        codec: Codec | None = None,
        tracer_provider: TracerProvider | None = None,
        clock: Clock | None = None,
        poll: float = 1.0,
        secret_fields: Iterable[str] = (),
    ) -> None:
        check_number("poll", poll, above=True)
        self._store = store if is_store(store) else store_for(store)
        if self._store.in_memory and self._store is not store:
            raise StoreError(f"no coordinator would see what a client writes to {store!r}; give both the same store")
        definitions = tuple(sagas)
        self._versions = Versions(versions or {}, Registry(definitions, find_steps=False))
        around = (step for one in definitions for step in steps_around(one))
        self._mask = Mask(secret_fields).with_names(secret_names((*definitions, *around)))
        self._name = name or ""
        self._migrate = migrate
        self._codec = codec
        self._provider = tracer_provider
        self._clock = clock or SystemClock()
        self._poll = poll
        self._journal = Journal(self._store, self._clock)
        self._births: dict[str, Write] = {}

    async def __aenter__(self) -> Self:
        if self._engine is not None:
            raise RequestError("this client is running already; make another one")
        link = Link(self._store, self._clock, codec=self._codec, tracing=find_tracing(self._provider), poll=self._poll)
        self._journal = Journal(self._store, self._clock)
        await link.in_thread(lambda: self._store.open(migrate=self._migrate))
        async with AsyncExitStack() as stack:
            stack.push_async_callback(self._close, link)
            group = await stack.enter_async_context(anyio.create_task_group())
            stack.push_async_exit(self._shut_down)
            self._group = group
            for task in (self._journal.run, link.watching.run):
                group.start_soon(task)
            group.start_soon(self._listen, link.watching)
            self._engine = link
            self._stack = stack.pop_all()
        return self

    async def _listen(self, watching: Watching) -> None:
        """Hears what coordinators announce, once somebody waits for it."""
        await watching.wanted.wait()
        await listen(self._store, (watching.hear,))

    async def _shut_down(
        self, _: type[BaseException] | None, __: BaseException | None, ___: TracebackType | None
    ) -> None:
        """Lets what is being written be written, and stops."""
        link = self._running()
        with anyio.CancelScope(shield=True):
            link.closing = True
            link.watching.close()
            if not self._group.cancel_scope.cancel_called:
                with anyio.move_on_after(_SHUTDOWN):
                    await self._journal.flushed()
            self._group.cancel_scope.cancel()

    async def _close(self, link: Link) -> None:
        """Lets go of everything."""
        link.closing = True
        self._journal.abandon()
        with anyio.CancelScope(shield=True):
            await link.close()
        self._engine = None

    # --- what it is asked for -----------------------------------------------------------------------------------

    async def _start(
        self,
        call: SagaCall[Any],
        wanted: str | None,
        priority: int,
        *,
        wait: bool,  # noqa: ARG002 - its end is read from the journal, so its beginning has to be there
    ) -> tuple[str, None]:
        """See ``Access``."""
        wish = self._wish(call, wanted, priority)
        birth = self._births.get(wish.id)
        if birth is None:
            birth = self._submit(wish)
        started = await birth.durable()
        if not started or birth.new is None or birth.new.fingerprint != wish.fingerprint:
            await self._existing(wish)
        self._running().watching.tell("work")
        return wish.id, None

    def _submit(self, wish: Wish) -> Write:
        """Writes a saga that a coordinator is to run."""
        link, saga = self._running(), wish.saga
        origin = UNTRACED if link.tracing is None else link.tracing.start(saga.name, wish.id)
        now = self._clock.now()
        event = e.SagaSubmitted(saga.name, saga.version, wish.arguments, f"{wish.id}.{self._clock.token(4)}", *origin)
        commands = Execution(saga, wish.id, {}).apply(event, now)
        row = write_record(event, now, commands, saga_id=wish.id, seq=0, after=wish.id.encode(), codec=self._codec)
        new = NewSaga(wish.id, saga.name, saga.version, wish.fingerprint, now, owner="", rank=wish.rank)
        write = Write(Unattended(wish.id, ended=lambda: self._born(wish.id)), (row,), new=new)
        self._births[wish.id] = write
        self._journal.append(write)
        return write

    def _born(self, saga_id: str) -> None:
        """Forgets a submission of which it is known what became of it."""
        del self._births[saga_id]

    async def _order(self, saga_id: str, kind: str, *, expected: int | None = None, **fields: object) -> None:
        """See ``Access``."""
        fields["by"] = fields["by"] or self._name
        await super()._order(saga_id, kind, expected=expected, **fields)

    async def _give(self, saga_id: str, kind: str, body: bytes) -> None:
        """See ``Access``: leaves it for whoever drives the saga."""
        link = self._running()

        def post() -> None:
            check_order(self._store.get(saga_id), saga_id, kind)
            link.post(saga_id, kind, body)

        await link.in_thread(post)
