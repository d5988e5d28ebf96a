"""The worker: serves steps to coordinators in other processes."""

from __future__ import annotations

import logging
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING, Any

import anyio

from sagas.coordinator.calling import Caller
from sagas.coordinator.checks import check_number
from sagas.coordinator.clock import SystemClock
from sagas.core.failures import describe
from sagas.errors import DeclarationError, PayloadError, RequestError, SagaNotRegistered, StoreError
from sagas.stores import is_store, store_for
from sagas.telemetry import find_metering, find_tracer
from sagas.telemetry.metrics import spot
from sagas.telemetry.metrics_table import DEAD_LETTERS, REQUEST_DURATION
from sagas.transport.opening import open_queue, sibling
from sagas.transport.port import StepReply
from sagas.worker.guarding import Guarding
from sagas.worker.inbox import MemoryInbox
from sagas.worker.jobs import Jobs
from sagas.worker.performing import Performing
from sagas.worker.serving import Serving

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable
    from types import TracebackType
    from typing import Self

    from anyio.abc import TaskGroup
    from opentelemetry.metrics import MeterProvider
    from opentelemetry.trace import TracerProvider

    from sagas.coordinator.clock import Clock
    from sagas.core.definitions import Step
    from sagas.stores import Store
    from sagas.transport.port import Beat, StepRequest
    from sagas.transport.queues import Queue
    from sagas.worker.inbox import Inbox

__all__ = ["Worker"]

logger = logging.getLogger("sagas.worker")

# How often expired rows are looked for, in seconds.
_SWEEP = 600.0
# In bytes; no database has longer ones in an index.
_LONGEST_KEY = 2_000


class Worker:
    """Serves steps, their compensators and probes: ``async with Worker([charge_card], inbox=URL) as worker: …``.

    Behind it is a *barrier with memory* in the participant's own database: a duplicate gets the first result, an undo
    without an action does nothing, and an action that comes after its undo does nothing either. What a transactional
    step writes commits together with what the barrier remembers of it.

    Give it to a server, such as ``sagas_adapters.http.participant_app(worker)``, or let it ``serve`` a queue.
    Works under asyncio, uvloop and trio.

    Args:
        steps: What it serves.
        inbox: The participant's database: ``sqlite:///stock.db``, ``postgresql+psycopg://…``, a store, or ``memory:``
            to remember only as long as the process lives.
        name: What it is called for people; the host's name by default.
        migrate: Whether to create or update the tables.
        tracer_provider: Of OpenTelemetry; the global one by default.
        meter_provider: Of OpenTelemetry, for metrics; the global one by default.
        clock: Time and chance.
        threads: How many ``def`` functions may run side by side.
        lease: Seconds after which another worker goes on with what one that fell silent was at work on.
        keep: Seconds for which requests are remembered after they were last heard of; longer than any saga may take.
        shutdown_timeout: Seconds that running steps have to end when it is left.

    Raises:
        DeclarationError: Something in ``steps`` is no step, two have the same name, or one is transactional and the
            inbox is in memory.
        RequestError: A number is out of its range.
        StoreError: No store goes by the URL. On entering: the database cannot be opened.
    """

    def __init__(
        self,
        steps: Iterable[Step[..., Any]],
        *,
        inbox: str | Store,
        name: str | None = None,
        migrate: bool = True,
        tracer_provider: TracerProvider | None = None,
        meter_provider: MeterProvider | None = None,
        clock: Clock | None = None,
        threads: int = 40,
        lease: float = 30.0,
        keep: float = 30 * 86_400.0,
        shutdown_timeout: float = 10.0,
    ) -> None:
        check_number("threads", threads, least=1)
        check_number("lease", lease, above=True)
        check_number("keep", keep, above=True)
        check_number("shutdown_timeout", shutdown_timeout)
        self._clock = clock or SystemClock()
        self._inbox = _inbox_for(inbox, self._clock, name=name, lease=lease, migrate=migrate)
        self._steps = _checked(steps, self._inbox)
        self._tracer = find_tracer(tracer_provider)
        self._metering = find_metering(meter_provider)
        self._caller = Caller(threads)
        self._keep = keep
        self._shutdown_timeout = shutdown_timeout
        self._guarding = Guarding(self._inbox, self._clock)
        self._jobs = Jobs(self._guarding, self._clock)
        self._serving: list[Serving] = []
        self._group: TaskGroup | None = None
        self._stack: AsyncExitStack | None = None

    @property
    def steps(self) -> Collection[str]:
        """Names of the steps that it serves."""
        return self._steps.keys()

    # --- as long as it is open ----------------------------------------------------------------------------------

    async def __aenter__(self) -> Self:
        if self._group is not None:
            raise RequestError("this worker is running already; make another one")
        async with AsyncExitStack() as stack:
            await self._inbox.open()
            stack.push_async_callback(self._inbox.close)
            self._group = await stack.enter_async_context(anyio.create_task_group())
            stack.push_async_exit(self._shut_down)
            self._group.start_soon(self._inbox.run)
            self._group.start_soon(self._sweep)
            self._stack = stack.pop_all()
        self._jobs.open(self._group)
        return self

    async def __aexit__(
        self, _: type[BaseException] | None, __: BaseException | None, ___: TracebackType | None
    ) -> None:
        assert self._stack is not None, "it was entered"
        try:
            await self._stack.aclose()  # what the caller raised is no failure of the worker's tasks
        finally:
            self._group = self._stack = None

    async def _shut_down(
        self, _: type[BaseException] | None, __: BaseException | None, ___: TracebackType | None
    ) -> None:
        """Lets running steps end, and stops."""
        assert self._group is not None, "it was entered"
        with anyio.CancelScope(shield=True):
            await self._drain()
            self._caller.leave_threads()
            self._group.cancel_scope.cancel()

    async def _drain(self) -> None:
        """Takes nothing new, and lets running steps end."""
        for serving in self._serving:
            serving.stop()
        await self._jobs.drain(self._shutdown_timeout)

    async def _sweep(self) -> None:
        """Forgets what is too old."""
        while True:
            try:
                await self._inbox.expire(self._keep)
            except StoreError as error:
                logger.warning("old requests are forgotten later: %s", error)
            await self._clock.sleep(_SWEEP)

    async def serve(
        self, queue: Queue | str, *, replies: Callable[[str], Queue] | None = None, concurrency: int = 64
    ) -> None:
        """Serves requests that come through a queue, until it is cancelled or the worker is left.

        Args:
            queue: Where they come from: a queue, or its URL (``nats://localhost:4222?queue=payments``).
            replies: Opens the queue for replies of a name that a request gives; with a URL, by default on the same
                broker.
            concurrency: How many are performed side by side. No more are taken from the queue, beside those that are
                answered and about to be acknowledged, which takes a twentieth of a second.

        Raises:
            RequestError: The worker is not running, ``concurrency`` is less than 1, or there is no ``replies``.
            TransportError: No queue goes by the URL.
        """
        check_number("concurrency", concurrency, least=1)
        if self._group is None:
            raise RequestError("the worker is not running; use it inside `async with Worker(…)`")
        requests, answers = _queues(queue, replies)
        serving = Serving(
            self, requests, answers, concurrency=concurrency, source="/sagas/worker", now=self._clock.now,
            tracer=self._tracer,
        )  # fmt: skip
        if (metering := self._metering) is not None:
            metering.write(DEAD_LETTERS, 0, requests.name)  # or nobody would see the first one as a change
            serving.gave_up = lambda: metering.write(DEAD_LETTERS, 1, requests.name)
        self._serving.append(serving)
        try:
            await serving.run()
        finally:
            self._serving.remove(serving)
            with anyio.CancelScope(shield=True):
                await requests.close()

    # --- requests -----------------------------------------------------------------------------------------------

    async def perform(self, request: StepRequest, *, beat: Beat | None = None) -> StepReply:
        """See ``Participant.perform``."""
        if self._metering is None:
            return await self._answer(request, beat)
        began, outcome = self._clock.steady(), "refused"
        try:
            reply = await self._answer(request, beat)
            outcome = reply.outcome
        finally:
            step = request.step if request.step in self._steps else "unknown"  # or anybody could make up more
            self._metering.write(
                REQUEST_DURATION, max(0.0, self._clock.steady() - began), step, request.kind, outcome,
                context=spot(request.headers.get("traceparent", "")),
            )  # fmt: skip
        return reply

    async def _answer(self, request: StepRequest, beat: Beat | None) -> StepReply:
        """Performs a request, or says why not; see ``Participant.perform``."""
        self._jobs.check_open(request)
        if (wrong := _what_is_wrong(request)) is not None:
            return StepReply.failed(describe(wrong))
        step = self._steps.get(request.step)
        if step is None:
            names = ", ".join(sorted(self._steps)) or "none"
            problem: Exception = SagaNotRegistered(f"this participant has no step {request.step!r}; it has {names}")
            return await self._guarding.not_begun(request, problem)
        if request.kind == "undo" and step.undo is None:
            problem = SagaNotRegistered(f"the step {step.name!r} has no compensator at this participant")
            return await self._guarding.not_begun(request, problem)
        try:
            arguments = step.arguments_schema.decode(request.arguments)
        except PayloadError as error:
            return await self._guarding.not_begun(request, error)
        performing = Performing(request, step, arguments, caller=self._caller, clock=self._clock, tracer=self._tracer)
        if request.kind != "probe":
            return await self._jobs.perform(performing, beat)
        if self._jobs.has(request.idempotency_key):
            return StepReply.running()
        return await self._guarding.probe(performing)


def _queues(queue: Queue | str, replies: Callable[[str], Queue] | None) -> tuple[Queue, Callable[[str], Queue]]:
    """Opens the queue of requests, and says how those for replies are opened.

    Raises:
        RequestError: Nobody knows.
    """
    if isinstance(queue, str):
        url = queue
        return open_queue(url), replies or (lambda name: open_queue(sibling(url, name)))
    if replies is None:
        raise RequestError("serve(queue) needs replies=, which opens the queue for replies of a name; or a URL")
    return queue, replies


def _what_is_wrong(request: StepRequest) -> RequestError | None:
    """Says what keeps any database from remembering a request's key; ``None`` if nothing does."""
    for key in (request.idempotency_key, request.action_key):
        try:
            fits = 0 < len(key.encode()) <= _LONGEST_KEY and "\x00" not in key
        except UnicodeEncodeError:
            fits = False
        if not fits:
            return RequestError(
                f"step {request.step} was not begun: its idempotency key {key!r:.100} is not 1 to {_LONGEST_KEY} "
                "bytes of text in UTF-8 without zeros"
            )
    return None


def _inbox_for(inbox: str | Store, clock: Clock, *, name: str | None, lease: float, migrate: bool) -> Inbox:
    """Makes the inbox in a participant's database.

    Raises:
        StoreError: No store goes by the URL, or it is of a kind that cannot keep an inbox.
    """
    store = inbox if is_store(inbox) else store_for(inbox)
    if store.in_memory:
        return MemoryInbox(clock.now)
    from sagas.stores.sql import SqlStore  # noqa: PLC0415 - the command line and those who keep nothing need none
    from sagas.worker.sql_inbox import SqlInbox  # noqa: PLC0415 - likewise

    if isinstance(store, SqlStore):
        return SqlInbox(store, clock, name=name, lease=lease, migrate=migrate)
    raise StoreError(f"{store.url} cannot keep an inbox; use SQLite, PostgreSQL, or 'memory:' to keep nothing")


def _checked(steps: Iterable[Step[..., Any]], inbox: Inbox) -> dict[str, Step[..., Any]]:
    """Refuses steps that cannot be served.

    Raises:
        DeclarationError: See ``Worker``.
    """
    found: dict[str, Step[..., Any]] = {}
    for step in steps:
        if found.setdefault(step.name, step) is not step:
            raise DeclarationError(f"two steps are called {step.name!r}; give one of them another name=")
        step.resolve()
        transactional = step.options.transactional or (step.undo is not None and step.undo.transactional)
        if transactional and not inbox.has_sessions:
            raise DeclarationError(f"{step.where} is transactional, and an inbox in memory has no database for it")
    return found
