"""The part of a store's port about looking at many sagas: for people, so never on the path of commits.

No answer may take long, however many sagas there are. So each is bounded: a search says where it stopped, and a count
whether it is one.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple, Protocol

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from sagas.stores.rows import SagaRow

__all__ = ["STATUSES", "Counted", "Found", "LockRow", "OpenCount", "Surveyor", "Tally", "Wanted", "fits"]

STATUSES = ("running", "compensating", "stuck", "completed", "compensated")


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """Which sagas are looked for. Times are POSIX times, from inclusive, before exclusive.

    Attributes:
        statuses: Only these; all if there are none.
        name: Only this saga.
        version: Only this version.
        prefix: What ids begin with.
        texts: All of which ``error`` has to contain, the letters A to Z in either case.
        started_from: When they were started.
        started_before: See above. Where clocks of processes differ by more than a second, those at the very limits
            may be missed.
        ended_from: When they ended; open ones did not.
        ended_before: See above.
    """

    statuses: tuple[str, ...] = ()
    name: str | None = None
    version: str | None = None
    prefix: str = ""
    texts: tuple[str, ...] = ()
    started_from: float | None = None
    started_before: float | None = None
    ended_from: float | None = None
    ended_before: float | None = None


class Found(NamedTuple):
    """What a search has found so far.

    Attributes:
        rows: Newest first.
        before: Where to go on, which may find more even where ``rows`` are few; ``None`` at the end.
    """

    rows: Sequence[SagaRow]
    before: int | None


class Counted(NamedTuple):
    """How many there are.

    Attributes:
        number: How many.
        how: ``exact``, ``estimated``, or ``at least``.
    """

    number: int
    how: str = "exact"


class OpenCount(NamedTuple):
    """How many sagas have not ended.

    Attributes:
        by: By name and status.
        complete: Whether these are all; else only the newest were counted.
    """

    by: Mapping[tuple[str, str], int]
    complete: bool


class Tally(NamedTuple):
    """What began and ended lately.

    Attributes:
        started: By name.
        started_since: From when on these were counted: later than asked, if there were too many.
        ended: By name and status.
        ended_since: The same of these.
    """

    started: Mapping[str, int]
    started_since: float
    ended: Mapping[tuple[str, str], int]
    ended_since: float


class LockRow(NamedTuple):
    """A saga in the line of a lock.

    Attributes:
        name: Of the lock.
        saga_id: Whose place it is.
        path: The operation that asked.
        asked_at: POSIX time; ``0`` if that is not known.
        held: Whether it holds the lock: whoever is first in line does.
    """

    name: str
    saga_id: str
    path: str
    asked_at: float
    held: bool


class Surveyor(Protocol):
    """See the module; errors as for ``Store``."""

    def search(self, wanted: Wanted, *, limit: int, before: int | None = None) -> Found:
        """Looks for sagas, newest first, for a bounded time.

        Args:
            wanted: Which.
            limit: At most so many.
            before: Where another search with the same ``wanted`` has stopped. Sagas that come and go meanwhile move
                no others.
        """
        ...

    def count_by_status(self) -> Mapping[str, Counted]:
        """Counts sagas by status; all statuses are there. Those of few sagas are exact."""
        ...

    def count_open(self) -> OpenCount:
        """Counts the sagas that have not ended, by name and status."""
        ...

    def tally(self, since: float) -> Tally:
        """Counts what began and ended since a POSIX time."""
        ...

    def lines(self, limit: int) -> Sequence[LockRow]:
        """Reads the lines of locks: by name, whoever holds it first; at most so many places."""
        ...


def fits(row: SagaRow, wanted: Wanted) -> bool:
    """Says whether a saga is wanted; for stores that look at each."""
    error = _lower(row.error or "")
    return (
        (not wanted.statuses or row.status in wanted.statuses)
        and wanted.name in (None, row.name)
        and wanted.version in (None, row.version)
        and row.id.startswith(wanted.prefix)
        and all(_lower(text) in error for text in wanted.texts)
        and _within(row.created_at, wanted.started_from, wanted.started_before)
        and _within(row.ended_at, wanted.ended_from, wanted.ended_before)
    )


def _within(at: float | None, first: float | None, end: float | None) -> bool:
    """Says whether a moment is between two others; none is only if they are none either."""
    if at is None:
        return first is None and end is None
    return (first is None or at >= first) and (end is None or at < end)


def _lower(text: str) -> str:
    """Lowers the letters A to Z, and no others, as databases do."""
    return text.encode("utf-8", "surrogatepass").lower().decode("utf-8", "surrogatepass")
