"""A batch as one statement of PostgreSQL's: arrays that the server unnests."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sagas.stores.port import Change, JournalRow, NewSaga

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sqlalchemy import Connection

    from sagas.stores.port import Batch

__all__ = ["write_batch"]

_KINDS = {
    "fingerprint": "bytea", "created_at": "float8", "rank": "float8", "active": "bool", "wake_at": "float8",
    "ended_at": "float8", "seq": "int4", "at": "float8", "data": "bytea", "digest": "bytea",
}  # fmt: skip
_NEW = (*NewSaga._fields, "status", "active", "wake_at", "ended_at", "error")
# Arrays in the binary format need one value at least to tell their type, so what stands for nothing is a value too.
_NOTHING = {"wake_at": "'NaN'", "ended_at": "'NaN'", "error": "''"}
_NAN = float("nan")


def _unnest(columns: Sequence[str]) -> str:
    """Writes a set of rows that come as one array a column."""
    arrays = [f"%b::{_KINDS.get(name, 'text')}[]" for name in columns]
    return f"unnest({', '.join(arrays)}) AS v ({', '.join(columns)})"


def _value(column: str) -> str:
    """Writes a column of such a row."""
    return f"NULLIF(v.{column}, {_NOTHING[column]})" if column in _NOTHING else f"v.{column}"


def _insert(table: str, columns: Sequence[str]) -> str:
    """Writes an insert of such rows."""
    return (
        f"INSERT INTO {table} ({', '.join(columns)}) SELECT {', '.join(map(_value, columns))} FROM {_unnest(columns)}"
    )


_INSERT_NEW = _insert("saga", _NEW)
_INSERT_ROWS = _insert("saga_journal", JournalRow._fields)
_UPDATE = (
    f"UPDATE saga SET {', '.join(f'{name} = {_value(name)}' for name in Change._fields[1:])} "
    f"FROM {_unnest(Change._fields)} WHERE saga.id = v.id AND saga.ended_at IS NULL"
)
_DELETE_READ = "DELETE FROM saga_mail WHERE id = ANY(%b::int8[])"


def write_batch(connection: Connection, batch: Batch) -> None:
    """Writes a batch. Rows are sorted, so that two processes wait for each other in one direction only."""
    parts: list[str] = []
    values: list[Sequence[Any]] = []
    if batch.new:
        parts.append(_INSERT_NEW)
        values.extend(zip(*sorted(_new(new, batch.changes.get(new.id)) for new in batch.new), strict=True))
    if batch.rows:
        parts.append(_INSERT_ROWS)
        values.extend(zip(*sorted(batch.rows, key=_place), strict=True))
    new_ids = {new.id for new in batch.new}
    changes = [_change(change) for change in batch.changes.values() if change.id not in new_ids]
    if changes:
        parts.append(_UPDATE)
        values.extend(zip(*sorted(changes), strict=True))
    if batch.read:
        parts.append(_DELETE_READ)
        values.append(batch.read)
    *before, last = parts or ["SELECT"]  # the latter only shows that the server is there
    names = ", ".join(f"part{number} AS ({part})" for number, part in enumerate(before))
    connection.exec_driver_sql(f"WITH {names} {last}" if before else last, tuple(map(list, values)))


def _place(row: JournalRow) -> tuple[str, int]:
    """Orders records."""
    return row.saga_id, row.seq


def _new(new: NewSaga, change: Change | None) -> tuple[Any, ...]:
    """Puts a new saga and what has already changed about it into one row."""
    if change is None:
        return (*new, "running", True, _NAN, _NAN, "")
    _, *rest, _ = _change(change)
    return (*new, *rest)


def _change(change: Change) -> tuple[Any, ...]:
    """Gives a change without what PostgreSQL cannot take: zeros in a text."""
    saga_id, status, active, wake_at, ended_at, error, owner = change
    told = "" if error is None else error.replace("\x00", "\ufffd")
    return saga_id, status, active, _or_nan(wake_at), _or_nan(ended_at), told, owner


def _or_nan(time: float | None) -> float:
    """Stands in for no time."""
    return _NAN if time is None else time
