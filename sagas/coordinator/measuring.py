"""What a coordinator measures: everything by the records of its sagas, when they are durable.

So what was measured has happened, each of it once, whichever process saw it. What can be observed at any time is read
from the store now and then, and kept until somebody asks.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

import anyio

from sagas.core import commands as c
from sagas.core import events as e
from sagas.errors import StoreError
from sagas.stores.census import take_census
from sagas.telemetry import metrics_table as m
from sagas.telemetry.metrics import spot
from sagas.telemetry.metrics_board import Point

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from sagas.coordinator.engine import Engine
    from sagas.coordinator.runtime import Runtime
    from sagas.coordinator.writes import Write
    from sagas.core.records import Record
    from sagas.stores.census import Census
    from sagas.telemetry import Metering

__all__ = ["Measuring", "failed_since", "name_of", "still_failed"]

logger = logging.getLogger("sagas.telemetry")

# Seconds between two looks into the store, for gauges; and at most this part of the time is spent on them.
_EVERY, _PART = 15.0, 0.02
# What was seen is said for so long, in multiples of that pause; a store that is away longer has no gauges.
_FRESH = 4.0

_FAILED = frozenset({"StepRejected", "StepInDoubt", "CancelRequested"})
_GOES_ON = frozenset({"SagaTakenOver", "SagaResumed"})
_UNDOING = ("compensating", "stuck")


class Measuring:
    """See the module.

    Args:
        engine: Whose sagas.
        metering: Takes the measurements.
    """

    def __init__(self, engine: Engine, metering: Metering) -> None:
        self._engine = engine
        self._metering = metering
        self._write = metering.write
        self._census: Census | None = None
        self._fresh_until = 0.0

    def restored(self, runtime: Runtime, records: Sequence[Record]) -> None:
        """Notes since when a saga that comes from its journal is on its way back."""
        runtime.failed_at = failed_since(records)
        if runtime.failed_at is None and runtime.execution.state.status == "compensating":
            runtime.failed_at = records[-1].at

    # --- by record ----------------------------------------------------------------------------------------------

    def wrote(self, runtime: Runtime, write: Write) -> None:
        """Takes a record that has become durable; a saga goes on whatever comes of this."""
        try:
            if write.event is not None:
                self._wrote(runtime, write, write.event)
        except Exception:
            logger.exception("saga %s could not be measured", runtime.id)

    def _wrote(self, runtime: Runtime, write: Write, event: e.Event) -> None:
        """Does what ``wrote`` says."""
        at = write.rows[-1].at
        runtime.failed_at = _failed_since(runtime.failed_at, at, event, write.dispatch)
        if runtime.failed_at is None and write.change is not None and write.change.status == "compensating":
            runtime.failed_at = at  # the body itself failed, after its last step had succeeded
        if isinstance(event, _TRIED):
            self._tried(runtime, event)
        elif isinstance(event, (e.SagaStarted, e.SagaTakenOver)):
            self._began(runtime, write, event)
        elif isinstance(event, e.UndoSkipped):
            self._undone(runtime, event)
        for command in write.dispatch:
            if isinstance(command, c.Halt):
                self.halted(name_of(runtime), runtime.trace)
            elif isinstance(command, c.Complete):
                self._ended(runtime, write, at)

    def _began(self, runtime: Runtime, write: Write, event: e.Event) -> None:
        """Counts a saga that begins, or is taken over."""
        name = name_of(runtime)
        if isinstance(event, e.SagaTakenOver) and not write.begins:
            self._write(m.TAKEOVERS, 1, name, context=spot(runtime.trace))
            return
        self._write(m.STARTED, 1, name, context=spot(runtime.trace))
        if write.begins:
            delay = max(0.0, write.rows[-1].at - runtime.started_at)
            self._write(m.START_DELAY, delay, name, context=spot(runtime.trace))

    def _ended(self, runtime: Runtime, write: Write, at: float) -> None:
        """Counts a saga that ends."""
        name, context = name_of(runtime), spot(runtime.trace)
        outcome = write.change.status if write.change is not None else runtime.execution.state.status
        self._write(m.ENDED, 1, name, outcome, context=context)
        self._write(m.DURATION, max(0.0, at - runtime.started_at), name, outcome, context=context)
        # Not of those that had nothing to undo: they were consistent all the time.
        if outcome == "compensated" and runtime.reported in _UNDOING and runtime.failed_at is not None:
            self._write(m.TIME_TO_CONSISTENT, max(0.0, at - runtime.failed_at), name, context=context)

    def _tried(self, runtime: Runtime, event: Any) -> None:
        """Counts the attempts of a step or a compensator."""
        name, step = name_of(runtime), _step(runtime, event.path)
        undo = isinstance(event, _UNDOS)
        metric = m.UNDO_DURATION if undo else m.STEP_DURATION
        attempts = _made(event)
        for attempt in attempts:
            outcome = "succeeded" if attempt.error is None else "failed"
            context = spot(runtime.trace, attempt.span)
            self._write(metric, max(0.0, attempt.seconds), name, step, outcome, context=context)
        more = isinstance(event, (e.StepBackedOff, e.UndoBackedOff))
        retries = len(attempts) if more else max(0, len(attempts) - 1)
        if retries:
            self._write(m.RETRIES, retries, name, step, undo, context=spot(runtime.trace, attempts[0].span))
        if undo and not more:
            self._undone(runtime, event)

    def _undone(self, runtime: Runtime, event: Any) -> None:
        """Counts what became of an undo."""
        attempts: Sequence[e.Attempt] = getattr(event, "attempts", ())
        context = spot(runtime.trace, attempts[-1].span if attempts else "")
        values = (name_of(runtime), _step(runtime, event.path), _BECAME[type(event)])
        self._write(m.COMPENSATIONS, 1, *values, context=context)

    # --- by other occasions -------------------------------------------------------------------------------------

    def halted(self, name: str, trace: str = "") -> None:
        """Counts a saga that becomes stuck."""
        self._write(m.HALTS, 1, name, context=spot(trace))

    def lost(self, name: str) -> None:
        """Counts a saga that goes on elsewhere."""
        self._write(m.LOSSES, 1, name)

    def lapsed(self) -> None:
        """Counts a lease that was renewed too late."""
        self._write(m.LAPSES, 1)

    def committed(self, records: int, seconds: float, error: StoreError | None) -> None:
        """Takes a commit of the journal, done or failed."""
        self._write(m.COMMIT_DURATION, max(0.0, seconds), "" if error is None else type(error).__name__)
        if error is None:
            self._write(m.COMMIT_RECORDS, records)

    def begin_at_zero(self) -> None:
        """Has counters of what is rare begin before it happens, or nobody would see the first time as a change."""
        self._write(m.LAPSES, 0)
        for name in sorted({code.rpartition("@")[0] for code in self._engine.registry.code}):
            for metric in (m.STARTED, m.HALTS, m.TAKEOVERS, m.LOSSES):
                self._write(metric, 0, name)
            for outcome in ("completed", "compensated"):
                self._write(m.ENDED, 0, name, outcome)

    # --- gauges -------------------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Looks into the store now and then, for ever."""
        self.begin_at_zero()
        self._metering.board.post(self._points)
        try:
            while True:
                pause = await self._look()
                await anyio.sleep(pause)
        finally:
            self._metering.board.remove(self._points)

    async def _look(self) -> float:
        """Looks into the store; gives seconds until the next time."""
        engine = self._engine
        began = engine.clock.steady()
        try:
            census = await engine.in_thread(take_census, engine.store, engine.clock.now())
        except StoreError as error:
            logger.debug("sagas are not counted at the moment: %s", error)
            return _EVERY
        except Exception:
            logger.exception("sagas could not be counted; trying again")
            return _EVERY
        now = engine.clock.steady()
        pause = max(_EVERY, (now - began) / _PART)
        self._census, self._fresh_until = census, now + _FRESH * pause
        return pause

    def _points(self) -> Iterator[Point]:
        """Gives what is known; in any thread."""
        engine, census = self._engine, self._census
        yield Point(m.ACTIVE, engine.load.active)
        yield Point(m.STALLED, int(engine.journal.commits.stalled is not None))
        for route in engine.attempting.routes.with_breaker():
            yield Point(m.BREAKERS, int(route.is_open), (route.name,))
        if census is None or engine.clock.steady() > self._fresh_until:
            return
        store = engine.store
        of = f"{store.url} {id(store)}" if store.in_memory else store.url
        yield from (Point(m.OPEN, count, (status,), of) for status, count in census.open.items())
        yield from (Point(m.STUCK, count, (name,), of) for name, count in census.stuck.items())
        yield Point(m.BACKLOG, census.backlog, (), of)
        yield Point(m.COORDINATORS, census.coordinators, (), of)


_UNDOS = (e.UndoSucceeded, e.UndoBackedOff, e.UndoFailed)
_BECAME: dict[type, str] = {e.UndoSucceeded: "succeeded", e.UndoFailed: "failed", e.UndoSkipped: "skipped"}
_TRIED = (e.StepSucceeded, e.StepRejected, e.StepInDoubt, e.StepBackedOff, *_UNDOS)


def name_of(runtime: Runtime) -> str:
    """Gives the name of a saga; ``unknown`` for one that is rolled back without its code."""
    saga = runtime.execution.saga
    return "unknown" if saga is None else saga.name


def _made(event: Any) -> Sequence[e.Attempt]:
    """Gives the attempts that were made; the last one of a step that acted and has an error is its probe's answer."""
    attempts: Sequence[e.Attempt] = event.attempts
    found = isinstance(event, e.StepSucceeded) and attempts and attempts[-1].error is not None
    return attempts[:-1] if found else attempts


def _step(runtime: Runtime, path: str) -> str:
    """Gives the name of a step."""
    entry = runtime.execution.steps.get(path)
    return "unknown" if entry is None else entry.name


def failed_since(records: Iterable[Record]) -> float | None:
    """Says since when a saga is on its way back, by its journal.

    That is the POSIX time of the first step that failed, or of a cancel or the timeout of the whole saga; unless the
    body caught it, so that new steps began after it. ``None`` while nothing is wrong.
    """
    since: float | None = None
    for record in records:
        since = _failed_since(since, record.at, record.event, record.commands)
    return since


def _failed_since(since: float | None, at: float, event: e.Event, commands: Sequence[c.Command]) -> float | None:
    """Says the same after one more record."""
    path = event.path if isinstance(event, e.TimerFired) else ""
    return still_failed(since, at, type(event).__name__, path, goes_on=any(type(x) is c.RunStep for x in commands))


def still_failed(since: float | None, at: float, kind: str, path: str, *, goes_on: bool) -> float | None:
    """Says since when a saga is on its way back, after one more record.

    Args:
        since: The same before; ``None`` if it was not.
        at: POSIX time of the record.
        kind: Of the record.
        path: Of the record.
        goes_on: Whether steps begin with it.
    """
    if since is None and (kind in _FAILED or (kind == "TimerFired" and not path)):
        since = at
    # Whoever takes it over makes attempts again that had begun, which means nothing.
    return None if goes_on and kind not in _GOES_ON else since
