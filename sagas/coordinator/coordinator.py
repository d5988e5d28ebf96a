"""The coordinator: runs sagas, durably."""

from __future__ import annotations

import builtins
import hashlib
import logging
import socket
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING, Any, TypeVar

import anyio
from pydantic_core import PydanticSerializationError, to_json

from sagas.coordinator.checks import (
    check_id,
    check_number,
    check_priority,
    check_signal_name,
    check_status,
    check_text,
)
from sagas.coordinator.clock import Clock, SystemClock
from sagas.coordinator.engine import Engine
from sagas.coordinator.handles import Handle, outcome
from sagas.coordinator.limits import check_limits
from sagas.coordinator.loading import read_history
from sagas.coordinator.orders import Orders, check_order, encode_order
from sagas.coordinator.sweeper import Sweeper
from sagas.coordinator.views import SagaSummary, SagaView, summary_of, view_of
from sagas.core.operations import SagaCall
from sagas.core.ranks import rank_of
from sagas.core.registry import Registry
from sagas.errors import (
    CoordinatorClosed,
    IdempotencyConflict,
    PayloadError,
    RequestError,
    SagaNotFound,
    SagaNotRegistered,
)
from sagas.stores import is_store, store_for
from sagas.telemetry import find_tracing

if TYPE_CHECKING:
    from collections.abc import Iterable
    from types import TracebackType
    from typing import Self

    from opentelemetry.trace import TracerProvider

    from sagas.coordinator.runtime import Runtime
    from sagas.core.definitions import Saga, Step
    from sagas.stores import Codec, Store

__all__ = ["Coordinator"]

logger = logging.getLogger("sagas.coordinator")

R = TypeVar("R")


class Coordinator:
    """Runs sagas: ``async with Coordinator("sqlite:///orders.db", sagas=[place_order]) as coordinator: …``.

    On entering, it goes on with every saga in its store that nobody else drives. On leaving, it starts nothing
    new, lets running steps end within ``shutdown_timeout``, and leaves the rest to the next coordinator.

    Works under asyncio, uvloop and trio.

    Args:
        store: A URL (``sqlite:///orders.db``, ``memory:``), or a store.
        sagas: The sagas it may run; the steps around them are found.
        steps: Steps that are not found, such as those of bodies that are gone.
        name: What it is called for people; the host's name by default.
        migrate: Whether to create or update the tables.
        codec: Turns what is stored into other bytes, to encrypt it, say.
        tracer_provider: Of the OpenTelemetry SDK; the global one by default.
        clock: Time and chance.
        threads: How many ``def`` steps may run side by side.
        keep_waiting: How many sagas that only wait for a timer or a signal stay in memory.
        max_running: How many sagas may have something to do here, before ``start`` waits for room and no more are
            taken over; ``None`` for any number. Sagas that wake up are always let in.
        start_timeout: Seconds that ``start`` waits for room at most; ``None`` for as long as it takes.
        limit_turn: Seconds between two looks whether other processes wait for permits of a limit that holds for all.
        lease: Seconds after which others take over the sagas of a coordinator that fell silent.
        poll: Seconds between two looks for what other processes wrote.
        shutdown_timeout: Seconds that running steps have to end when it is left.

    Raises:
        DeclarationError: Something in ``sagas`` or ``steps`` is none, or two have the same name.
        RequestError: A number is out of its range.
        StoreError: No store goes by the URL. On entering: the store cannot be opened, or its tables do not fit.
    """

    def __init__(
        self,
        store: str | Store,
        *,
        sagas: Iterable[Saga[..., Any]] = (),
        steps: Iterable[Step[..., Any]] = (),
        name: str | None = None,
        migrate: bool = True,
        codec: Codec | None = None,
        tracer_provider: TracerProvider | None = None,
        clock: Clock | None = None,
        threads: int = 40,
        keep_waiting: int = 10_000,
        max_running: int | None = 10_000,
        start_timeout: float | None = None,
        limit_turn: float = 0.5,
        lease: float = 30.0,
        poll: float = 0.2,
        shutdown_timeout: float = 10.0,
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
        self._registry = Registry(sagas, steps)
        check_limits(self._registry.steps.values())
        self._name = name or socket.gethostname()
        self._migrate = migrate
        self._codec = codec
        self._provider = tracer_provider
        self._clock = clock or SystemClock()
        self._threads = threads
        self._keep_waiting = keep_waiting
        self._max_running = max_running
        self._start_timeout = start_timeout
        self._limit_turn = limit_turn
        self._lease = lease
        self._poll = poll
        self._shutdown_timeout = shutdown_timeout
        self._engine: Engine | None = None
        self._orders: Orders | None = None
        self._stack: AsyncExitStack | None = None

    async def __aenter__(self) -> Self:
        if self._engine is not None:
            raise RequestError("this coordinator is running already; make another one")
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
        )
        orders = Orders(engine)
        sweeper = Sweeper(engine, orders, name=self._name, lease=self._lease, poll=self._poll)
        engine.wake_sweeper = sweeper.wake
        engine.load.on_room = sweeper.look
        await engine.in_thread(lambda: self._store.open(migrate=self._migrate))
        async with AsyncExitStack() as stack:
            stack.push_async_callback(self._close_store, engine)
            await sweeper.renew()
            group = await stack.enter_async_context(anyio.create_task_group())
            stack.push_async_exit(self._shut_down)
            self._group = group
            for task in (engine.journal.run, engine.pool.run, engine.timers.run, engine.limits.run, sweeper.run):
                group.start_soon(task)
            self._engine, self._orders = engine, orders
            self._stack = stack.pop_all()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool | None:
        assert self._stack is not None, "it was entered"
        stack, self._stack = self._stack, None
        try:
            return await stack.__aexit__(kind, error, trace)
        except BaseExceptionGroup as group:
            if group.exceptions == (error,):  # what the block raised, which a group of tasks wraps, leaves as it is
                return False
            raise

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
                    await engine.pool.settled()
                    await engine.journal.flushed()
            engine.attempting.leave_threads()
            self._group.cancel_scope.cancel()

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
            await engine.in_thread(self._store.close)
        self._engine = None

    def _running(self) -> Engine:
        """Gives the engine.

        Raises:
            CoordinatorClosed: The coordinator is not entered, or being left.
        """
        if self._engine is None:
            raise CoordinatorClosed("the coordinator is not running; use it inside `async with Coordinator(…)`")
        return self._engine

    def _accepting(self) -> Engine:
        """Gives the engine, if it takes new work; raises as ``_running``."""
        engine = self._running()
        if engine.closing:
            raise CoordinatorClosed("the coordinator is shutting down and takes nothing new")
        return engine

    # --- running sagas ------------------------------------------------------------------------------------------

    async def run(
        self,
        call: SagaCall[R],
        *,
        id: str | None = None,  # noqa: A002 - the field's word
        priority: int = 0,
    ) -> R:
        """Starts a saga and waits for its end; the arguments and errors of ``start`` and ``Handle.result``."""
        engine = self._accepting()
        saga_id, runtime = await self._start(engine, call, id, priority, wait=False)
        result: Any = await outcome(engine, call.saga, saga_id, runtime)
        return result  # type: ignore[no-any-return]  # decoded by the saga's own annotation

    async def start(
        self,
        call: SagaCall[R],
        *,
        id: str | None = None,  # noqa: A002 - the field's word
        priority: int = 0,
    ) -> Handle[R]:
        """Starts a saga, durably, once there is room for it (see ``max_running``).

        Args:
            call: ``place_order(order)``.
            id: Names the saga; the same id with the same input is the same saga. Made up by default.
            priority: From -100 to 100. Where sagas wait for the same, each step of it is worth a minute of waiting.
                So those of higher priority go first, and none waits for ever.

        Returns:
            A handle to wait with.

        Raises:
            IdempotencyConflict: The id is taken by a saga with another input.
            PayloadError: The input does not fit the saga's parameters.
            SagaNotRegistered: The coordinator was not given this saga.
            CoordinatorClosed: It is not running.
            CoordinatorBusy: There was no room for it within ``start_timeout``. It was not started.
        """
        engine = self._accepting()
        saga_id, runtime = await self._start(engine, call, id, priority, wait=True)
        return Handle(engine, call.saga, saga_id, runtime)

    async def _start(
        self, engine: Engine, call: SagaCall[Any], wanted: str | None, priority: int, *, wait: bool
    ) -> tuple[str, Runtime | None]:
        """Starts a saga, or finds it."""
        check_priority(priority)
        saga = self._saga_of(call)
        saga_id = _new_id(engine.clock) if wanted is None else check_id(wanted)
        arguments = saga.arguments_schema.encode(call.arguments)
        fingerprint = hashlib.blake2b(saga.name.encode() + b"|" + arguments, digest_size=16).digest()
        rank = rank_of(engine.clock.now(), priority)
        existing = engine.sagas.get(saga_id)
        if existing is None and not engine.load.enter():
            existing = await self._wait_for_room(engine, saga_id, rank)
        if existing is None:
            runtime, write = engine.begin(call, saga_id, arguments, fingerprint, rank)
            if not wait and wanted is None:
                return saga_id, runtime  # nobody else can have made up this id, so its end is all there is to wait for
            if await write.durable():
                return saga_id, runtime
        elif (existing.birth is None or await existing.birth.durable()) and existing.fingerprint == fingerprint:
            return saga_id, existing
        return saga_id, await self._existing(engine, saga_id, fingerprint)

    async def _wait_for_room(self, engine: Engine, saga_id: str, rank: float) -> Runtime | None:
        """Waits until a saga may begin; gives it if somebody else has started it meanwhile.

        Raises:
            CoordinatorBusy: There was no room in time.
            CoordinatorClosed: The coordinator is being left.
        """
        await engine.load.wait(rank, self._start_timeout)
        existing = engine.sagas.get(saga_id)
        if existing is not None or engine.closing:
            engine.load.leave()
            self._accepting()
        return existing

    def _saga_of(self, call: SagaCall[Any]) -> Saga[..., Any]:
        """Gives the saga of a call.

        Raises:
            TypeError: It is no call of a saga.
            SagaNotRegistered: The coordinator was not given this saga.
        """
        if not isinstance(call, SagaCall):
            raise TypeError(f"start and run take the call of a saga, such as place_order(order), not {call!r}")
        if call.saga not in self._registry:
            raise SagaNotRegistered(
                f"{call.saga.where} version {call.saga.version} is not among this coordinator's sagas; pass it in "
                "Coordinator(…, sagas=[…])"
            )
        return call.saga

    async def _existing(self, engine: Engine, saga_id: str, fingerprint: bytes) -> Runtime | None:
        """Finds a saga that was started before; ``None`` if it is not in memory here.

        Raises:
            IdempotencyConflict: It was started with another input.
            CoordinatorClosed: This coordinator is being left.
        """
        if engine.closing:
            raise CoordinatorClosed(f"the coordinator was closed while saga {saga_id} began; start it again, same id")
        row = await engine.in_thread(engine.store.get, saga_id)
        if row is None:
            raise CoordinatorClosed(f"saga {saga_id} could not be started; try again")
        if bytes(row.fingerprint) != fingerprint:
            raise IdempotencyConflict(
                f"saga {saga_id!r} exists already, as {row.name} with another input. Use another id, or the same input"
            )
        if row.ended_at is None:
            engine.want(saga_id)  # while our attempt to start it was in its place, it may have missed its timer
        return engine.sagas.get(saga_id)

    # --- asking for things --------------------------------------------------------------------------------------

    async def signal(self, saga_id: str, name: str, payload: object = None) -> None:
        """Sends a signal to a saga, durably. It is kept until the body receives it.

        Args:
            saga_id: To whom.
            name: As in ``receive(name, …)``.
            payload: Anything pydantic can serialize.

        Raises:
            SagaNotFound: There is no such saga.
            NotApplicable: It has ended.
            PayloadError: The payload cannot be encoded, or does not fit the ``receive`` that waits for it.
        """
        check_signal_name(name)
        try:
            encoded = to_json(payload, bytes_mode="base64", inf_nan_mode="strings")
        except (PydanticSerializationError, ValueError) as error:
            raise PayloadError(f"the payload of the signal {name!r} cannot be encoded: {error}") from error
        await self._order(saga_id, "signal", name=name, payload=encoded)

    async def cancel(self, saga_id: str, *, reason: str, by: str = "") -> None:
        """Cancels a saga: it is undone. One that is undoing already is left as it is.

        Raises:
            SagaNotFound: There is no such saga.
            NotApplicable: It has ended, or has passed its pivot.
        """
        check_text("reason", reason)
        await self._order(saga_id, "cancel", reason=reason, by=by)

    async def retry(self, saga_id: str, *, path: str | None = None, by: str = "") -> None:
        """Tries again what halts a stuck saga, with a new budget of attempts.

        Args:
            saga_id: Which saga.
            path: Which step; all that halt it by default.
            by: Who asks, for the journal.

        Raises:
            SagaNotFound: There is no such saga.
            NotApplicable: It is not stuck, or not there.
        """
        await self._order(saga_id, "retry", path=path, by=by)

    async def skip(self, saga_id: str, *, reason: str, path: str | None = None, by: str = "") -> None:
        """Goes on without what halts a stuck saga: the operator vouches that nothing is left to undo there.

        A forward step that is skipped counts as rejected. Arguments and errors as for ``retry``.
        """
        check_text("reason", reason)
        await self._order(saga_id, "skip", reason=reason, path=path, by=by)

    async def resume(self, saga_id: str, *, by: str = "") -> None:
        """Lets a parked saga go on with the code at hand.

        Raises:
            SagaNotFound: There is no such saga.
            NotApplicable: It is not stuck, or the code at hand does not fit its journal either.
        """
        await self._order(saga_id, "resume", by=by)

    async def _order(self, saga_id: str, kind: str, **fields: object) -> None:
        """Gives an order."""
        engine = self._accepting()
        assert self._orders is not None, "it is running"
        if saga_id not in engine.sagas:
            check_order(await engine.in_thread(engine.store.get, saga_id), saga_id, kind)
        await self._orders.give(saga_id, kind, encode_order(**fields))

    # --- looking ------------------------------------------------------------------------------------------------

    async def get(self, saga_id: str) -> SagaView:
        """Reads everything about a saga, as far as it is durable.

        Raises:
            SagaNotFound: There is no such saga.
            JournalCorrupted: Its journal is not what was written.
        """
        engine = self._running()
        row = await engine.in_thread(engine.store.get, saga_id)
        if row is None:
            raise SagaNotFound(f"there is no saga {saga_id!r}")
        journals = await engine.in_thread(engine.store.load, [saga_id])
        return view_of(row, read_history(saga_id, journals.get(saga_id, []), self._codec))

    async def list(
        self, *, status: str | None = None, name: str | None = None, limit: int = 100, before: str | None = None
    ) -> builtins.list[SagaSummary]:
        """Reads sagas, newest first.

        Args:
            status: Only these: ``running``, ``compensating``, ``stuck``, ``completed`` or ``compensated``.
            name: Only this saga.
            limit: At most so many.
            before: Go on after the saga with this id.

        Raises:
            RequestError: There is no such status, or the limit is not at least 1.
        """
        if status is not None:
            check_status(status)
        check_number("limit", limit, least=1)
        engine = self._running()
        rows = await engine.in_thread(lambda: engine.store.select(status=status, name=name, limit=limit, before=before))
        return [summary_of(row) for row in rows]


def _new_id(clock: Clock) -> str:
    """Makes up an id that sorts by time, so that a database appends it where it appended the last."""
    return f"{int(clock.now() * 1000):012x}-{clock.token(8)}"
