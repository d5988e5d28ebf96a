"""What a SQL database keeps: finished sagas until they are archived or deleted, and schedules.

Nothing here is on the path of commits. A purge walks the sagas by their primary key, so that it needs no index which
every saga would have to pay for; each of its statements that deletes says itself which sagas it may touch.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import Counter
from typing import TYPE_CHECKING, Any, NamedTuple

from sqlalchemy import ColumnElement, Row, and_, case, delete, exists, false, func, insert, or_, select, true, update
from sqlalchemy.exc import IntegrityError

from sagas.stores.keeping import ENDED, HANDOVERS, SUBMITTED, TAKEN, Purge, Purged, ScheduleRow, refuse_open
from sagas.stores.packing import pack, unpack
from sagas.stores.port import JournalRow
from sagas.stores.tables import metadata

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from contextlib import AbstractContextManager

    from sqlalchemy import Connection

__all__ = ["SqlKeeper"]

_saga, _journal, _mail, _archive, _schedule = (
    metadata.tables[f"saga{name}"] for name in ("", "_journal", "_mail", "_archive", "_schedule")
)
_SCHEDULE_COLUMNS = tuple(_schedule.c[name] for name in ScheduleRow._fields)
# So many sagas are looked at in one go, most of which may have to stay: some milliseconds.
_WINDOW = 5_000


class _Found(NamedTuple):
    """A saga that may go, and whether nothing of it is to stay."""

    key: int
    id: str
    status: str
    gone: bool


class SqlKeeper(ABC):
    """See the module."""

    @abstractmethod
    def _read(self, statement: Any) -> Sequence[Row[Any]]:
        """Runs a query."""

    @abstractmethod
    def _aside(self) -> AbstractContextManager[Connection]:
        """Gives a connection for writes that are no journal's, in a transaction that ends with the block."""

    @abstractmethod
    def _time(self, now: float) -> ColumnElement[float]:
        """Gives the time that this store goes by."""

    @abstractmethod
    def load(self, saga_ids: Sequence[str]) -> Mapping[str, list[JournalRow]]:
        """See ``Store.load``."""

    def time(self, now: float) -> float:
        """See ``Store.time``."""
        return float(self._read(select(self._time(now)))[0][0])

    # --- what has ended -----------------------------------------------------------------------------------------

    def purge(self, what: Purge, *, limit: int, after: int = 0, dry_run: bool = False) -> Purged:
        """See ``Store.purge``."""
        refuse_open(what)
        last, complete = self._window(after)
        unpacked = _unpacked(after, last)
        gone = or_(_may_go(what.delete, what), and_(_may_go(what.unarchived, what), unpacked))
        packed = and_(_may_go(what.archive, what), unpacked)
        query = (
            select(_saga.c.key, _saga.c.id, _saga.c.status, case((gone, true()), else_=false()).label("gone"))
            .where(_saga.c.key > after, _saga.c.key <= last, or_(gone, packed))
            .order_by(_saga.c.key)
            .limit(limit)
        )
        found = [_Found._make(row) for row in self._read(query)]
        done = _counted(found) if dry_run else self._purge(found, gone, packed)
        if len(found) == limit:
            return Purged(*done, found[-1].key)
        return Purged(*done, None if complete else last)

    def _window(self, after: int) -> tuple[int, bool]:
        """Finds the last of the sagas to look at, and says whether they are all there are."""
        window = select(_saga.c.key).where(_saga.c.key > after).order_by(_saga.c.key).limit(_WINDOW).subquery()
        row: Any = self._read(select(func.max(window.c.key), func.count()).select_from(window))[0]
        return after if row[0] is None else row[0], row[1] < _WINDOW

    def _purge(
        self, found: Sequence[_Found], gone: ColumnElement[bool], packed: ColumnElement[bool]
    ) -> tuple[Counter[str], Counter[str]]:
        """Archives or deletes what was found; gives how many, by status."""
        archive, forget = ([row for row in found if row.gone is wanted] for wanted in (False, True))
        # Beforehand, which is possible since no journal of a saga that has ended changes.
        journals = self.load([row.id for row in archive])
        packages = {row.key: pack(journals.get(row.id, [])) for row in archive}
        with self._aside() as connection:
            archived = _lock(connection, archive, packed)
            if archived:
                rows = [{"key": row.key, "journal": packages[row.key]} for row in archived]
                connection.execute(insert(_archive), rows)
                _clear(connection, _these(archived, _ENDED))
            deleted = _lock(connection, forget, gone)
            if deleted:
                these = _these(deleted, gone)
                _clear(connection, these)
                connection.execute(delete(_archive).where(_archive.c.key.in_(select(_saga.c.key).where(these))))
                connection.execute(delete(_saga).where(these))
        return Counter(row.status for row in archived), Counter(row.status for row in deleted)

    def _archived(self, saga_ids: Sequence[str]) -> dict[str, list[JournalRow]]:
        """Reads journals of archived sagas."""
        query = (
            select(_saga.c.id, _archive.c.journal)
            .join_from(_saga, _archive, _saga.c.key == _archive.c.key)
            .where(_saga.c.id.in_(saga_ids))
        )
        return {row.id: unpack(row.id, bytes(row.journal)) for row in self._read(query)}

    # --- schedules ----------------------------------------------------------------------------------------------

    def schedules(self, name: str | None = None) -> Sequence[ScheduleRow]:
        """See ``Store.schedules``."""
        query = select(*_SCHEDULE_COLUMNS).order_by(_schedule.c.name)
        if name is not None:
            query = query.where(_schedule.c.name == name)
        return [ScheduleRow._make(row) for row in self._read(query)]

    def add_schedule(self, row: ScheduleRow) -> bool:
        """See ``Store.add_schedule``."""
        try:
            with self._aside() as connection:
                connection.execute(insert(_schedule).values(row._asdict()))
        except IntegrityError:
            return False
        return True

    def move_schedule(self, seen: ScheduleRow, spec: str, due_at: float) -> bool:
        """See ``Store.move_schedule``."""
        unchanged = and_(
            _schedule.c.name == seen.name, _schedule.c.spec == seen.spec, _schedule.c.due_at == seen.due_at
        )
        with self._aside() as connection:
            moved = connection.execute(update(_schedule).where(unchanged).values(spec=spec, due_at=due_at))
            return moved.rowcount > 0

    def pause_schedule(self, name: str, now: float, *, paused: bool) -> bool:
        """See ``Store.pause_schedule``."""
        values: dict[str, Any] = {"paused": paused}
        if not paused:
            passed = and_(_schedule.c.paused, _schedule.c.due_at < self._time(now))
            values["due_at"] = case((passed, self._time(now)), else_=_schedule.c.due_at)
        with self._aside() as connection:
            found = connection.execute(update(_schedule).where(_schedule.c.name == name).values(values))
            return found.rowcount > 0

    def remove_schedule(self, name: str) -> bool:
        """See ``Store.remove_schedule``."""
        with self._aside() as connection:
            return connection.execute(delete(_schedule).where(_schedule.c.name == name)).rowcount > 0


_ENDED = and_(_saga.c.ended_at.is_not(None), _saga.c.status.in_(ENDED))
_first = _journal.alias("first")
_BEGUN = and_(  # a record by which a saga that was submitted is begun
    _journal.c.seq == 1,
    _journal.c.kind == TAKEN,
    exists()
    .where(_first.c.saga_id == _journal.c.saga_id, _first.c.seq == 0, _first.c.kind == SUBMITTED)
    .correlate(_journal),
)
_CHANGED_HANDS = exists().where(_journal.c.saga_id == _saga.c.id, _journal.c.kind.in_(HANDOVERS), ~_BEGUN)


def _may_go(limits: Mapping[str, float], what: Purge) -> ColumnElement[bool]:
    """Says of a saga that it ended, long enough ago."""
    by_status = [and_(_saga.c.status == status, _saga.c.ended_at < before) for status, before in limits.items()]
    condition = and_(_ENDED, or_(false(), *by_status))
    if any(before > what.settled for before in limits.values()):
        condition = and_(condition, or_(_saga.c.ended_at < what.settled, ~_CHANGED_HANDS))
    return condition


def _unpacked(after: int, last: int) -> ColumnElement[bool]:
    """Says of a saga between two keys that it is not archived; so that no planner reads all that are."""
    there = _archive.alias("there")  # since a condition may stand in a statement that deletes from the archive
    return ~exists().where(there.c.key == _saga.c.key, there.c.key > after, there.c.key <= last).correlate(_saga)


def _these(rows: Sequence[_Found], condition: ColumnElement[bool]) -> ColumnElement[bool]:
    """Means these sagas, as long as they are what they were found to be."""
    return and_(_saga.c.key.in_([row.key for row in rows]), condition)


def _lock(connection: Connection, rows: Sequence[_Found], condition: ColumnElement[bool]) -> list[_Found]:
    """Keeps other purges away from sagas; those that another one has at the moment are left to it."""
    if not rows:
        return []
    query = select(_saga.c.key).where(_these(rows, condition)).order_by(_saga.c.key)
    locked = set(connection.execute(query.with_for_update(skip_locked=True)).scalars())
    return [row for row in rows if row.key in locked]


def _clear(connection: Connection, these: ColumnElement[bool]) -> None:
    """Deletes records and mail of sagas."""
    ids = select(_saga.c.id).where(these)
    for table in (_journal, _mail):
        connection.execute(delete(table).where(table.c.saga_id.in_(ids)))


def _counted(rows: Sequence[_Found]) -> tuple[Counter[str], Counter[str]]:
    """Counts what would be archived, and deleted, by status."""
    archived, deleted = (Counter(row.status for row in rows if row.gone is gone) for gone in (False, True))
    return archived, deleted
