"""Starts sagas by the clock: exactly one for each due time, however many processes have the schedule.

What fences is the saga's id, which is made of the schedule's name and the due time. Up to where a schedule has been
started is a row in the store, which moves on only when the start is durable. So a process that dies in between leaves
a row that makes the next one start the same saga again, which is the same saga.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable
from dataclasses import KW_ONLY, dataclass, field
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from sagas.coordinator.due import MICRO, Cron, Every, Times, latest, utc_text, zone
from sagas.errors import CoordinatorClosed, DeclarationError, IdempotencyConflict, StoreUnavailable
from sagas.stores.keeping import OWN_ROWS, ScheduleRow

if TYPE_CHECKING:
    from collections.abc import Awaitable, Iterable, Sequence

    from sagas.coordinator.engine import Engine
    from sagas.core.operations import SagaCall

__all__ = ["Schedule", "ScheduleView", "Scheduler", "check_schedules"]

logger = logging.getLogger("sagas.schedules")

Missed: TypeAlias = Literal["skip", "last", "all"]

_MISSED = ("skip", "last", "all")
_LONGEST_NAME = 150
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
# So much later than due is still in time, in seconds.
_GRACE = 60.0
_MOST_MISSED = 100
# Seconds. Processes look at a due time one after the other, so that all but the first find it dealt with.
_SPREAD = 0.1
# Seconds after which a schedule that rests is looked at again, since somebody may have changed or resumed it.
_LONGEST_REST = 30.0
_RETRY = 5.0


@dataclass(frozen=True, slots=True, kw_only=True)
class ScheduleView:
    """A schedule as the store knows it.

    Attributes:
        name: Of the schedule.
        spec: When it is due, in words.
        due_at: When it is due next. In the past, if no process that is running has this schedule.
        paused: Whether it starts nothing.
    """

    name: str
    spec: str
    due_at: datetime
    paused: bool


@dataclass(frozen=True, slots=True)
class Schedule:
    """Starts a saga at each due time: ``Coordinator(…, schedules=[Schedule("nightly", tidy, cron="0 3 * * *")])``.

    Attributes:
        name: Unique; 1 to 150 printable characters. The saga that is due at 3 in the night of 23 November 2026 has
            the id ``nightly@2026-11-23T03:00:00Z``.
        make: Makes the saga's call from the due time, an aware datetime in ``timezone``. Every process has to make
            the same of it.
        cron: A cron expression: ``"0 3 * * *"``. Needs the extra ``cron``.
        every: An interval instead: seconds, or a ``timedelta``.
        timezone: In which the expression is read: ``"Europe/Berlin"``.
        missed: What becomes of due times that passed while no process was running: ``last`` starts the last of them,
            ``all`` each, oldest first, but the last hundred only. ``skip`` starts the last of them if it is late by
            a minute at most, so that a restart leaves out nothing that is due less often.
        start: Nothing is due before; and intervals count from here, else from midnight of 1 January 1970 in UTC.
        jitter: Seconds over which schedules with the same due times are spread. Each has a place of its own there.

    Raises:
        DeclarationError: These make no schedule.
    """

    name: str
    make: Callable[[datetime], SagaCall[Any]]
    _: KW_ONLY
    cron: str | None = None
    every: float | timedelta | None = None
    timezone: str = "UTC"
    missed: Missed = "skip"
    start: datetime | None = None
    jitter: float = 0.0
    times: Times = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        name = self.name
        if not isinstance(name, str) or not name or len(name) > _LONGEST_NAME or not name.isprintable():
            raise DeclarationError(f"{name!r} cannot name a schedule: use 1 to {_LONGEST_NAME} printable characters")
        if name.startswith(OWN_ROWS):
            raise DeclarationError(f"{name!r} cannot name a schedule: names that begin with {OWN_ROWS!r} are taken")
        if not callable(self.make):
            raise DeclarationError(f"schedule {name!r}: make={self.make!r} is no function of a due time")
        if self.missed not in _MISSED:
            raise DeclarationError(f"schedule {name!r}: missed={self.missed!r}; use one of {', '.join(_MISSED)}")
        if not isinstance(self.jitter, (int, float)) or not self.jitter >= 0:
            raise DeclarationError(f"schedule {name!r}: jitter={self.jitter!r}; use seconds")
        if self.start is not None and self.start.tzinfo is None:
            raise DeclarationError(f"schedule {name!r}: start={self.start!r} has no time zone")
        object.__setattr__(self, "times", self._times())

    def _times(self) -> Times:
        """Makes what knows when it is due."""
        if (self.cron is None) == (self.every is None):
            raise DeclarationError(f"schedule {self.name!r}: give either cron=… or every=…")
        if self.cron is not None:
            return Cron(self.cron, self.timezone)
        zone(self.timezone)
        every: Any = self.every.total_seconds() if isinstance(self.every, timedelta) else self.every
        return Every(every, 0.0 if self.start is None else self.start.timestamp())

    @property
    def spec(self) -> str:
        """When it is due, in a text; another text is another schedule."""
        return self.times.spec if self.start is None else f"{self.times.spec}, not before {self.start.isoformat()}"

    @property
    def offset(self) -> float:
        """Seconds after each due time at which it starts: the schedule's own place in ``jitter``."""
        digest = hashlib.blake2b(self.name.encode(), digest_size=4).digest()
        return self.jitter * int.from_bytes(digest) / 2**32

    def begin(self, now: float) -> float:
        """Gives the moment up to which all is dealt with when it is first seen."""
        return now if self.start is None else max(now, self.start.timestamp())

    def saga_id(self, due: int) -> str:
        """Names the saga of a due time."""
        return f"{self.name}@{utc_text(due)}"

    def call(self, due: int) -> SagaCall[Any]:
        """Makes the call for a due time."""
        return self.make((_EPOCH + timedelta(microseconds=due)).astimezone(zone(self.timezone)))


def check_schedules(schedules: Iterable[Schedule]) -> tuple[Schedule, ...]:
    """Refuses what is no schedule, and names that two of them have.

    Raises:
        DeclarationError: See above.
    """
    seen: dict[str, Schedule] = {}
    for schedule in schedules:
        if not isinstance(schedule, Schedule):
            raise DeclarationError(f"schedules=… takes Schedule(…) objects, not {schedule!r}")
        if schedule.name in seen:
            raise DeclarationError(f"two schedules are called {schedule.name!r}")
        seen[schedule.name] = schedule
    return tuple(seen.values())


class Scheduler:
    """Starts what one schedule makes due.

    Args:
        engine: Whose store and clock.
        schedule: Which.
        start: Starts a saga under an id, durably.
    """

    def __init__(
        self, engine: Engine, schedule: Schedule, start: Callable[[SagaCall[Any], str], Awaitable[object]]
    ) -> None:
        self._engine = engine
        self._schedule = schedule
        self._start = start
        self._seen = False
        self._replaced = False

    async def run(self) -> None:
        """Starts sagas, for ever; what fails is tried again."""
        while True:
            try:
                pause = await self._look()
            except CoordinatorClosed:
                return
            except StoreUnavailable as error:
                logger.warning("schedule %s: %s; trying again", self._schedule.name, error)
                pause = _RETRY
            except Exception:
                logger.exception("schedule %s: what is due could not be started; trying again", self._schedule.name)
                pause = _RETRY
            await self._engine.clock.sleep(pause)

    async def _look(self) -> float:
        """Starts what is due; gives seconds until the next look."""
        engine, times = self._engine, self._schedule.times
        time: float = await engine.in_thread(engine.store.time, engine.clock.now())
        row = await self._row(time)
        if row is None:
            return 0.0
        if row.paused or self._is_replaced(row):
            return _LONGEST_REST
        now, since = int((time - self._schedule.offset) * MICRO), round(row.due_at * MICRO)
        due = times.first(since)
        if due <= now:
            return await self._catch_up(row, due, now)
        await self._move(row, due)  # so that whoever lists schedules sees when
        return min((due - now) / MICRO + engine.clock.chance() * _SPREAD, _LONGEST_REST)

    async def _row(self, time: float) -> ScheduleRow | None:
        """Reads up to where it has been started; ``None`` if that changes at the moment.

        A process puts its own times in the place of others only when it begins. So while a fleet is replaced, the
        processes that are new have theirs, and the old ones leave the schedule alone.
        """
        engine, schedule = self._engine, self._schedule
        rows: Sequence[ScheduleRow] = await engine.in_thread(engine.store.schedules, schedule.name)
        begin = schedule.begin(time)
        if not rows:
            await engine.in_thread(engine.store.add_schedule, ScheduleRow(schedule.name, schedule.spec, begin))
            return None
        if rows[0].spec != schedule.spec and not self._seen:
            await engine.in_thread(engine.store.move_schedule, rows[0], schedule.spec, begin)
            return None
        self._seen = True
        return rows[0]

    def _is_replaced(self, row: ScheduleRow) -> bool:
        """Says whether another process has come with other times; the first time, also in the log."""
        replaced = row.spec != self._schedule.spec
        if replaced and not self._replaced:
            logger.warning(
                "schedule %s: a process that was started later has it as %r, here it is %r; it is left to that one",
                row.name, row.spec, self._schedule.spec,
            )  # fmt: skip
        self._replaced = replaced
        return replaced

    async def _catch_up(self, row: ScheduleRow, since: int, now: int) -> float:
        """Starts what is due, in order, and notes so after each; gives seconds until the next look."""
        times = self._schedule.times
        for due in self._choose(since, now):
            await self._start_one(due)
            moved = await self._move(row, times.first(due + 1))
            if moved is None or await self._is_paused():
                return 0.0  # somebody else was faster, and it may have changed
            row = moved
        await self._move(row, times.first(now + 1))
        return 0.0

    def _choose(self, since: int, now: int) -> list[int]:
        """Picks the due times to start, from those that have passed."""
        schedule = self._schedule
        dues, more = latest(schedule.times, since, now, _MOST_MISSED if schedule.missed == "all" else 1)
        if schedule.missed == "skip" and now - dues[-1] > _GRACE * MICRO:
            dues, more = [], True
        if more:
            left = f"before {utc_text(dues[0])}" if dues else f"up to {utc_text(now)}"
            logger.warning("schedule %s: what was due from %s on, %s, was missed", schedule.name, utc_text(since), left)
        return dues

    async def _start_one(self, due: int) -> None:
        """Starts the saga of a due time."""
        schedule = self._schedule
        saga_id = schedule.saga_id(due)
        try:
            await self._start(schedule.call(due), saga_id)
        except IdempotencyConflict as error:
            logger.info("schedule %s: another process has made another call of %s: %s", schedule.name, saga_id, error)

    async def _is_paused(self) -> bool:
        """Says whether somebody has paused it meanwhile; what was missed may be much, and each start takes a while."""
        rows = await self._engine.in_thread(self._engine.store.schedules, self._schedule.name)
        return any(row.paused for row in rows)

    async def _move(self, row: ScheduleRow, due: int) -> ScheduleRow | None:
        """Notes up to where it has been started; ``None`` if somebody else did."""
        due_at = due / MICRO
        if due_at == row.due_at:
            return row
        moved = await self._engine.in_thread(self._engine.store.move_schedule, row, row.spec, due_at)
        return row._replace(due_at=due_at) if moved else None
