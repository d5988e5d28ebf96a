"""How people's questions about many sagas are answered in a SQL database, in bounded time.

Pages go by the primary key, which is the order of arrival. What no index tells is looked for in windows of so many
sagas; what few sagas share by an index of its own is read first.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any, NamedTuple

from sqlalchemy import ColumnElement, and_, func, literal, select, true

from sagas.stores.rows import SagaRow
from sagas.stores.surveying import STATUSES, Counted, Found, LockRow, OpenCount, Tally
from sagas.stores.surveys import MOST_ROWS
from sagas.stores.tables import metadata

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from contextlib import AbstractContextManager

    from sqlalchemy import Connection, Select

    from sagas.stores.surveying import Wanted

__all__ = ["SqlSurveys"]

_saga, _lock = metadata.tables["saga"], metadata.tables["saga_lock"]
_COLUMNS = tuple(_saga.c[name] for name in SagaRow._fields)
_OPEN = STATUSES[:3]
# So many sagas are looked at by one search, most of which may not be wanted: some tens of milliseconds.
_WINDOW = 100_000
# What an index finds is few if it is no more.
_FEW = 2_000
# Seconds by which clocks of processes may differ, as searches by time have it.
_SKEW = 1.0
_MOST_COUNTED = 20_000


class _Part(NamedTuple):
    """What was found among the sagas of one status, with their keys, and the key down to which that is all."""

    rows: Sequence[tuple[int, SagaRow]]
    down_to: int | None


class SqlSurveys(ABC):
    """See the module."""

    @abstractmethod
    def _looking(self) -> AbstractContextManager[Connection]:
        """Gives a connection to read on, for as long as the block."""

    # --- search -------------------------------------------------------------------------------------------------

    def search(self, wanted: Wanted, *, limit: int, before: int | None = None) -> Found:
        """See ``Store.search``."""
        limit = min(limit, MOST_ROWS)
        with self._looking() as connection:
            top = before if before is not None else _newest(connection) + 1
            among, few = _candidates(connection, wanted)
            low, high = (0, top) if few else _span(connection, wanted, top)
            rest = and_(true(), *among, *_conditions(wanted))
            statuses = wanted.statuses or (None,)
            window = None if few or not _needs_a_look(wanted) else max(_WINDOW // len(statuses), 1)
            parts = [_read_part(connection, status, rest, (low, high), limit, window=window) for status in statuses]
        return _merged(parts, limit)

    # --- counts -------------------------------------------------------------------------------------------------

    def count_by_status(self) -> Mapping[str, Counted]:
        """See ``Store.count_by_status``."""
        with self._looking() as connection:
            return {status: self._count(connection, status) for status in STATUSES}

    def _count(self, connection: Connection, status: str) -> Counted:
        """Counts the sagas of one status."""
        some = select(_saga.c.key).where(_is(status)).limit(self._most_counted + 1).subquery()
        number = connection.execute(select(func.count()).select_from(some)).scalar_one()
        return Counted(number) if number <= self._most_counted else self._many(connection, status)

    _most_counted = 200_000

    def _many(self, connection: Connection, status: str) -> Counted:  # noqa: ARG002 - PostgreSQL knows more
        """Says how many sagas there are of a status that has too many to be counted."""
        return Counted(self._most_counted, "at least")

    def count_open(self) -> OpenCount:
        """See ``Store.count_open``."""
        found: dict[tuple[str, str], int] = {}
        complete = True
        with self._looking() as connection:
            for status in _OPEN:
                some = (
                    select(_saga.c.name).where(_is(status)).order_by(_saga.c.key.desc()).limit(_MOST_COUNTED).subquery()
                )
                rows = connection.execute(select(some.c.name, func.count()).group_by(some.c.name)).all()
                found.update({(name, status): count for name, count in rows})
                complete = complete and sum(count for _, count in rows) < _MOST_COUNTED
        return OpenCount(found, complete)

    def tally(self, since: float) -> Tally:
        """See ``Store.tally``."""
        with self._looking() as connection:
            first = max(_last_before(connection, since), _newest(connection) - _MOST_COUNTED)
            begun = select(_saga.c.name, func.count(), func.min(_saga.c.created_at))
            begun = begun.where(_saga.c.key > first, _saga.c.created_at >= since).group_by(_saga.c.name)
            started = connection.execute(begun).all()
            some = (
                select(_saga.c.name, _saga.c.status, _saga.c.ended_at)
                .where(_saga.c.ended_at >= since, _saga.c.ended_at.is_not(None))
                .order_by(_saga.c.ended_at.desc())
                .limit(_MOST_COUNTED)
                .subquery()
            )
            over = select(some.c.name, some.c.status, func.count(), func.min(some.c.ended_at))
            ended = connection.execute(over.group_by(some.c.name, some.c.status)).all()
        return Tally(
            {name: count for name, count, _ in started},
            _since(since, [(count, at) for _, count, at in started]),
            {(name, status): count for name, status, count, _ in ended},
            _since(since, [(count, at) for _, _, count, at in ended]),
        )

    def lines(self, limit: int) -> Sequence[LockRow]:
        """See ``Store.lines``."""
        query = select(_lock.c.name, _lock.c.saga_id, _lock.c.path, _lock.c.asked_at)
        with self._looking() as connection:
            rows = connection.execute(query.order_by(_lock.c.name, _lock.c.ticket).limit(min(limit, MOST_ROWS))).all()
        heads = {row.name: row.saga_id for row in reversed(rows)}
        return [
            LockRow(name, saga_id, path, asked_at, heads[name] == saga_id) for name, saga_id, path, asked_at in rows
        ]


def _is(status: str) -> ColumnElement[bool]:
    """Means sagas of a status; as it stands, so that planners find the index of it."""
    return _saga.c.status == literal(status, literal_execute=True)


def _needs_a_look(wanted: Wanted) -> bool:
    """Says whether sagas have to be looked at that may not be wanted."""
    return bool(wanted.name is not None or wanted.version is not None or wanted.prefix or wanted.texts) or any(
        at is not None
        for at in (wanted.started_from, wanted.started_before, wanted.ended_from, wanted.ended_before)
    )  # fmt: skip


def _conditions(wanted: Wanted) -> list[ColumnElement[bool]]:
    """Writes what is wanted besides the status."""
    found = [
        *_between(_saga.c.created_at, wanted.started_from, wanted.started_before),
        *_between(_saga.c.ended_at, wanted.ended_from, wanted.ended_before),
        *(func.lower(_saga.c.error).contains(_ascii_lower(text), autoescape=True) for text in wanted.texts),
    ]
    if wanted.name is not None:
        found.append(_saga.c.name == wanted.name)
    if wanted.version is not None:
        found.append(_saga.c.version == wanted.version)
    return found + _begins_with(wanted.prefix)


def _between(column: Any, first: float | None, end: float | None) -> list[ColumnElement[bool]]:
    """Writes that a moment is between two others."""
    return [*([] if first is None else [column >= first]), *([] if end is None else [column < end])]


def _begins_with(prefix: str) -> list[ColumnElement[bool]]:
    """Writes that an id begins so, in a way that an index can be used for."""
    if not prefix:
        return []
    end = _after_all(prefix)
    return [_saga.c.id >= prefix, *([] if end is None else [_saga.c.id < end])]


def _after_all(prefix: str) -> str | None:
    """Gives the first text after all that begin so; ``None`` if there is none."""
    for size in range(len(prefix), 0, -1):
        following = ord(prefix[size - 1]) + 1
        if 0xD800 <= following <= 0xDFFF:  # noqa: PLR2004 - no characters, but halves of some
            following = 0xE000
        if following <= 0x10FFFF:  # noqa: PLR2004 - the last there is
            return prefix[: size - 1] + chr(following)
    return None


def _ascii_lower(text: str) -> str:
    """Lowers the letters A to Z, as the databases do with what they compare it to."""
    return text.encode("utf-8", "surrogatepass").lower().decode("utf-8", "surrogatepass")


def _candidates(connection: Connection, wanted: Wanted) -> tuple[list[ColumnElement[bool]], bool]:
    """Reads the keys of those sagas that an index tells, if they are few."""
    for telling in (
        _begins_with(wanted.prefix),
        _between(_saga.c.ended_at, wanted.ended_from, wanted.ended_before),
    ):
        if telling:
            keys = connection.execute(select(_saga.c.key).where(*telling).limit(_FEW + 1)).scalars().all()
            if len(keys) <= _FEW:
                return [_saga.c.key.in_(keys)], True
    return [], False


def _span(connection: Connection, wanted: Wanted, top: int) -> tuple[int, int]:
    """Gives the keys between which everything is that is wanted, both exclusive."""
    low, high = 0, top
    if wanted.started_from is not None:
        low = _last_before(connection, wanted.started_from - _SKEW)
    ends = [at for at in (wanted.started_before, wanted.ended_before) if at is not None]
    if ends:  # nothing ends before it has started
        high = min(high, _last_before(connection, min(ends) + _SKEW) + 1)
    return low, high


def _newest(connection: Connection) -> int:
    """Reads the key of the newest saga."""
    return connection.execute(select(func.max(_saga.c.key))).scalar_one() or 0


def _last_before(connection: Connection, at: float) -> int:
    """Finds the key of the last saga that was started before a moment, by halves, since they arrive in that order."""
    low, high = 0, _newest(connection)
    while low < high:
        middle = (low + high + 1) // 2
        query = select(_saga.c.key, _saga.c.created_at).where(_saga.c.key <= middle, _saga.c.key > low)
        row = connection.execute(query.order_by(_saga.c.key.desc()).limit(1)).first()
        if row is None or row.created_at < at:
            low = middle
        else:
            high = row.key - 1
    return low


def _read_part(
    connection: Connection,
    status: str | None,
    rest: ColumnElement[bool],
    span: tuple[int, int],
    limit: int,
    *,
    window: int | None,
) -> _Part:
    """Reads the newest of one status; of a window of so many, unless what is to be read is bounded anyway."""
    low, high = span
    these = () if status is None else (_is(status),)
    floor = None if window is None else _floor(connection, these, low, high, window)
    # One lower bound, since SQLite's planner takes but one into account, and not the better one.
    query = select(_saga.c.key, *_COLUMNS).where(rest, _saga.c.key < high, _saga.c.key >= (floor or low + 1), *these)
    read = connection.execute(_newest_first(query).limit(limit + 1)).all()
    rows = [(row[0], SagaRow._make(row[1:])) for row in read]
    return _Part(rows[:limit], rows[limit - 1][0]) if len(rows) > limit else _Part(rows, floor)


def _floor(
    connection: Connection, these: tuple[ColumnElement[bool], ...], low: int, high: int, window: int
) -> int | None:
    """Finds the end of a window; ``None`` if it holds all there are."""
    if not these:
        return high - window if high - window > low + 1 else None
    query = select(_saga.c.key).where(*these, _saga.c.key > low, _saga.c.key < high)
    found = connection.execute(_newest_first(query).limit(1).offset(window)).scalar()
    return None if found is None else int(found)


def _newest_first(query: Select[Any]) -> Select[Any]:
    """Sorts by arrival."""
    return query.order_by(_saga.c.key.desc())


def _merged(parts: Sequence[_Part], limit: int) -> Found:
    """Puts together what was found, as far down as all of it is known."""
    ends = [part.down_to for part in parts if part.down_to is not None]
    end = max(ends, default=None)
    rows = sorted((row for part in parts for row in part.rows if end is None or row[0] >= end), reverse=True)
    if len(rows) > limit:
        rows, end = rows[:limit], rows[limit - 1][0]
    return Found([row for _, row in rows], end)


def _since(asked: float, counted: Sequence[tuple[int, float]]) -> float:
    """Says from when on these were counted."""
    if sum(count for count, _ in counted) < _MOST_COUNTED:
        return asked
    return max(asked, min(at for _, at in counted))
