"""The statements of an inbox in a SQL database: the same rows, written by each database in its quickest way."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any, NamedTuple, cast

from sqlalchemy import select, text

from sagas.stores.tables import metadata
from sagas.transport.wire import body_of, reply_of
from sagas.worker.barrier import Entry

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from sqlalchemy import Connection, Row, Select

    from sagas.worker.barrier import Memory, State

__all__ = ["InboxRow", "InboxRows", "PostgresRows", "SqliteRows", "about", "memory_of", "row_of"]

_inbox = metadata.tables["saga_inbox"]
_Place = tuple[str, str]
_READ_MANY = 500
_EXPIRE_MANY = 1_000


class InboxRow(NamedTuple):
    """An entry as it is written; what is empty there is NULL in the table."""

    about: str
    kind: str
    step: str
    fingerprint: bytes
    state: str
    outcome: str
    body: bytes
    owner: str
    at: float


_COLUMNS = ", ".join(InboxRow._fields)
# All that is known about an action is forgotten at once, so its youngest row counts.
_EXPIRE = """
    DELETE FROM saga_inbox WHERE about IN (
        SELECT about FROM saga_inbox WHERE at < :before AND NOT EXISTS (
            SELECT 1 FROM saga_inbox AS other WHERE other.about = saga_inbox.about AND other.at >= :before
        ) LIMIT :most {lock}
    )
"""


class InboxRows(ABC):
    """Reads and writes rows within a transaction."""

    _expire = text(_EXPIRE.format(lock=""))

    @abstractmethod
    def insert(self, connection: Connection, rows: Sequence[InboxRow]) -> set[_Place]:
        """Writes new rows; says which ones. Of the others, there are some already, or just now.

        A row that another transaction is writing is waited for.
        """

    @abstractmethod
    def write(self, connection: Connection, row: InboxRow) -> None:
        """Writes a row over the one that is there."""

    @abstractmethod
    def settle(self, connection: Connection, rows: Sequence[InboxRow], owner: str) -> int:
        """Writes over the rows that have this owner; says how many."""

    def read(self, connection: Connection, key: str) -> Memory:
        """Reads what is known about an action, and keeps others from changing it until the transaction is over."""
        return memory_of(connection.execute(about(key).with_for_update()).all())

    def expire(self, before: float, connection: Connection) -> int:
        """Forgets some of what is older than a time; gives how many rows that were."""
        return connection.execute(self._expire, {"before": before, "most": _EXPIRE_MANY}).rowcount


class SqliteRows(InboxRows):
    """In SQLite, where nobody else writes as long as the transaction lasts."""

    _insert = f"INSERT INTO saga_inbox ({_COLUMNS}) VALUES (?,?,?,?,?,NULLIF(?,''),?,?,?) ON CONFLICT DO NOTHING"  # noqa: S608 - names of columns
    _write = (
        "UPDATE saga_inbox SET state = ?, outcome = NULLIF(?,''), body = ?, owner = ?, at = ? "
        "WHERE about = ? AND kind = ?"
    )

    def insert(self, connection: Connection, rows: Sequence[InboxRow]) -> set[_Place]:
        """See ``InboxRows.insert``."""
        new = {(row.about, row.kind): row for row in rows}
        if len(new) > 1:
            new = {place: row for place, row in new.items() if place not in _places(connection, [*new])}
        written = connection.exec_driver_sql(self._insert, [*new.values()]).rowcount if new else 0
        return {*new} if written == len(new) else set()

    def write(self, connection: Connection, row: InboxRow) -> None:
        """See ``InboxRows.write``."""
        connection.exec_driver_sql(self._write, _changed(row))

    def settle(self, connection: Connection, rows: Sequence[InboxRow], owner: str) -> int:
        """See ``InboxRows.settle``."""
        values = [(*_changed(row), owner) for row in rows]
        return connection.exec_driver_sql(f"{self._write} AND owner = ?", values).rowcount


def _places(connection: Connection, places: Sequence[_Place]) -> Collection[_Place]:
    """Says which of some rows are there."""
    found: set[_Place] = set()
    for start in range(0, len(places), _READ_MANY):
        keys = tuple(key for key, _ in places[start : start + _READ_MANY])
        query = f"SELECT about, kind FROM saga_inbox WHERE about IN ({','.join('?' * len(keys))})"  # noqa: S608 - placeholders
        found.update((row[0], row[1]) for row in connection.exec_driver_sql(query, keys))
    return found


class PostgresRows(InboxRows):
    """In PostgreSQL: arrays that the server unnests, in one order, so that two transactions wait in one direction.

    One row alone goes without them, since an array costs the driver more than all values of a row.
    """

    _expire = text(_EXPIRE.format(lock="FOR UPDATE SKIP LOCKED"))
    _rows = (
        "unnest(%s::text[], %s::text[], %s::text[], %s::bytea[], %s::text[], %s::text[], %s::bytea[], %s::text[], "
        f"%s::float8[]) AS v ({_COLUMNS})"
    )
    _values = _COLUMNS.replace("outcome", "NULLIF(outcome, '')")
    _insert = (
        f"INSERT INTO saga_inbox ({_COLUMNS}) SELECT {_values} FROM {_rows} ON CONFLICT DO NOTHING "  # noqa: S608 - names of columns
        "RETURNING about, kind"
    )
    _settle = (
        "UPDATE saga_inbox AS x SET state = v.state, outcome = NULLIF(v.outcome, ''), body = v.body, "  # noqa: S608 - as above
        f"owner = v.owner, at = v.at FROM {_rows} WHERE x.about = v.about AND x.kind = v.kind AND x.owner = %s"
    )
    _insert_one = (
        f"INSERT INTO saga_inbox ({_COLUMNS}) VALUES (%s, %s, %s, %s, %s, NULLIF(%s, ''), %s, %s, %s) "  # noqa: S608 - as above
        "ON CONFLICT DO NOTHING"
    )
    _write = (
        "UPDATE saga_inbox SET state = %s, outcome = NULLIF(%s, ''), body = %s, owner = %s, at = %s "
        "WHERE about = %s AND kind = %s"
    )

    def insert(self, connection: Connection, rows: Sequence[InboxRow]) -> set[_Place]:
        """See ``InboxRows.insert``."""
        if len(rows) == 1:
            written = connection.exec_driver_sql(self._insert_one, tuple(rows[0])).rowcount
            return {rows[0][:2]} if written else set()
        found = connection.exec_driver_sql(self._insert, _arrays(rows))
        return {(row[0], row[1]) for row in found}

    def write(self, connection: Connection, row: InboxRow) -> None:
        """See ``InboxRows.write``."""
        connection.exec_driver_sql(self._write, _changed(row))

    def settle(self, connection: Connection, rows: Sequence[InboxRow], owner: str) -> int:
        """See ``InboxRows.settle``."""
        if len(rows) == 1:
            return connection.exec_driver_sql(f"{self._write} AND owner = %s", (*_changed(rows[0]), owner)).rowcount
        return connection.exec_driver_sql(self._settle, (*_arrays(rows), owner)).rowcount


def _changed(row: InboxRow) -> tuple[Any, ...]:
    """Gives what may change about a row, and then which one it is; its step and fingerprint stay."""
    return (*row[4:], row.about, row.kind)


def _arrays(rows: Sequence[InboxRow]) -> tuple[list[Any], ...]:
    """Gives a column of rows each."""
    return tuple(map(list, zip(*sorted(rows), strict=True)))


def about(key: str) -> Select[Any]:
    """Finds all that is known about an action."""
    return select(_inbox).where(_inbox.c.about == key)


def memory_of(rows: Sequence[Row[Any]]) -> Memory:
    """Makes entries of rows."""
    return {row.kind: _entry(row) for row in rows}


def row_of(entry: Entry, at: float) -> InboxRow:
    """Makes a row of an entry.

    Args:
        entry: What is remembered.
        at: POSIX time.
    """
    reply = entry.reply
    outcome, body = ("", b"") if reply is None else (reply.outcome, body_of(reply))
    return InboxRow(
        entry.about, entry.kind, entry.step, entry.fingerprint, entry.state, outcome, body, entry.owner, at
    )  # fmt: skip


def _entry(row: Row[Any]) -> Entry:
    """Makes an entry of a row."""
    reply = None if row.outcome is None else reply_of(row.outcome, bytes(row.body or b""))
    return Entry(
        about=row.about, kind=row.kind, step=row.step, fingerprint=bytes(row.fingerprint),
        state=cast("State", row.state), reply=reply, owner=row.owner,
    )  # fmt: skip
