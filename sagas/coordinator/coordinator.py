"""The coordinator: runs sagas, durably."""

from __future__ import annotations

import logging
import socket
from contextlib import AsyncExitStack
from functools import partial
from typing import TYPE_CHECKING, Any

import anyio

from sagas.coordinator.access import Access
from sagas.coordinator.checks import check_number
from sagas.coordinator.clock import Clock, SystemClock
from sagas.coordinator.codeless import CodeWatch
from sagas.coordinator.engine import Engine
from sagas.coordinator.limits import check_limits
from sagas.coordinator.listening import listen
from sagas.coordinator.orders import Orders, check_order
from sagas.coordinator.relaying import Relay, Targets
from sagas.coordinator.retention import Retention, Sweep
from sagas.coordinator.routing import check_routes, enter_transport
from sagas.coordinator.schedules import Schedule, Scheduler, check_schedules
from sagas.coordinator.subscriptions import Subscriber
from sagas.coordinator.sweeper import Sweeper
from sagas.core.registry import Registry
from sagas.core.secrets import Mask, secret_names
from sagas.core.versions import Versions
from sagas.errors import RequestError, SagaNotRegistered, StoreError
from sagas.stores import is_store, store_for
from sagas.telemetry import find_metering, find_tracing

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Iterable, Mapping
    from types import TracebackType
    from typing import Self

    from opentelemetry.metrics import MeterProvider
    from opentelemetry.trace import TracerProvider

    from sagas.coordinator.access import Wish
    from sagas.coordinator.routing import Route
    from sagas.coordinator.runtime import Runtime
    from sagas.coordinator.subscriptions import Subscription
    from sagas.core.definitions import Saga, Step
    from sagas.core.operations import SagaCall
    from sagas.stores import Codec, Store
    from sagas.transport.port import Transport
    from sagas.transport.queues import Queue

__all__ = ["Coordinator"]

logger = logging.getLogger("sagas.coordinator")

# Seconds between two looks, while it is left, for sagas of which nothing is under way here any more.
_TURN = 0.05


class Coordinator(Access[Engine]):
    """Runs sagas: ``async with Coordinator("sqlite:///orders.db", sagas=[place_order]) as coordinator: …``.

    On entering, it goes on with every saga in its store that nobody else drives. On leaving, it starts nothing
    new, lets running steps end within ``shutdown_timeout``, and leaves the rest to the next coordinator.

    Works under asyncio, uvloop and trio.

    Args:
        store: A URL (``sqlite:///orders.db``, ``memory:``), or a store.
        sagas: The sagas it may run; the steps around them are found.
        steps: Steps that are not found, such as those of bodies that are gone.
        versions: By the name of a saga, the weights of its versions: ``{"place_order": {"1": 90, "2": 10}}``. New
            sagas of that name get one by their id, whichever version was called. Otherwise they get the one called.
        name: What it is called for people; the host's name by default.
        migrate: Whether to create or update the tables.
        codec: Turns what is stored into other bytes, to encrypt it, say.
        tracer_provider: Of the OpenTelemetry SDK; the global one by default.
        meter_provider: Of OpenTelemetry, for metrics; the global one by default.
        clock: Time and chance.
        threads: How many ``def`` steps may run side by side.
        keep_waiting: How many sagas that only wait for a timer or a signal stay in memory.
        max_running: How many sagas may have something to do here, before ``start`` waits for room and no more are
            taken over; ``None`` for any number. Sagas that wake up are always let in.
        start_timeout: Seconds that ``start`` waits for room at most; ``None`` for as long as it takes.
        limit_turn: Seconds between two looks whether other processes wait for permits of a limit that holds for all.
        lease: Seconds after which others take over the sagas of a coordinator that fell silent.
        poll: Seconds between two looks for what other processes wrote.
        take_over: Whether it goes on with sagas that nobody drives. Otherwise it runs only what it is given.
        shutdown_timeout: Seconds that running steps have to end when it is left.
        retention: How long finished sagas are kept; for ever by default.
        schedules: What it starts by the clock.
        routes: To the steps that participants perform, by name or pattern (``"payments.*"``). Their transports are
            opened and closed with the coordinator.
        events: Where events go that sagas emit: a queue, or queues by type or pattern (``"order.*"``). They are closed
            with the coordinator.
        subscriptions: Which events start sagas.
        secret_fields: Names of keys in payloads, or patterns (``"*_token"``), that ``get`` and ``journal`` do not show,
            besides what is marked ``Secret``; see ``Client``.

    Raises:
        DeclarationError: Something in ``sagas`` or ``steps`` is none, or two have the same name, or ``versions`` gives
            a weight to what is not among ``sagas``.
        RequestError: A number is out of its range.
        StoreError: No store goes by the URL. On entering: the store cannot be opened, or its tables do not fit.
    """

    def __init__(
        self,
        store: str | Store,
        *,
        sagas: Iterable[Saga[..., Any]] = (),
        steps: Iterable[Step[..., Any]] = (),
        versions: Mapping[str, Mapping[str, int]] | None = None,
        name: str | None = None,
        migrate: bool = True,
        codec: Codec | None = None,
        tracer_provider: TracerProvider | None = None,
        meter_provider: MeterProvider | None = None,
        clock: Clock | None = None,
        threads: int = 40,
        keep_waiting: int = 10_000,
        max_running: int | None = 10_000,
        start_timeout: float | None = None,
        limit_turn: float = 0.5,
        lease: float = 30.0,
        poll: float = 0.2,
        take_over: bool = True,
        shutdown_timeout: float = 10.0,
        retention: Retention | None = None,
        schedules: Iterable[Schedule] = (),
        routes: Mapping[str, Transport | Route] | None = None,
        events: Queue | Mapping[str, Queue] | None = None,
        subscriptions: Iterable[Subscription] = (),
        secret_fields: Iterable[str] = (),
    ) -> None:
        check_number("threads", threads, least=1)
        check_number("keep_waiting", keep_waiting)
        if max_running is not None:
            check_number("max_running", max_running, least=1)
        if start_timeout is not None:
            check_number("start_timeout", start_timeout)
        check_number("limit_turn", limit_turn, above=True)
        check_number("lease", lease, above=True)
        check_number("poll", poll, above=True)
        check_number("shutdown_timeout", shutdown_timeout)
        self._store = store if is_store(store) else store_for(store)
        definitions = tuple(sagas)
        self._registry = Registry(definitions, steps)
        self._mask = Mask(secret_fields).with_names(secret_names((*definitions, *self._registry.steps.values())))
        self._versions = Versions(versions or {}, self._registry)
        check_limits(self._registry.steps.values())
        self._name = name or socket.gethostname()
        self._migrate = migrate
        self._codec = codec
        self._provider = tracer_provider
        self._meter_provider = meter_provider
        self._clock = clock or SystemClock()
        self._threads = threads
        self._keep_waiting = keep_waiting
        self._max_running = max_running
        self._start_timeout = start_timeout
        self._limit_turn = limit_turn
        self._lease = lease
        self._poll = poll
        self._take_over = take_over
        self._shutdown_timeout = shutdown_timeout
        self._retention = retention
        self._schedules = check_schedules(schedules)
        self._routes = check_routes(routes or {}, self._registry)
        self._targets = None if events is None else Targets(events)
        self._subscriptions = tuple(subscriptions)
        self._orders: Orders | None = None

    async def __aenter__(self) -> Self:
        if self._engine is not None:
            raise RequestError("this coordinator is running already; make another one")
        engine = self._make_engine()
        orders = Orders(engine)
        sweeper = Sweeper(
            engine, orders, name=self._name, lease=self._lease, poll=self._poll, take_over=self._take_over
        )
        engine.wake_sweeper = sweeper.wake
        engine.pass_on = sweeper.pass_on
        engine.load.on_room = sweeper.look
        await engine.in_thread(lambda: self._store.open(migrate=self._migrate))
        async with AsyncExitStack() as stack:
            stack.push_async_callback(self._close_store, engine)
            for transport in self._routes.transports():
                await enter_transport(stack, transport)
            if self._targets is not None:
                stack.push_async_callback(self._targets.close)
            for subscription in self._subscriptions:
                stack.push_async_callback(subscription.queue.close)
            await sweeper.renew()
            group = await stack.enter_async_context(anyio.create_task_group())
            stack.push_async_exit(self._shut_down)
            self._group = group
            for task in self._tasks(engine, sweeper):
                group.start_soon(task)
            self._engine, self._orders = engine, orders
            self._stack = stack.pop_all()
        return self

    def _make_engine(self) -> Engine:
        """Makes what drives the sagas."""
        engine = Engine(
            self._store,
            self._registry,
            self._clock,
            codec=self._codec,
            tracing=find_tracing(self._provider),
            threads=self._threads,
            keep_waiting=self._keep_waiting,
            max_running=self._max_running,
            limit_turn=self._limit_turn,
            routes=self._routes,
        )
        if (metering := find_metering(self._meter_provider)) is not None:
            engine.measure(metering)
        return engine

    def _tasks(self, engine: Engine, sweeper: Sweeper) -> Iterable[Callable[[], Coroutine[Any, Any, None]]]:
        """Gives what runs as long as the coordinator does."""
        yield from (engine.journal.run, engine.pool.run, engine.timers.run, engine.limits.run, engine.watching.run)
        yield from (sweeper.beat, sweeper.run, CodeWatch(engine).run)
        if engine.measuring is not None:
            yield engine.measuring.run
        yield partial(listen, self._store, (engine.watching.hear, sweeper.hear, engine.limits.hear))
        if self._retention is not None:
            yield Sweep(engine, self._retention).run
        if self._targets is not None:
            yield Relay(engine, self._targets, poll=self._poll).run
        for subscription in self._subscriptions:
            yield Subscriber(subscription, lambda call, saga_id: self.start(call, id=saga_id)).run
        for schedule in self._schedules:
            yield Scheduler(engine, schedule, lambda call, saga_id: self.start(call, id=saga_id)).run

    async def _shut_down(
        self, _: type[BaseException] | None, __: BaseException | None, ___: TracebackType | None
    ) -> None:
        """Lets running steps end, writes what they did, and stops."""
        engine = self._running()
        with anyio.CancelScope(shield=True):
            engine.closing = engine.attempting.closing = True
            engine.pool.close()
            engine.limits.close()
            engine.load.close()
            if not self._group.cancel_scope.cancel_called:  # else something broke, and there is nothing to wait for
                with anyio.move_on_after(self._shutdown_timeout):
                    await self._finish(engine)
            engine.attempting.caller.leave_threads()
            self._group.cancel_scope.cancel()

    async def _finish(self, engine: Engine) -> None:
        """Lets running steps end; meanwhile, every saga is handed over as soon as it waits for nothing here."""
        while engine.pool.running or engine.journal.busy:
            try:
                await engine.hand_over()
            except StoreError as error:
                logger.warning("sagas are handed over when the lease is over, not at once: %s", error)
                break
            with anyio.move_on_after(_TURN):
                await engine.pool.settled()
                await engine.journal.flushed()
        await engine.pool.settled()
        await engine.journal.flushed()

    async def _close_store(self, engine: Engine) -> None:
        """Gives the lease back and lets go of everything."""
        engine.closing = True
        engine.journal.abandon()
        for runtime in list(engine.sagas.values()):
            runtime.discard()
        with anyio.CancelScope(shield=True):
            try:
                await engine.in_thread(self._store.release, engine.owner)
            except Exception as error:
                logger.warning("the lease could not be given back: %s", error)
            await engine.close()
        self._engine = None

    # --- what it is asked for -----------------------------------------------------------------------------------

    async def _start(
        self, call: SagaCall[Any], wanted: str | None, priority: int, *, wait: bool
    ) -> tuple[str, Runtime | None]:
        """See ``Access``."""
        engine = self._running()
        wish = self._wish(call, wanted, priority)
        existing = engine.sagas.get(wish.id)
        if existing is None and not engine.load.enter():
            existing = await self._wait_for_room(engine, wish)
        if existing is None:
            runtime, write = engine.begin(wish)
            if not wait and wish.made_up:
                return wish.id, runtime  # nobody else can have made up this id, so its end is all there is to wait for
            if await write.durable():
                return wish.id, runtime
        elif (existing.birth is None or await existing.birth.durable()) and existing.fingerprint == wish.fingerprint:
            return wish.id, existing
        row = await self._existing(wish)
        if row.ended_at is None:
            engine.want(wish.id)  # while our attempt to start it was in its place, it may have missed its timer
        return wish.id, engine.sagas.get(wish.id)

    async def _wait_for_room(self, engine: Engine, wish: Wish) -> Runtime | None:
        """Waits until a saga may begin; gives it if somebody else has started it meanwhile.

        Raises:
            CoordinatorBusy: There was no room in time.
            CoordinatorClosed: The coordinator is being left.
        """
        await engine.load.wait(wish.rank, self._start_timeout)
        existing = engine.sagas.get(wish.id)
        if existing is not None or engine.closing:
            engine.load.leave()
            self._accepting()
        return existing

    def _chosen(self, call: SagaCall[Any], saga_id: str) -> tuple[Saga[..., Any], bytes]:
        """See ``Access``.

        Raises:
            SagaNotRegistered: The coordinator was not given this saga.
        """
        if call.saga not in self._registry and call.saga.name not in self._versions:
            raise SagaNotRegistered(
                f"{call.saga.where} version {call.saga.version} is not among this coordinator's sagas; pass it in "
                "Coordinator(…, sagas=[…])"
            )
        return super()._chosen(call, saga_id)

    async def _give(self, saga_id: str, kind: str, body: bytes) -> None:
        """See ``Access``."""
        engine = self._running()
        assert self._orders is not None, "it is running"
        if saga_id not in engine.sagas:
            check_order(await engine.in_thread(engine.store.get, saga_id), saga_id, kind)
        await self._orders.give(saga_id, kind, body)
