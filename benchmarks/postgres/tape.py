"""What the library wrote for one saga, read back so that the bare driver can write it again, and copies be made."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

from benchmarks.postgres.server import connect

if TYPE_CHECKING:
    import psycopg

_TYPES = """
    SELECT attname, format_type(atttypid, NULL) FROM pg_attribute
    WHERE attrelid = %s::regclass AND attnum > 0 AND NOT attisdropped AND attidentity = ''
    AND attname <> 'key' ORDER BY attnum
"""


class Row(NamedTuple):
    """A row of a table.

    Attributes:
        types: PostgreSQL's, for each column that is not NULL.
        values: As the library wrote them.
    """

    table: str
    types: dict[str, str]
    values: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Statement:
    """Something that is written for a saga: a row that is inserted, or columns of its row that are updated.

    Attributes:
        one: SQL for one saga.
        many: SQL for any number of them: an array a column, which the server unnests.
        values: What it writes, in the order of the placeholders.
    """

    one: str
    many: str
    values: tuple[Any, ...]


@dataclass(frozen=True, slots=True)
class Tape:
    """One saga, as the transactions that write it.

    Attributes:
        saga_id: The id it was recorded under.
        commits: For each transaction, its statements; they are sent as one.
    """

    saga_id: str
    commits: tuple[tuple[Statement, ...], ...]

    def sql(self, *, many: bool) -> list[str]:
        """Each transaction as one statement: all parts but the last are put into its `WITH`."""
        return [_together([each.many if many else each.one for each in commit]) for commit in self.commits]

    def values_for(self, commit: int, saga_id: str) -> list[Any]:
        """What a transaction writes, for another saga."""
        return [_renamed(value, self.saga_id, saga_id) for each in self.commits[commit] for value in each.values]

    def rows_for(self, commit: int, saga_ids: Sequence[str]) -> list[list[list[Any]]]:
        """For each statement of a transaction, what it writes for each of many sagas."""
        return [
            [[_renamed(value, self.saga_id, name) for value in each.values] for name in saga_ids]
            for each in self.commits[commit]
        ]

    def columns_for(self, commit: int, saga_ids: Sequence[str]) -> list[list[Any]]:
        """The same for many sagas: a list a column."""
        values = [value for each in self.commits[commit] for value in each.values]
        return [_column(value, self.saga_id, saga_ids) for value in values]


def read_saga(connection: psycopg.Connection, saga_id: str) -> Row:
    """Reads the row of a saga.

    Raises:
        LookupError: It is not there.
    """
    rows = _rows(connection, "saga", "id = %s", saga_id)
    if not rows:
        raise LookupError(f"there is no saga {saga_id!r}")
    return rows[0]


def read_journal(connection: psycopg.Connection, saga_id: str) -> list[Row]:
    """Reads the records of a saga, in order."""
    return _rows(connection, "saga_journal", "saga_id = %s ORDER BY seq", saga_id)


def read_tape(url: str, before: Row, saga_id: str, *, effects: int) -> Tape:
    """Reads one saga back from a database that the library wrote.

    The transactions are the fewest that a durable saga can do with: its row and first record; then one for each step
    that ended; the last of them takes along every record after it and the update of the saga's row.

    Args:
        url: The database.
        before: The saga's row while it ran, which shows what the end updates.
        saga_id: The saga's id.
        effects: How many steps it ran.
    """
    with connect(url) as connection:
        after = read_saga(connection, saga_id)
        records = [_insert(row) for row in read_journal(connection, saga_id)]
    last = min(effects, len(records) - 1)
    commits = [(_insert(before), records[0]), *((record,) for record in records[1:last])]
    commits.append((*records[last:], _update(before, after)))
    return Tape(saga_id, tuple(commits))


def _rows(connection: psycopg.Connection, table: str, where: str, saga_id: str) -> list[Row]:
    """Reads rows without what is NULL, or numbered by the server."""
    types: dict[str, str] = dict(connection.execute(_TYPES, (table,)).fetchall())
    found = connection.execute(f"SELECT {', '.join(types)} FROM {table} WHERE {where}", (saga_id,)).fetchall()
    rows = [{name: value for name, value in zip(types, row, strict=True) if value is not None} for row in found]
    return [Row(table, {name: types[name] for name in row}, row) for row in rows]


def _insert(row: Row) -> Statement:
    head = f"INSERT INTO {row.table} ({', '.join(row.values)})"
    one = f"{head} VALUES ({', '.join(['%b'] * len(row.values))})"
    return Statement(one, f"{head} SELECT * FROM unnest({_arrays(row.types)})", tuple(row.values.values()))


def _update(before: Row, after: Row) -> Statement:
    """What turns the row `before` into `after`."""
    names = [name for name in after.values if after.values[name] != before.values.get(name)]
    types = {name: after.types[name] for name in ("id", *names)}
    one = f"UPDATE saga SET {', '.join(f'{name} = v.{name}' for name in names)} FROM "
    columns = ", ".join(types)
    where = f"AS v ({columns}) WHERE saga.id = v.id"
    values = ", ".join(f"%b::{kind}" for kind in types.values())
    return Statement(
        f"{one}(VALUES ({values})) {where}",
        f"{one}unnest({_arrays(types)}) {where}",
        tuple(after.values[name] for name in types),
    )


def _arrays(types: dict[str, str]) -> str:
    return ", ".join(f"%b::{kind}[]" for kind in types.values())


def _together(parts: Sequence[str]) -> str:
    """Puts statements into one, which is one transaction and one round trip."""
    *before, last = parts
    names = ", ".join(f"part{number} AS ({part})" for number, part in enumerate(before))
    return f"WITH {names} {last}" if before else last


def _column(value: Any, old: str, new: Sequence[str]) -> list[Any]:
    if _renamed(value, old, "") == value:
        return [value] * len(new)
    return [_renamed(value, old, saga_id) for saga_id in new]


def _renamed(value: Any, old: str, new: str) -> Any:
    """Replaces the saga's id where it occurs."""
    if isinstance(value, str):
        return value.replace(old, new)
    return value.replace(old.encode(), new.encode()) if isinstance(value, bytes) else value
