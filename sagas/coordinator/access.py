"""What can be asked of sagas, and what can be read of them, whoever runs them."""

from __future__ import annotations

import hashlib
from abc import abstractmethod
from typing import TYPE_CHECKING, Any, Generic, NamedTuple, TypeVar

from sagas.coordinator.checks import check_id, check_priority, check_revision
from sagas.coordinator.handles import Handle, outcome
from sagas.coordinator.loading import read_history, revision_of
from sagas.coordinator.looking import Looking
from sagas.coordinator.operating import Operating
from sagas.coordinator.orders import encode_order
from sagas.coordinator.schedule_desk import ScheduleDesk
from sagas.core.operations import SagaCall
from sagas.core.ranks import rank_of
from sagas.errors import CoordinatorClosed, IdempotencyConflict

if TYPE_CHECKING:
    from contextlib import AsyncExitStack
    from types import TracebackType

    from sagas.coordinator.clock import Clock
    from sagas.coordinator.link import Link
    from sagas.coordinator.runtime import Runtime
    from sagas.core.definitions import Saga
    from sagas.core.versions import Versions
    from sagas.stores.port import SagaRow

__all__ = ["Access", "Wish"]

R = TypeVar("R")
L = TypeVar("L", bound="Link")


class Wish(NamedTuple):
    """A saga that is to be started.

    Attributes:
        call: As it was asked for.
        saga: The definition that is to run, which may be another version.
        id: Its id.
        made_up: Whether nobody else can know the id.
        arguments: As one JSON object.
        fingerprint: Over name and input; another one under the same id is a conflict.
        rank: Its place among those that wait for the same, smallest first.
    """

    call: SagaCall[Any]
    saga: Saga[..., Any]
    id: str
    made_up: bool
    arguments: bytes
    fingerprint: bytes
    rank: float


class Access(Operating, Looking, ScheduleDesk, Generic[L]):
    """What a ``Coordinator`` and a ``Client`` can be asked for, between entering and leaving them."""

    _versions: Versions
    _engine: L | None = None
    _stack: AsyncExitStack | None = None

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

    def _running(self) -> L:
        """Gives what does the work.

        Raises:
            CoordinatorClosed: It is not entered, or being left.
        """
        if self._engine is None:
            name = type(self).__name__
            raise CoordinatorClosed(f"the {name.lower()} is not running; use it inside `async with {name}(…)`")
        return self._engine

    def _accepting(self) -> L:
        """Gives it, if new work is taken; raises as ``_running``."""
        engine = self._running()
        if engine.closing:
            raise CoordinatorClosed(f"the {engine.what} is shutting down and takes nothing new")
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
        saga_id, runtime = await self._start(call, id, priority, wait=False)
        result: Any = await outcome(engine, call.saga, saga_id, runtime)
        return result  # type: ignore[no-any-return]  # decoded by the saga's own annotation

    async def start(
        self,
        call: SagaCall[R],
        *,
        id: str | None = None,  # noqa: A002 - the field's word
        priority: int = 0,
    ) -> Handle[R]:
        """Starts a saga, durably; a coordinator does so once there is room for it (see ``max_running``).

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
            SagaNotRegistered: The coordinator was not given this saga; a client needs none.
            CoordinatorClosed: It is not running.
            CoordinatorBusy: There was no room for it within ``start_timeout``. It was not started.
        """
        engine = self._accepting()
        saga_id, runtime = await self._start(call, id, priority, wait=True)
        return Handle(engine, call.saga, saga_id, runtime)

    @abstractmethod
    async def _start(
        self, call: SagaCall[Any], wanted: str | None, priority: int, *, wait: bool
    ) -> tuple[str, Runtime | None]:
        """Starts a saga, or finds it; ``wait``: returns only when it is durable."""

    def _wish(self, call: SagaCall[Any], wanted: str | None, priority: int) -> Wish:
        """Checks what is to be started.

        Raises:
            TypeError: It is no call of a saga.
            RequestError: The priority is out of its range.
        """
        check_priority(priority)
        if not isinstance(call, SagaCall):
            raise TypeError(f"start and run take the call of a saga, such as place_order(order), not {call!r}")
        clock = self._running().clock
        saga_id = _new_id(clock) if wanted is None else check_id(wanted)
        saga, arguments = self._chosen(call, saga_id)
        fingerprint = hashlib.blake2b(saga.name.encode() + b"|" + arguments, digest_size=16).digest()
        return Wish(call, saga, saga_id, wanted is None, arguments, fingerprint, rank_of(clock.now(), priority))

    def _chosen(self, call: SagaCall[Any], saga_id: str) -> tuple[Saga[..., Any], bytes]:
        """Gives the definition to start, and the arguments as it writes them."""
        started, arguments = self._versions.start(call, saga_id)
        return started.saga, arguments

    async def _is_same(self, wish: Wish, row: SagaRow) -> bool:
        """Says whether a saga was started with the input that is wished for; another version may write it otherwise."""
        if bytes(row.fingerprint) == wish.fingerprint:
            return True
        if row.name != wish.saga.name:
            return False
        engine = self._running()
        journals = await engine.in_thread(engine.store.load, [row.id])
        start = read_history(row.id, journals.get(row.id, []), engine.codec).start
        return self._versions.is_same(wish.call, row.version, start.input)

    async def _existing(self, wish: Wish) -> SagaRow:
        """Reads a saga that was started before.

        Raises:
            IdempotencyConflict: It was started with another input.
            CoordinatorClosed: This coordinator or client is being left.
        """
        engine = self._running()
        if engine.closing:
            raise CoordinatorClosed(f"the {engine.what} was closed while saga {wish.id} began; start it again, same id")
        row: SagaRow | None = await engine.in_thread(engine.store.get, wish.id)
        if row is None:
            raise CoordinatorClosed(f"saga {wish.id} could not be started; try again")
        if not await self._is_same(wish, row):
            raise IdempotencyConflict(
                f"saga {wish.id!r} exists already, as {row.name} with another input. Use another id, or the same input"
            )
        return row

    async def _order(self, saga_id: str, kind: str, *, expected: int | None = None, **fields: object) -> None:
        """See ``Operating``."""
        engine = self._accepting()
        if expected is not None:
            journals = await engine.in_thread(engine.store.load, [saga_id])
            if saga_id in journals:
                check_revision(saga_id, expected, revision_of(journals[saga_id]))
            fields["expected"] = expected
        await self._give(saga_id, kind, encode_order(**fields))

    @abstractmethod
    async def _give(self, saga_id: str, kind: str, body: bytes) -> None:
        """Gives an order, durably."""


def _new_id(clock: Clock) -> str:
    """Makes up an id that sorts by time, so that a database appends it where it appended the last."""
    return f"{int(clock.now() * 1000):012x}-{clock.token(8)}"
