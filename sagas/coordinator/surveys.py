"""Many sagas as people see them: filters, pages, counts, rates, and what is stuck by its cause."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

from sagas.coordinator.blame import blamed
from sagas.coordinator.checks import check_status, check_text
from sagas.core.operations import utc
from sagas.errors import RequestError
from sagas.stores.keeping import ENDED
from sagas.stores.surveying import STATUSES, Wanted

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from datetime import datetime

    from sagas.coordinator.views import SagaSummary
    from sagas.stores.surveying import Counted, LockRow, OpenCount, Tally

__all__ = [
    "Count",
    "LinePlace",
    "OpenSagas",
    "Rate",
    "SagaCounts",
    "SagaFilter",
    "SagaPage",
    "SagaRates",
    "StuckGroup",
    "StuckSagas",
]

_MINUTE = 60.0
_GROUPS = {"open": tuple(status for status in STATUSES if status not in ENDED), "ended": ENDED}


# Longer ones are too complex for databases to look for.
_LONGEST_TEXT = 1_000


@dataclass(frozen=True, slots=True, kw_only=True)
class SagaFilter:
    """Which sagas to look for; all of it has to hold. Times are from inclusive, before exclusive.

    Attributes:
        status: One of the five, or ``open`` or ``ended`` for all of those; ``None`` for any.
        name: Only this saga.
        version: Only this version.
        step: Only those whose error names this step: a stuck saga stands there, another one failed there. Nothing is
            stored about where a saga stands that has no trouble.
        id_prefix: What the id begins with.
        error: What the error contains, the letters A to Z in either case.
        started_from: When it was started.
        started_before: See above.
        ended_from: When it ended.
        ended_before: See above.
    """

    status: str | None = None
    name: str | None = None
    version: str | None = None
    step: str | None = None
    id_prefix: str = ""
    error: str = ""
    started_from: datetime | None = None
    started_before: datetime | None = None
    ended_from: datetime | None = None
    ended_before: datetime | None = None

    def wanted(self) -> Wanted:
        """Says this as stores take it.

        Raises:
            RequestError: There is no such status, or a text is none or too long, or a time has no zone.
        """
        for what in ("name", "version", "step", "id_prefix", "error"):
            text = getattr(self, what)
            if text:
                check_text(what, text)
                if len(text) > _LONGEST_TEXT:
                    raise RequestError(f"{what}= has {len(text):,} characters, and {_LONGEST_TEXT:,} is the most")
                if "\x00" in text:
                    raise RequestError(f"{what}={text!r}: no saga has that, since databases take no NUL in texts")
        texts = (f"{self.step} (",) if self.step else ()
        return Wanted(
            statuses=_statuses(self.status),
            name=self.name,
            version=self.version,
            prefix=self.id_prefix,
            texts=(*texts, self.error) if self.error else texts,
            started_from=_posix(self.started_from),
            started_before=_posix(self.started_before),
            ended_from=_posix(self.ended_from),
            ended_before=_posix(self.ended_before),
        )


def _statuses(status: str | None) -> tuple[str, ...]:
    """Spells out what a status stands for."""
    if status is None or status in _GROUPS:
        return _GROUPS.get(status or "", ())
    check_status(status)
    return (status,)


def _posix(at: datetime | None) -> float | None:
    """Turns a time into POSIX time."""
    if at is None:
        return None
    if at.tzinfo is None:
        raise RequestError(f"the time {at} has no zone; give it one, such as datetime.UTC")
    return at.timestamp()


@dataclass(frozen=True, slots=True, kw_only=True)
class SagaPage:
    """A part of a list.

    Attributes:
        sagas: Newest first. May be few, or none, although more follow: what no index tells is looked for among some
            ten thousand sagas at a time.
        cursor: Where the next part begins, for ``after=``; ``None`` at the end.
    """

    sagas: tuple[SagaSummary, ...]
    cursor: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Count:
    """How many there are; ``how``: ``exact``, ``estimated`` by the database, or ``at least``."""

    number: int
    how: str

    @classmethod
    def of(cls, counted: Counted) -> Count:
        """Takes it from a store."""
        return cls(number=counted.number, how=counted.how)

    def __str__(self) -> str:
        """For people: ``12``, ``~ 940,000``, ``200,000+``."""
        number = f"{self.number:,}"
        return {"estimated": f"~ {number}", "at least": f"{number}+"}.get(self.how, number)


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenSagas:
    """How many sagas of a name and status have not ended."""

    name: str
    status: str
    number: int


@dataclass(frozen=True, slots=True, kw_only=True)
class SagaCounts:
    """How many sagas there are.

    Attributes:
        statuses: By status; all five are there.
        open: Those that have not ended, by name and status, most first.
        complete: Whether ``open`` counts all of them; else the newest.
    """

    statuses: Mapping[str, Count]
    open: tuple[OpenSagas, ...]
    complete: bool

    @classmethod
    def of(cls, statuses: Mapping[str, Counted], open_: OpenCount) -> SagaCounts:
        """Puts together what a store has counted."""
        by = [OpenSagas(name=name, status=status, number=number) for (name, status), number in open_.by.items()]
        by.sort(key=lambda x: (-x.number, x.name, x.status))
        known = {status: Count.of(counted) for status, counted in statuses.items()}
        return cls(statuses=known, open=tuple(by), complete=open_.complete)


@dataclass(frozen=True, slots=True, kw_only=True)
class Rate:
    """What happens to the sagas of a name in a minute."""

    name: str
    started: float
    completed: float
    compensated: float


@dataclass(frozen=True, slots=True, kw_only=True)
class SagaRates:
    """What happened lately.

    Attributes:
        by_name: Most first.
        started_over: Seconds over which starts were counted: fewer than asked for, where there were very many.
        ended_over: Seconds over which ends were counted.
    """

    by_name: tuple[Rate, ...]
    started_over: float
    ended_over: float

    @property
    def total(self) -> Rate:
        """All of them together; its name is empty."""
        sums = [sum(getattr(x, what) for x in self.by_name) for what in ("started", "completed", "compensated")]
        return Rate(name="", started=sums[0], completed=sums[1], compensated=sums[2])

    @classmethod
    def of(cls, tally: Tally, now: float) -> SagaRates:
        """Turns what a store has counted into rates."""
        begun, ended = (max(now - since, 1.0) for since in (tally.started_since, tally.ended_since))
        names = {*tally.started, *(name for name, _ in tally.ended)}
        rates = [
            Rate(
                name=name,
                started=tally.started.get(name, 0) * _MINUTE / begun,
                completed=tally.ended.get((name, "completed"), 0) * _MINUTE / ended,
                compensated=tally.ended.get((name, "compensated"), 0) * _MINUTE / ended,
            )
            for name in names
        ]
        rates.sort(key=lambda x: (-(x.started + x.completed + x.compensated), x.name))
        return cls(by_name=tuple(rates), started_over=begun, ended_over=ended)


@dataclass(frozen=True, slots=True, kw_only=True)
class StuckGroup:
    """Stuck sagas that have the same trouble.

    Attributes:
        key: Names the group, as long as there is one; 16 hexadecimal digits.
        name: Of the sagas.
        step: Where they stand; ``None`` where their row names no step.
        cause: What was raised there, with an ellipsis for each id, number and quotation.
        sagas: The members, newest first.
    """

    key: str
    name: str
    step: str | None
    cause: str
    sagas: tuple[SagaSummary, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class StuckSagas:
    """What is stuck.

    Attributes:
        groups: Largest first.
        complete: Whether these are all; else the newest.
    """

    groups: tuple[StuckGroup, ...]
    complete: bool

    @classmethod
    def of(cls, sagas: Iterable[SagaSummary], *, complete: bool) -> StuckSagas:
        """Groups stuck sagas."""
        members: dict[tuple[str, str | None, str], list[SagaSummary]] = {}
        for saga in sagas:
            members.setdefault((saga.name, saga.step, blamed(saga.error).pattern), []).append(saga)
        groups = [
            StuckGroup(key=_key(name, step, cause), name=name, step=step, cause=cause, sagas=tuple(found))
            for (name, step, cause), found in members.items()
        ]
        groups.sort(key=lambda x: (-len(x.sagas), x.name, x.step or "", x.cause))
        return cls(groups=tuple(groups), complete=complete)


def _key(*parts: str | None) -> str:
    """Makes a short name of some texts."""
    return hashlib.blake2b(repr(parts).encode(), digest_size=8).hexdigest()


@dataclass(frozen=True, slots=True, kw_only=True)
class LinePlace:
    """A saga in the line of a lock.

    Attributes:
        lock: Name of the lock.
        saga_id: Whose place it is.
        path: The operation that asked.
        asked_at: When; ``None`` if that is not known.
        held: Whether it holds the lock: the first in line does.
    """

    lock: str
    saga_id: str
    path: str
    asked_at: datetime | None
    held: bool

    @classmethod
    def of(cls, row: LockRow) -> LinePlace:
        """Takes it from a store."""
        asked_at = utc(row.asked_at) if row.asked_at else None
        return cls(lock=row.name, saga_id=row.saga_id, path=row.path, asked_at=asked_at, held=row.held)
