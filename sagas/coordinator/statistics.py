"""Figures from the journal itself, for where no collector runs: how many, how long, how often undone, what is unusual.

Sagas are counted by when they started. So a walk from the newest one back finds them, by the key by which they are
stored, and ends where the window does; it reads some journals at a time and keeps none. Archived sagas are counted,
deleted ones cannot be.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from anyio import lowlevel

from sagas.coordinator.checks import check_number
from sagas.coordinator.tallies import Tallies
from sagas.coordinator.unusual import Unusual, find_unusual
from sagas.core.operations import utc
from sagas.stores.census import take_census

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping, Sequence
    from datetime import datetime

    from sagas.coordinator.sketch import Sketch
    from sagas.stores.census import Census
    from sagas.stores.port import Codec, JournalRow, SagaRow, Store

__all__ = ["Durations", "SagaStats", "Stats", "StepStats", "read_stats"]

# Sagas whose journals are read at a time, however large these are; and rows of sagas, which are small.
_JOURNALS, _ROWS = 50, 500
# What is compared with: sagas that started within so many windows before, and at most so many of them.
_WINDOWS, _PAST = 10, 20_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Durations:
    """How long something took, in seconds; quantiles are off by 1 % at most, and ``None`` where there was nothing."""

    count: int
    p50: float | None
    p95: float | None
    p99: float | None
    longest: float


@dataclass(frozen=True, slots=True, kw_only=True)
class SagaStats:
    """Sagas of one name that started in the window, as they stand now.

    Attributes:
        name: Of the saga.
        started: How many.
        completed: How many of them.
        compensated: How many of them.
        stuck: How many of them.
        open: How many of them have not ended, and are not stuck.
        undo_rate: The part of those that have ended which were compensated; ``None`` if none has.
        durations: From the start to the end, of those that have ended.
        time_to_consistent: From the failure, cancel or timeout that a saga did not survive until everything was
            undone, of those that had something to undo.
    """

    name: str
    started: int
    completed: int
    compensated: int
    stuck: int
    open: int
    undo_rate: float | None
    durations: Durations
    time_to_consistent: Durations


@dataclass(frozen=True, slots=True, kw_only=True)
class StepStats:
    """One step of these sagas.

    Attributes:
        saga: Name of the saga.
        step: Name of the step.
        attempts: How many were made and have ended.
        failed: How many of them.
        retries: How many of them were followed by another one.
        succeeded: How many times the step has acted.
        undone: How many times it was undone; one that an operator skipped is not.
        durations: Of its attempts.
        failure_rate: The part of its attempts that failed; ``None`` if there was none.
        undo_rate: How often it was undone for each time that it has acted; ``None`` if it has not.
        undo_attempts: How many attempts its compensator made.
        undo_failed: How many of them failed.
        undo_durations: Of these attempts.
    """

    saga: str
    step: str
    attempts: int
    failed: int
    retries: int
    succeeded: int
    undone: int
    durations: Durations
    failure_rate: float | None
    undo_rate: float | None
    undo_attempts: int
    undo_failed: int
    undo_durations: Durations


@dataclass(frozen=True, slots=True, kw_only=True)
class Stats:
    """What a journal says of the sagas that started in a window.

    Attributes:
        since: Start of the window.
        until: Its end: now.
        started_per_second: How many started, by the length of the window.
        ended_per_second: How many of them have ended, by the same.
        sagas: By name.
        steps: By saga and step.
        unusual: What is slower or fails more often than it used to.
        read: How many sagas were read of the window.
        compared: How many sagas were read that started before those, to compare with.
        complete: Whether all sagas of the window were read; if not, the newest ones were.
        unreadable: How many of them have a journal that cannot be read here, so that their steps are missing.
        open: How many sagas there are that have not ended, whenever they started, by status; each up to 100,000.
        backlog: How many of all of them have something to do and no live coordinator.
    """

    since: datetime
    until: datetime
    started_per_second: float
    ended_per_second: float
    sagas: tuple[SagaStats, ...]
    steps: tuple[StepStats, ...]
    unusual: tuple[Unusual, ...]
    read: int
    compared: int
    complete: bool
    unreadable: int
    open: dict[str, int]
    backlog: int


async def read_stats(
    store: Store,
    call: Callable[..., Awaitable[Any]],
    *,
    now: float,
    since: float | timedelta = 3600.0,
    name: str | None = None,
    limit: int = 50_000,
    codec: Codec | None = None,
) -> Stats:
    """Reads what happened to the sagas that started within some time.

    Args:
        store: Open.
        call: Calls it: ``await call(store.load, ids)``.
        now: POSIX time.
        since: Length of the window, in seconds or as a ``timedelta``.
        name: Only this saga.
        limit: How many sagas of the window are read at most, the newest ones.
        codec: Of the coordinators, if they have one.

    Raises:
        RequestError: ``since`` or ``limit`` is out of its range.
        StoreError: The journal cannot be read.
    """
    window = since.total_seconds() if isinstance(since, timedelta) else since
    check_number("since", window, above=True)
    check_number("limit", limit, least=1)
    window = min(window, now)
    walk = _Walk(store, call, name, codec)
    tallies, past = Tallies(), Tallies()
    began = now - window
    complete = await walk.read(tallies, began, limit)
    await walk.read(past, began - _WINDOWS * window, _PAST)  # from where the first walk has stopped
    census: Census = await call(take_census, store, now)
    return Stats(
        since=utc(began),
        until=utc(now),
        started_per_second=tallies.read / window,
        ended_per_second=sum(x.ended for x in tallies.sagas.values()) / window,
        sagas=_sagas(tallies),
        steps=_steps(tallies),
        unusual=find_unusual(tallies, past),
        read=tallies.read,
        compared=past.read,
        complete=complete,
        unreadable=tallies.unreadable,
        open=dict(census.open),
        backlog=census.backlog,
    )


class _Walk:
    """Goes from the newest saga back."""

    def __init__(
        self, store: Store, call: Callable[..., Awaitable[Any]], name: str | None, codec: Codec | None
    ) -> None:
        self._store = store
        self._call = call
        self._name = name
        self._codec = codec
        self._rows: list[SagaRow] = []
        self._older: list[SagaRow] = []  # that the walk has come by, for the next window
        self._before: str | None = None

    async def read(self, tallies: Tallies, began: float, limit: int) -> bool:
        """Counts sagas that started since a POSIX time; says whether these were all of them."""
        self._rows, self._older = self._older + self._rows, []
        while tallies.read < limit:
            rows, more = await self._next(began, min(_JOURNALS, limit - tallies.read))
            self._older += [row for row in rows if row.created_at < began]
            wanted = [row for row in rows if row.created_at >= began and self._name in (None, row.name)]
            journals: Mapping[str, list[JournalRow]] = await self._call(self._store.load, [row.id for row in wanted])
            for row in wanted:
                tallies.take(row, journals.get(row.id, ()), self._codec)
            await lowlevel.checkpoint()
            if not more:
                return await self._is_whole()
        return False

    async def _next(self, began: float, count: int) -> tuple[Sequence[SagaRow], bool]:
        """Gives the next sagas, and says whether others may come that are not too old.

        They are stored as they were created, but for clocks that differ; so a whole page has to be too old.
        """
        if not self._rows:
            before = self._before
            self._rows = list(
                await self._call(lambda: self._store.select(status=None, name=None, limit=_ROWS, before=before))
            )
            if not self._rows:
                return (), False
            self._before = self._rows[-1].id
            if all(row.created_at < began for row in self._rows):
                return (), False
        given, self._rows = self._rows[:count], self._rows[count:]
        return given, True

    async def _is_whole(self) -> bool:
        """Says whether the walk came to its end, and did not lose its way since its last saga was deleted."""
        lost = not self._rows and self._before is not None and await self._call(self._store.get, self._before) is None
        return not lost


def _durations(sketch: Sketch) -> Durations:
    """Writes durations down."""
    p50, p95, p99 = (sketch.quantile(part) for part in (0.5, 0.95, 0.99))
    return Durations(count=sketch.count, p50=p50, p95=p95, p99=p99, longest=sketch.longest)


def _rate(some: int, every: int) -> float | None:
    """Gives a part, if it is one of anything."""
    return some / every if every else None


def _sagas(tallies: Tallies) -> tuple[SagaStats, ...]:
    """Gives the sagas, by name."""
    return tuple(
        SagaStats(
            name=name,
            started=tally.statuses.total(),
            completed=tally.statuses["completed"],
            compensated=tally.statuses["compensated"],
            stuck=tally.statuses["stuck"],
            open=tally.statuses["running"] + tally.statuses["compensating"],
            undo_rate=_rate(tally.statuses["compensated"], tally.ended),
            durations=_durations(tally.durations),
            time_to_consistent=_durations(tally.consistent),
        )
        for name, tally in sorted(tallies.sagas.items())
    )


def _steps(tallies: Tallies) -> tuple[StepStats, ...]:
    """Gives the steps, by saga and name."""
    return tuple(
        StepStats(
            saga=saga,
            step=step,
            attempts=tally.made.durations.count,
            failed=tally.made.failed,
            retries=tally.retries,
            succeeded=tally.succeeded,
            undone=tally.undone,
            durations=_durations(tally.made.durations),
            failure_rate=_rate(tally.made.failed, tally.made.durations.count),
            undo_rate=_rate(tally.undone, tally.succeeded),
            undo_attempts=tally.undos.durations.count,
            undo_failed=tally.undos.failed,
            undo_durations=_durations(tally.undos.durations),
        )
        for (saga, step), tally in sorted(tallies.steps.items())
    )
