"""What the library wrote for one saga, read back so that the ceiling can write it again."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

Row: TypeAlias = tuple[Any, ...]


@dataclass(frozen=True, slots=True)
class Layout:
    """Where a library database keeps its sagas.

    Attributes:
        saga: The table with one row a saga.
        saga_key: The column of `saga` that names the saga.
        journal: The table with one row a record.
        journal_key: The column of `journal` that names the saga.
        order: The column of `journal` that orders a saga's records.
    """

    saga: str = "saga"
    saga_key: str = "id"
    journal: str = "saga_journal"
    journal_key: str = "saga_id"
    order: str = "seq"


@dataclass(frozen=True, slots=True)
class Statement:
    """One SQL statement with the values of one saga, to be repeated for any number of others.

    Attributes:
        sql: With a `?` for each value.
        values: As the library wrote them.
        own: Which of the values hold the saga's id, whole or in part.
    """

    sql: str
    values: Row
    own: tuple[int, ...]

    @classmethod
    def of(cls, sql: str, values: Sequence[Any], saga_id: str) -> Statement:
        """Finds where `saga_id` stands in `values`."""
        own = (i for i, value in enumerate(values) if isinstance(value, str) and saga_id in value)
        return cls(sql, tuple(values), tuple(own))

    def row_for(self, old: str, new: str) -> Row:
        """The values with the saga id `old` replaced by `new`."""
        row = list(self.values)
        for index in self.own:
            row[index] = row[index].replace(old, new)
        return tuple(row)


@dataclass(frozen=True, slots=True)
class Tape:
    """One saga, as the transactions that write it.

    Attributes:
        saga_id: The id it was recorded under.
        page_size: Bytes a page of the library's database.
        schema: Statements that create its tables and indexes.
        commits: For each transaction, the statements in it.
    """

    saga_id: str
    page_size: int
    schema: tuple[str, ...]
    commits: tuple[tuple[Statement, ...], ...]

    @property
    def rows(self) -> int:
        """How many rows a saga inserts."""
        return sum(each.sql.startswith("INSERT") for commit in self.commits for each in commit)


def read_tape(finished: Path, running: Path, saga_id: str, *, effects: int, layout: Layout | None = None) -> Tape:
    """Reads one saga back from a database that the library wrote.

    The transactions are the fewest that a durable saga can do with: its row and first record;
    then one for each step or undo that ended; the last of them takes along every record after
    it and the update of the saga's row.

    Args:
        finished: The database after the saga ended.
        running: A copy of it from while the saga ran, which shows what the end updates.
        saga_id: The saga's id.
        effects: How many steps and undos it ran.
        layout: Where the database keeps sagas.

    Raises:
        LookupError: One of the two does not hold the saga, or the layout is another.
    """
    at = layout or Layout()
    with closing(sqlite3.connect(running)) as connection:
        before = _one_saga(connection, at, saga_id)
    with closing(sqlite3.connect(finished)) as connection:
        after = _one_saga(connection, at, saga_id)
        journal = _journal(connection, at, saga_id)
        schema = _schema(connection, at)
        page_size = int(connection.execute("PRAGMA page_size").fetchone()[0])
    start = Statement.of(_insert(at.saga, before), list(before.values()), saga_id)
    records = [Statement.of(_insert(at.journal, record), list(record.values()), saga_id) for record in journal]
    last = min(effects, len(records) - 1)
    commits = [(start, records[0]), *((record,) for record in records[1:last])]
    commits.append((*records[last:], *_update(at, before, after, saga_id)))
    return Tape(saga_id, page_size, schema, tuple(commits))


def _one_saga(connection: sqlite3.Connection, at: Layout, saga_id: str) -> dict[str, Any]:
    rows = _rows(connection, at.saga, f"{at.saga_key} = ?", saga_id)
    if len(rows) != 1:
        raise LookupError(f"{len(rows)} rows of {at.saga} have {at.saga_key} = {saga_id!r}, not 1")
    return rows[0]


def _journal(connection: sqlite3.Connection, at: Layout, saga_id: str) -> list[dict[str, Any]]:
    rows = _rows(connection, at.journal, f"{at.journal_key} = ? ORDER BY {at.order}", saga_id)
    if len(rows) < 2:
        raise LookupError(f"{at.journal} holds {len(rows)} records of {saga_id!r}")
    return rows


def _rows(connection: sqlite3.Connection, table: str, where: str, saga_id: str) -> list[dict[str, Any]]:
    """Reads rows of one saga, without the column that SQLite numbers by itself."""
    try:
        cursor = connection.execute(f"SELECT * FROM {table} WHERE {where}", (saga_id,))
    except sqlite3.OperationalError as error:
        raise LookupError(f"the library's tables are not laid out as expected: {error}") from error
    names = [column[0] for column in cursor.description]
    numbered = _numbered(connection, table)
    rows = (dict(zip(names, row, strict=True)) for row in cursor)
    return [{name: row[name] for name in row if name != numbered} for row in rows]


def _numbered(connection: sqlite3.Connection, table: str) -> str | None:
    """The column that SQLite numbers by itself, if `table` has one."""
    columns = connection.execute(f"PRAGMA table_info({table})").fetchall()
    keys = [(name, kind) for _, name, kind, _, _, position in columns if position]
    return keys[0][0] if len(keys) == 1 and keys[0][1].upper() == "INTEGER" else None


def _schema(connection: sqlite3.Connection, at: Layout) -> tuple[str, ...]:
    query = (
        "SELECT sql FROM sqlite_master WHERE tbl_name IN (?, ?) AND sql IS NOT NULL ORDER BY type != 'table', tbl_name"
    )
    return tuple(row[0] for row in connection.execute(query, (at.saga, at.journal)))


def _insert(table: str, row: dict[str, Any]) -> str:
    return f"INSERT INTO {table} ({', '.join(row)}) VALUES ({', '.join('?' * len(row))})"


def _update(at: Layout, before: dict[str, Any], after: dict[str, Any], saga_id: str) -> list[Statement]:
    """What turns the row `before` into `after`: nothing, or one statement."""
    changed = [name for name in after if after[name] != before[name]]
    if not changed:
        return []
    assignments = ", ".join(f"{name} = ?" for name in changed)
    sql = f"UPDATE {at.saga} SET {assignments} WHERE {at.saga_key} = ?"
    return [Statement.of(sql, [after[name] for name in changed] + [saga_id], saga_id)]
