"""The sagas that a coordinator drives: starting, finding, loading, taking over, and letting go of them."""

from __future__ import annotations

import logging
import secrets
from typing import TYPE_CHECKING, Any

import anyio
from anyio import CapacityLimiter, to_thread

from sagas.coordinator.attempting import Attempting, Job
from sagas.coordinator.journal import Journal, Write
from sagas.coordinator.limits import Limits
from sagas.coordinator.load import Load
from sagas.coordinator.loading import read_history
from sagas.coordinator.pool import Pool
from sagas.coordinator.runtime import Runtime
from sagas.coordinator.timers import Timers
from sagas.core import commands as c
from sagas.core import events as e
from sagas.core import records
from sagas.core.execution import Execution
from sagas.core.failures import describe, one_line
from sagas.core.replay import abandon, parked_by, replay
from sagas.errors import (
    IllegalTransition,
    JournalCorrupted,
    NotApplicable,
    PayloadError,
    ReplayDiverged,
)
from sagas.stores.port import Change, JournalRow, NewSaga, PayloadContext

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from sagas.coordinator.clock import Clock
    from sagas.coordinator.loading import History
    from sagas.core.definitions import Saga
    from sagas.core.operations import SagaCall
    from sagas.core.registry import Registry
    from sagas.stores.port import Codec, SagaRow, Store
    from sagas.telemetry import Tracing

__all__ = ["Engine"]

logger = logging.getLogger("sagas.coordinator")


class Engine:
    """See the module.

    Args:
        store: The journals.
        registry: The definitions.
        clock: Time and chance.
        codec: How payloads are stored.
        tracing: If spans are wanted.
        threads: How many ``def`` steps may run side by side.
        keep_waiting: How many sagas that only wait stay in memory.
        max_running: How many sagas may have something to do.
        limit_turn: Seconds between two looks whether other processes wait for permits of a limit.

    Attributes:
        owner: What this coordinator is called in leases and takeovers.
        sagas: Those in memory, by id.
    """

    def __init__(
        self,
        store: Store,
        registry: Registry,
        clock: Clock,
        *,
        codec: Codec | None,
        tracing: Tracing | None,
        threads: int,
        keep_waiting: int,
        max_running: int | None,
        limit_turn: float,
    ) -> None:
        self.owner = secrets.token_hex(6)
        self.store = store
        self.registry = registry
        self.clock = clock
        self.codec = codec
        self.tracing = tracing
        self.journal = Journal(store, clock)
        self.timers = Timers(clock, self._timer_due, self._timer_matters)
        self.load = Load(max_running)
        self.limits = Limits(clock, self, limit_turn)
        self.attempting = Attempting(clock, self.journal, tracing, threads, self.limits)
        self.pool: Pool[Job] = Pool(self.attempting.run)
        self.sagas: dict[str, Runtime] = {}
        self.closing = False
        self.wanted: set[str] = set()
        self.wake_sweeper: Callable[[], None] = lambda: None
        self._keep_waiting = keep_waiting
        self._waiting: dict[str, None] = {}  # in the order in which they began to wait
        self._loading: dict[str, anyio.Lock] = {}
        self._codeless: set[str] = set()
        # Apart from those of steps, which may all be taken for long.
        self._threads = CapacityLimiter(4)
        self._dropped: set[str] = set()

    async def in_thread(self, function: Callable[..., Any], *args: object) -> Any:
        """Calls the store; in a worker thread, unless it needs none."""
        if self.store.in_memory:
            return function(*args)
        with anyio.CancelScope(shield=True):
            return await to_thread.run_sync(function, *args, limiter=self._threads)

    # --- starting -----------------------------------------------------------------------------------------------

    def begin(
        self, call: SagaCall[Any], saga_id: str, arguments: bytes, fingerprint: bytes, rank: float
    ) -> tuple[Runtime, Write]:
        """Starts a saga, for which there is room; it is known to others when the record is durable."""
        saga = call.saga
        execution = Execution(saga, saga_id, self.registry.steps)
        runtime = Runtime(self, saga_id, execution, fingerprint=fingerprint)
        runtime.active = True
        runtime.rank = rank
        if self.tracing is not None:
            runtime.trace, runtime.parent = self.tracing.start(saga.name)
        now = runtime.started_at = self.clock.now()
        event = e.SagaStarted(
            saga.name, saga.version, arguments, f"{saga_id}.{self.clock.token(4)}", runtime.trace, runtime.parent
        )
        new = NewSaga(saga_id, saga.name, saga.version, fingerprint, now, self.owner, rank)
        self.sagas[saga_id] = runtime
        try:
            write = runtime.birth = runtime.feed(event, new=new)
        except BaseException:
            self._forget(runtime)
            raise
        return runtime, write

    # --- what a saga tells (see runtime.Hub) -------------------------------------------------------------------

    def dispatch(self, runtime: Runtime, command: c.Command) -> None:
        """Carries out a command whose cause is durable."""
        if isinstance(command, (c.RunStep, c.RunUndo)):
            if not self.closing:
                self.pool.submit((runtime, command))
        elif isinstance(command, c.StartTimer):
            if command.until > self.clock.now():
                self.timers.add(command.until, runtime.id, command.path)
            else:  # at once: a saga that was fetched for this timer could be dropped again before
                self._timer_due(runtime.id, command.path)
        elif isinstance(command, c.RunLocal):
            self._run_local(runtime, command)
        elif isinstance(command, c.Halt):
            logger.error("saga %s is stuck and needs an operator: %s", runtime.id, one_line(command.error))
            runtime.note("stuck", runtime.execution.at, error=one_line(command.error))
        elif isinstance(command, c.Complete):
            self._ended(runtime, command)

    def _run_local(self, runtime: Runtime, command: c.RunLocal) -> None:
        """Computes a local value at once."""
        try:
            event: e.Event = e.Recorded(command.path, command.schema.encode(command.make()))
        except KeyboardInterrupt:
            raise
        except BaseException as error:
            event = e.StepRejected(command.path, describe(error))
        runtime.feed(event)

    def _ended(self, runtime: Runtime, command: c.Complete) -> None:
        """Emits the root span of a saga."""
        if self.tracing is None or not runtime.trace:
            return
        execution = runtime.execution
        name = execution.saga.name if execution.saga is not None else ""
        self.tracing.end(
            runtime.trace,
            runtime.parent,
            name,
            started=runtime.started_at,
            ended=execution.at,
            attributes={
                "saga.id": runtime.id,
                "saga.name": name,
                "saga.version": execution.saga.version if execution.saga is not None else "",
                "saga.outcome": execution.state.status,
            },
            moments=runtime.moments or (),
            error=None if command.cause is None else one_line(command.cause),
        )

    def settled(self, runtime: Runtime) -> None:
        """Lets go of sagas that ended, and of the oldest of those that only wait, if they are too many."""
        execution = runtime.execution
        if execution.state.ended:
            self.sagas.pop(runtime.id, None)
            self._waiting.pop(runtime.id, None)
            return
        if execution.open:
            return
        self._waiting.pop(runtime.id, None)
        self._waiting[runtime.id] = None
        while len(self._waiting) > self._keep_waiting:
            oldest = next(iter(self._waiting))
            del self._waiting[oldest]
            dropped = self.sagas.get(oldest)
            if dropped is not None and dropped.execution.waiting and not dropped.unwritten and dropped.changed is None:
                del self.sagas[oldest]
                dropped.discard()
                if dropped.execution.timers:
                    self._dropped.add(oldest)

    def lost(self, runtime: Runtime) -> None:
        """Drops a saga that another coordinator has taken over, or whose id was taken."""
        if runtime.seq > 1:
            logger.warning("saga %s was taken over by another coordinator; it is dropped here", runtime.id)
        self._forget(runtime)

    def _forget(self, runtime: Runtime, *, keep_writes: bool = False) -> None:
        """Stops driving a saga; what it has queued is written only if asked to."""
        if self.sagas.get(runtime.id) is runtime:
            del self.sagas[runtime.id]
        self._waiting.pop(runtime.id, None)
        runtime.discard(keep_writes=keep_writes)

    def rewind(self, runtime: Runtime) -> None:
        """Reads a saga again, whose last event did not become durable."""
        self._forget(runtime)
        self.want(runtime.id)

    # --- timers -------------------------------------------------------------------------------------------------

    def _timer_due(self, saga_id: str, path: str) -> None:
        """Tells a saga that its time has come; one that is not in memory is fetched."""
        runtime = self.sagas.get(saga_id)
        if runtime is None:
            self.want(saga_id)
            return
        until = runtime.execution.timers.get(path)
        if until is None or runtime.discarded:
            return
        if until > self.clock.now():
            self.timers.add(until, saga_id, path)
            return
        try:
            runtime.feed(e.TimerFired(path))
        except Exception:
            logger.exception("saga %s could not take its timer %r", saga_id, path)

    def _timer_matters(self, saga_id: str, path: str, until: float) -> bool:
        """Says whether a timer is still to be kept."""
        runtime = self.sagas.get(saga_id)
        return saga_id in self._dropped if runtime is None else runtime.execution.timers.get(path) == until

    def want(self, saga_id: str) -> None:
        """Has the sweeper fetch a saga."""
        self.wanted.add(saga_id)
        self.wake_sweeper()

    # --- bringing sagas back ------------------------------------------------------------------------------------

    async def ensure(self, saga_id: str) -> Runtime | None:
        """Gives a saga that this coordinator may drive, reading it if need be.

        Returns:
            ``None`` if it has ended, is parked, or belongs to another coordinator that is alive.
        """
        runtime = self.sagas.get(saga_id)
        if runtime is not None:
            return runtime
        lock = self._loading.setdefault(saga_id, anyio.Lock())
        try:
            async with lock:
                runtime = self.sagas.get(saga_id)
                if runtime is None:
                    row = await self.in_thread(self.store.get, saga_id)
                    if row is None or row.ended_at is not None or not await self.may_drive(row):
                        return None
                    await self.bring_back([row])
                return self.sagas.get(saga_id)
        finally:
            if not lock.statistics().tasks_waiting and not lock.locked():
                self._loading.pop(saga_id, None)

    async def may_drive(self, row: SagaRow) -> bool:
        """Says whether a saga is this coordinator's own, or nobody's."""
        if row.owner == self.owner:
            return True
        return not await self.in_thread(self.store.alive, row.owner, self.clock.now())

    def lacks_code(self, saga_id: str) -> bool:
        """Says whether a saga was left alone for want of its code."""
        return saga_id in self._codeless

    async def bring_back(self, rows: Sequence[SagaRow]) -> None:
        """Reads sagas and goes on with them; returns when this is durable."""
        absent = [row for row in rows if row.id not in self.sagas]
        journals = await self.in_thread(self.store.load, [row.id for row in absent])
        last: Write | None = None
        for row in absent:
            if row.id not in self.sagas:
                last = self._bring_back(row, journals.get(row.id, [])) or last
        if last is not None:
            await last.durable()

    def _bring_back(self, row: SagaRow, journal: Sequence[JournalRow]) -> Write | None:
        """Goes on with one saga, or parks it; gives what it wrote."""
        try:
            history = read_history(row.id, journal, self.codec)
        except JournalCorrupted as error:
            return self._mark_stuck(row.id, error)
        if parked_by(history.records) is not None:
            return None
        saga = self.registry.find(history.start.name, history.start.version)
        if saga is None:
            if row.id not in self._codeless:
                self._codeless.add(row.id)
                logger.warning("saga %s waits: no code for %s in this process", row.id, history.start.name)
            return None
        try:
            execution = replay(saga, row.id, self.registry.steps, history.records)
        except Exception as error:
            # What a changed body raises where nothing catches it parks this saga, and no other.
            return self._park(row, history, error)
        if execution.state.ended:
            return self._mark_stuck(row.id, JournalCorrupted(f"saga {row.id}: its journal has ended, its row has not"))
        if row.status == "stuck" and not execution.state.stuck:
            return None  # its body had failed, and better code is here: that is for an operator to resume
        return self._go_on(row, history, execution)

    def _go_on(self, row: SagaRow, history: History, execution: Execution) -> Write | None:
        """Drives a replayed saga from here; gives what it wrote."""
        runtime = self.adopt(row, history, execution)
        if row.owner != self.owner:
            runtime.note("taken over", self.clock.now(), owner=self.owner)
            return runtime.feed(e.SagaTakenOver(self.owner), dispatch=self._outstanding(execution))
        for command in self._outstanding(execution):
            self.dispatch(runtime, command)
        if not runtime.unwritten and not execution.open:
            self._waiting[row.id] = None  # may be dropped again, but not before whoever wanted it has used it
        return None

    def adopt(self, row: SagaRow, history: History, execution: Execution) -> Runtime:
        """Takes a replayed saga into memory."""
        runtime = Runtime(self, row.id, execution, fingerprint=row.fingerprint)
        runtime.trace, runtime.parent = history.start.trace, history.start.parent
        runtime.started_at = history.records[0].at
        runtime.rank = row.rank
        stale = row.owner != self.owner or row.status == "stuck"
        runtime.restored(len(history.records), history.digest, taken_over=stale)
        for record in history.records:
            if isinstance(record.event, e.SagaTakenOver):
                runtime.note("taken over", record.at, owner=record.event.owner)
        self.sagas[row.id] = runtime
        self._dropped.discard(row.id)
        runtime.count(active=not execution.state.ended and bool(execution.open))
        return runtime

    def _outstanding(self, execution: Execution) -> list[c.Command]:
        """Lists what is left to do: commands, and timers."""
        timers = [c.StartTimer(path, until) for path, until in execution.timers.items()]
        return [*execution.outstanding(), *timers]

    def _park(self, row: SagaRow, history: History, error: Exception) -> Write:
        """Writes that a saga cannot go on with the code at hand."""
        logger.error("saga %s is parked: %s", row.id, error)
        at = max(history.records[-1].at, self.clock.now())
        kind, path, data = records.encode(e.SagaParked(describe(error)), ())
        if self.codec is not None:
            data = self.codec.encode(data, PayloadContext(row.id, path, kind))
        seq = len(history.records)
        digest = records.chain(history.digest, seq, at, kind, path, data)
        return self._write_stuck(row.id, error, (JournalRow(row.id, seq, at, kind, path, data, digest),))

    def _mark_stuck(self, saga_id: str, error: Exception) -> Write:
        """Shows that a saga's journal cannot be read; nothing can be appended to it."""
        logger.error("saga %s is stuck: %s", saga_id, error)
        return self._write_stuck(saga_id, error, ())

    def _write_stuck(self, saga_id: str, error: Exception, rows: tuple[JournalRow, ...]) -> Write:
        """Writes that a saga waits for an operator."""
        change = Change(
            saga_id, "stuck", active=False, wake_at=None, ended_at=None, error=one_line(error), owner=self.owner
        )
        write = Write(_Parked(saga_id), rows, change=change)
        self.journal.append(write)
        return write

    def broken(self, runtime: Runtime, error: Exception) -> None:
        """Parks a saga that could not take an event, which only a bug or a codec can cause; the others go on.

        As a record, so that it is fenced as any other, and an operator can resume or cancel the saga.
        """
        logger.error("saga %s cannot be driven on", runtime.id, exc_info=error)
        self._forget(runtime, keep_writes=True)
        if not runtime.seq:
            return
        try:
            row = runtime.encode(e.SagaParked(describe(error)), self.clock.now(), ())
        except Exception:
            logger.exception("saga %s cannot even be parked; it is tried again by the next coordinator", runtime.id)
            return
        self._write_stuck(runtime.id, error, (row,))

    async def drop_what_was_taken(self) -> None:
        """After a pause beyond the lease: lets go of every saga that another coordinator has taken over meanwhile."""
        ids = list(self.sagas)
        rows = await self.in_thread(lambda: {saga_id: self.store.get(saga_id) for saga_id in ids})
        for saga_id, row in rows.items():
            runtime = self.sagas.get(saga_id)
            if runtime is not None and row is not None and row.owner != self.owner:
                self.lost(runtime)

    # --- parked sagas -------------------------------------------------------------------------------------------

    async def unpark(self, row: SagaRow, event: e.SagaResumed | e.CancelRequested, read: tuple[int, ...] = ()) -> Write:
        """Lets a saga go on with the code at hand, or rolls it back from its journal alone.

        Raises:
            NotApplicable: It is not parked, or the code at hand does not fit either.
            JournalCorrupted: Its journal cannot be read.
        """
        journals = await self.in_thread(self.store.load, [row.id])
        history = read_history(row.id, journals.get(row.id, []), self.codec)
        if isinstance(event, e.CancelRequested):
            if parked_by(history.records) is None:
                raise NotApplicable(f"saga {row.id} is not parked")
            execution = abandon(row.id, self.registry.steps, history.records)
            saga: Saga[..., Any] | None = None
        else:
            saga = self.registry.find(history.start.name, history.start.version)
            try:
                execution = replay(saga, row.id, self.registry.steps, history.records)
            except (ReplayDiverged, PayloadError) as error:
                raise NotApplicable(f"saga {row.id} still does not fit the code at hand: {error}") from error
        unnoted, execution.unnoted = execution.unnoted, ()
        runtime = self.adopt(row, history, execution)
        try:
            return runtime.feed(
                event, read=read, noted=unnoted, dispatch=[*self._outstanding(execution), *_ends(unnoted)]
            )
        except IllegalTransition as error:
            self._forget(runtime)
            raise NotApplicable(
                f"saga {row.id} has passed its pivot, or may have, so it can only go forward: deploy code that "
                "fits its journal and resume it"
            ) from error


def _ends(commands: Sequence[c.Command]) -> list[c.Command]:
    """Picks the commands that are not outstanding steps."""
    return [command for command in commands if isinstance(command, (c.Complete, c.Halt))]


class _Parked:
    """Stands for a saga that nobody drives."""

    __slots__ = ("discarded", "id", "void")

    def __init__(self, saga_id: str) -> None:
        self.id = saga_id
        self.discarded = self.void = False

    def durable(self, write: Write) -> None:
        """Lets whoever waits go on."""
        if write.done is not None:
            write.done.set()

    def lost(self, write: Write, *, taken: bool) -> None:
        """Leaves it to whoever was faster."""
        write.taken, write.fenced = taken, not taken
        if write.done is not None:
            write.done.set()
