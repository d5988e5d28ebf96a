"""The sagas that a coordinator drives: starting, finding, loading, taking over, and letting go of them."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

import anyio

from sagas.coordinator.attempting import Attempting, Job
from sagas.coordinator.journal import Journal
from sagas.coordinator.limits import Limits
from sagas.coordinator.link import Link
from sagas.coordinator.load import Load
from sagas.coordinator.loading import lock_answer, read_history
from sagas.coordinator.measuring import Measuring, name_of
from sagas.coordinator.parking import Parking, outstanding
from sagas.coordinator.pool import Pool
from sagas.coordinator.restarts import look_what_is_left
from sagas.coordinator.routing import Routes
from sagas.coordinator.runtime import Runtime
from sagas.coordinator.timers import Timers
from sagas.coordinator.writes import Write
from sagas.core import commands as c
from sagas.core import events as e
from sagas.core.execution import Execution
from sagas.core.failures import describe, one_line
from sagas.core.replay import parked_by, replay
from sagas.errors import JournalCorrupted
from sagas.stores.port import NewSaga
from sagas.telemetry import Origin, find_story

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from sagas.coordinator.access import Wish
    from sagas.coordinator.calls import Calls
    from sagas.coordinator.clock import Clock
    from sagas.coordinator.loading import History
    from sagas.core.registry import Registry
    from sagas.errors import StoreError
    from sagas.stores.port import Codec, JournalRow, Mail, SagaRow, Store
    from sagas.telemetry import Metering, Tracing

__all__ = ["Engine"]

logger = logging.getLogger("sagas.coordinator")


class Engine(Link):
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
        calls: How the store is called.
        routes: To the steps that are performed elsewhere.

    Attributes:
        owner: What this coordinator is called in leases and takeovers.
        sagas: Those in memory, by id.
        parking: For those that wait for an operator.
        overdue: Operations that waited long enough for a lock, with their sagas; if it was not granted meanwhile.
        measuring: If somebody wants to know figures.
    """

    runs = True
    what = "coordinator"
    meanwhile = "goes on when one runs again"

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
        calls: Calls | None = None,
        routes: Routes | None = None,
    ) -> None:
        super().__init__(store, clock, codec=codec, tracing=tracing)
        self.owner = clock.token(6)
        self.registry = registry
        self.journal = Journal(store, clock, self._answered, lambda: look_what_is_left(self), calls=calls)
        self.timers = Timers(clock, self._timer_due, self._timer_matters)
        self.load = Load(max_running)
        self.limits = Limits(clock, self, limit_turn)
        self.attempting = Attempting(clock, self.journal, threads, self.limits, routes=routes or Routes({}))
        self.pool: Pool[Job] = Pool(self.attempting.run)
        self.parking = Parking(self)
        self.sagas: dict[str, Runtime] = {}
        self.wanted: set[str] = set()
        self.overdue: list[tuple[str, str]] = []
        self.measuring: Measuring | None = None
        self.wake_sweeper: Callable[[], None] = lambda: None
        self.pass_on: Callable[[Mail], None] = lambda _: None
        self.emitted: Callable[[], None] = lambda: None
        self._keep_waiting = keep_waiting
        self._waiting: dict[str, None] = {}  # in the order in which they began to wait
        self._loading: dict[str, anyio.Lock] = {}
        self._hands = anyio.Lock()
        self._dropped: set[str] = set()
        self._rewound: set[str] = set()
        self._refused: dict[str, StoreError] = {}
        self._untold: dict[str, list[tuple[Runtime, Write]]] = {}

    def find(self, saga_id: str) -> Runtime | None:
        """See ``Link``."""
        return self.sagas.get(saga_id)

    def measure(self, metering: Metering) -> None:
        """Has everything measured from now on."""
        self.measuring = Measuring(self, metering)
        self.journal.commits.committed = self.measuring.committed

    # --- starting -----------------------------------------------------------------------------------------------

    def begin(self, wish: Wish) -> tuple[Runtime, Write]:
        """Starts a saga, for which there is room; it is known to others when the record is durable."""
        saga, saga_id = wish.saga, wish.id
        execution = Execution(saga, saga_id, self.registry.steps)
        runtime = Runtime(self, saga_id, execution, fingerprint=wish.fingerprint)
        runtime.active = True
        runtime.rank = wish.rank
        if self.tracing is not None:
            origin = runtime.origin = self.tracing.start(saga.name, saga_id)
            runtime.story = find_story(self.tracing, origin, saga_id)
        now = runtime.started_at = self.clock.now()
        event = e.SagaStarted(
            saga.name, saga.version, wish.arguments, f"{saga_id}.{self.clock.token(4)}", *runtime.origin
        )
        new = NewSaga(saga_id, saga.name, saga.version, wish.fingerprint, now, self.owner, wish.rank)
        self.sagas[saga_id] = runtime
        try:
            write = runtime.birth = runtime.feed(event, new=new)
        except BaseException:
            self.forget(runtime)
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
        elif isinstance(command, c.Emit):
            self.emitted()
        elif isinstance(command, c.Complete) and runtime.story is not None:
            runtime.story.end(runtime.execution.children or {})

    def reported(self, saga_id: str, status: str) -> None:
        """Tells those who wait elsewhere."""
        self.watching.changed(saga_id, status)

    def _run_local(self, runtime: Runtime, command: c.RunLocal) -> None:
        """Computes a local value at once."""
        try:
            event: e.Event = e.Recorded(command.path, command.schema.encode(command.make()))
        except KeyboardInterrupt:
            raise
        except BaseException as error:
            event = e.StepRejected(command.path, describe(error))
        runtime.feed(event)

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

    def lost(self, runtime: Runtime, *, driven: bool = True) -> None:
        """Drops a saga that another coordinator has taken over, or whose id was taken."""
        if runtime.seq > 1:
            if driven:
                self._tell_that_it_is_lost(runtime.id, name_of(runtime))
            # Or it was this one, in a commit that it never heard the end of; then it goes on from there.
            self.want(runtime.id)
        self.forget(runtime)

    def forget(self, runtime: Runtime, *, keep_writes: bool = False) -> None:
        """Stops driving a saga; what it has queued is written only if asked to."""
        if self.sagas.get(runtime.id) is runtime:
            del self.sagas[runtime.id]
        self._waiting.pop(runtime.id, None)
        runtime.discard(keep_writes=keep_writes)

    def rewind(self, runtime: Runtime) -> None:
        """Reads a saga again, whose last event did not become durable."""
        self.forget(runtime)
        self._rewound.add(runtime.id)
        self.want(runtime.id)

    def untold(self, runtime: Runtime, write: Write) -> None:
        """Keeps what spans tell of a record, until it is known whether that is durable after all."""
        if self.closing:
            write.give_up_spans()
            return
        self._untold.setdefault(runtime.id, []).append((runtime, write))
        self.want(runtime.id)

    async def _tell_after_all(self, saga_ids: Sequence[str]) -> None:
        """Shows the spans of records that are durable, though it had looked as if others had been faster."""
        untold = [saga_id for saga_id in saga_ids if saga_id in self._untold]
        journals = await self.in_thread(self.store.load, untold)
        for saga_id in untold:
            writes = self._untold.pop(saga_id, [])
            durable = {bytes(row.digest) for row in journals.get(saga_id, ())}
            for runtime, write in writes:
                if not write.rows or write.rows[-1].digest not in durable:
                    write.give_up_spans()
                    continue
                write.show_spans()
                if runtime.story is not None and any(isinstance(x, c.Complete) for x in write.dispatch):
                    runtime.story.end(runtime.execution.children or {})

    def refused(self, runtime: Runtime, error: StoreError) -> None:
        """Lets go of a saga with a record that cannot be written; it is parked where its journal ends."""
        logger.error("%s", error, exc_info=error)
        self.forget(runtime)
        if runtime.birth is None:
            self._refused[runtime.id] = error
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
        elif runtime.execution.waits_for_lock(path):
            self.overdue.append((saga_id, path))
            self.wake_sweeper()
        else:
            self._fire(runtime, path)

    def fire_overdue(self, count: int) -> None:
        """Ends the waiting of the first so many, after the answers that may have come were delivered."""
        for saga_id, path in self.overdue[:count]:
            runtime = self.sagas.get(saga_id)
            if runtime is not None and not runtime.discarded and path in runtime.execution.timers:
                self._fire(runtime, path)
        del self.overdue[:count]

    def _fire(self, runtime: Runtime, path: str) -> None:
        """Tells a saga that its time has come."""
        try:
            runtime.feed(e.TimerFired(path))
        except Exception:
            logger.exception("saga %s could not take its timer %r", runtime.id, path)

    def _timer_matters(self, saga_id: str, path: str, until: float) -> bool:
        """Says whether a timer is still to be kept."""
        runtime = self.sagas.get(saga_id)
        return saga_id in self._dropped if runtime is None else runtime.execution.timers.get(path) == until

    def want(self, saga_id: str) -> None:
        """Has the sweeper fetch a saga."""
        self.wanted.add(saga_id)
        self.wake_sweeper()

    # --- locks --------------------------------------------------------------------------------------------------

    def _answered(self, mail: Sequence[Mail]) -> None:
        """Tells sagas about their locks, as far as they are here."""
        for item in mail:
            runtime = self.sagas.get(item.saga_id)
            try:
                answer = lock_answer(item.body)
                if runtime is None or not runtime.execution.waits_for_lock(answer.path):
                    self.pass_on(item)
                else:
                    runtime.feed(answer, read=(item.id,))
            except Exception:
                logger.exception("saga %s could not take the answer about a lock", item.saga_id)

    # --- bringing sagas back ------------------------------------------------------------------------------------

    async def ensure(self, saga_id: str) -> Runtime | None:
        """Gives a saga that this coordinator may drive, reading it if need be.

        Returns:
            ``None`` if it has ended, is parked, belongs to another coordinator that is alive, or has no code here.
        """
        runtime = self.sagas.get(saga_id)
        if runtime is not None:
            return runtime
        lock = self._loading.setdefault(saga_id, anyio.Lock())
        try:
            async with lock:
                if saga_id not in self.sagas:
                    await self.fetch([saga_id])
                return self.sagas.get(saga_id)
        finally:
            if not lock.statistics().tasks_waiting and not lock.locked():
                self._loading.pop(saga_id, None)

    async def fetch(self, saga_ids: Sequence[str]) -> None:
        """Reads those of some sagas that this coordinator may drive, and goes on with them."""
        if self._untold:
            await self._tell_after_all(saga_ids)
        rows = (await self.in_thread(self.store.find, saga_ids)).values()
        self._tell_which_are_lost(saga_ids, rows)
        mine = [row for row in rows if row.ended_at is None and not self.lacks_code(row)]
        await self.bring_back([row for row in mine if await self.may_drive(row)])

    def _tell_which_are_lost(self, saga_ids: Sequence[str], rows: Iterable[SagaRow]) -> None:
        """Says of sagas that had to be read again that somebody else drives them by now."""
        rewound = self._rewound.intersection(saga_ids)
        self._rewound -= rewound
        for row in rows:
            if row.id in rewound and row.owner != self.owner:
                self._tell_that_it_is_lost(row.id, row.name)

    async def may_drive(self, row: SagaRow) -> bool:
        """Says whether a saga is this coordinator's own, or nobody's."""
        if row.owner == self.owner:
            return True
        return not await self.in_thread(self.store.alive, row.owner, self.clock.now())

    def lacks_code(self, row: SagaRow) -> bool:
        """Says whether a saga is for coordinators with other code."""
        return self.registry.find(row.name, row.version) is None

    async def bring_back(self, rows: Sequence[SagaRow]) -> None:
        """Reads sagas and goes on with them; returns when this is durable."""
        last: Write | None = None
        if self._untold:
            await self._tell_after_all([row.id for row in rows])
        async with self._hands:
            absent = [row for row in rows if row.id not in self.sagas]
            journals = await self.in_thread(self.store.load, [row.id for row in absent])
            # Whoever took a saga over before its journal was read is seen now, and whoever does so later is fenced.
            still = await self.in_thread(self.store.find, [row.id for row in absent])
            for row in absent:
                now = still.get(row.id)
                is_same = now is not None and (now.owner, now.ended_at) == (row.owner, row.ended_at)
                if is_same and row.id not in self.sagas and not self.closing:
                    last = self._bring_back(row, journals.get(row.id, [])) or last
        if last is not None:
            await last.durable()

    def _bring_back(self, row: SagaRow, journal: Sequence[JournalRow]) -> Write | None:
        """Goes on with one saga, or parks it; gives what it wrote."""
        try:
            history = read_history(row.id, journal, self.codec)
        except JournalCorrupted as error:
            return self.parking.mark_stuck(row, error)
        refused = self._refused.pop(row.id, None)
        if refused is not None:
            return self.parking.park(row, history, refused)
        if parked_by(history.records) is not None:
            return None
        saga = self.registry.find(history.start.name, history.start.version)
        if saga is None:
            return None
        try:
            execution = replay(saga, row.id, self.registry.steps, history.records)
        except Exception as error:
            # What a changed body raises where nothing catches it parks this saga, and no other.
            return self.parking.park(row, history, error)
        if execution.state.ended:
            return self.parking.mark_stuck(
                row, JournalCorrupted(f"saga {row.id}: its journal has ended, its row has not")
            )
        if row.status == "stuck" and not execution.state.stuck:
            return None  # its body had failed, and better code is here: that is for an operator to resume
        return self._go_on(row, history, execution)

    def _go_on(self, row: SagaRow, history: History, execution: Execution) -> Write | None:
        """Drives a replayed saga from here; gives what it wrote."""
        runtime = self.adopt(row, history, execution)
        if row.owner != self.owner:
            begins = execution.submitted
            runtime.arrival = runtime.feed(e.SagaTakenOver(self.owner), dispatch=outstanding(execution))
            runtime.arrival.begins = begins
            return runtime.arrival
        for command in outstanding(execution):
            self.dispatch(runtime, command)
        if not runtime.unwritten and not execution.open:
            self._waiting[row.id] = None  # may be dropped again, but not before whoever wanted it has used it
        return None

    def adopt(self, row: SagaRow, history: History, execution: Execution) -> Runtime:
        """Takes a replayed saga into memory."""
        runtime = Runtime(self, row.id, execution, fingerprint=row.fingerprint)
        start = history.start
        runtime.origin = Origin(start.trace, start.parent, start.state, start.baggage)
        runtime.story = find_story(self.tracing, runtime.origin, row.id, history.records)
        runtime.started_at = history.records[0].at
        runtime.rank = row.rank
        stale = row.owner != self.owner or row.status == "stuck"
        runtime.restored(
            len(history.records), history.digest, revision=history.revision, awaits=history.awaits, taken_over=stale
        )
        if self.measuring is not None:
            self.measuring.restored(runtime, history.records)
        self.sagas[row.id] = runtime
        self._dropped.discard(row.id)
        runtime.count(active=not execution.state.ended and bool(execution.open))
        return runtime

    def broken(self, runtime: Runtime, error: Exception) -> None:
        """See ``Parking.broken``."""
        self.parking.broken(runtime, error)

    async def drop_what_was_taken(self) -> None:
        """After a pause beyond the lease: lets go of every saga that another coordinator has taken over meanwhile.

        Also of those that are not there any more, since they have ended elsewhere so long ago that they were deleted.
        """
        async with self._hands:
            # One that is on its way here is fenced by itself if it is somebody else's.
            here = {saga_id: runtime for saga_id, runtime in self.sagas.items() if runtime.arrival is None}
            rows = await self.in_thread(self.store.find, list(here))
        for saga_id, runtime in here.items():
            row = rows.get(saga_id)
            taken = runtime.birth is None if row is None else row.owner != self.owner
            if taken and self.sagas.get(saga_id) is runtime:
                self._tell_that_it_is_lost(saga_id, name_of(runtime))
                self.forget(runtime)

    async def hand_over(self) -> None:
        """When leaving: gives others every saga at once of which nothing is under way here."""
        idle = [x for x in self.sagas.values() if not x.busy and not x.unwritten]
        for runtime in idle:
            self.forget(runtime)
        if idle:
            await self.in_thread(self.store.hand_over, self.owner, [x.id for x in idle])

    def _tell_that_it_is_lost(self, saga_id: str, name: str) -> None:
        """Says that a saga goes on elsewhere."""
        logger.warning("saga %s was taken over by another coordinator; it is dropped here", saga_id)
        if self.measuring is not None:
            self.measuring.lost(name)
