"""The journal in a SQLite file."""

from __future__ import annotations

import glob
import sqlite3
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sqlalchemy import create_engine, delete, event
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError

from sagas.errors import StoreError, StoreUnavailable
from sagas.stores.liveness import LifeLine, holder_is_dead
from sagas.stores.port import Change, JournalRow, NewSaga
from sagas.stores.sql import SqlStore
from sagas.stores.tables import metadata

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sqlalchemy import Connection, Engine

    from sagas.stores.port import Batch, Lease

__all__ = ["SqliteStore"]

_MAIL = metadata.tables["saga_mail"]
_SYNCHRONOUS = ("OFF", "NORMAL", "FULL", "EXTRA")
# Seconds that SQLite itself waits for another writer, before the coordinator stalls and retries.
_BUSY_TIMEOUT = 2.0
_WAL_PAUSE = 0.005
_PAUSE = 0.0005
_SIZES = sorted({1 << n for n in range(12)} | {3 << n for n in range(10)}, reverse=True)


def _chunks(count: int) -> list[int]:
    """Splits a number of rows into few sizes, of which there are not many, so that statements can be cached."""
    sizes: list[int] = []
    for size in _SIZES:
        while count >= size:
            sizes.append(size)
            count -= size
    return sizes


def _to_wal(cursor: sqlite3.Cursor) -> None:
    """Turns the file to write-ahead logging, and waits for whoever is just doing the same.

    SQLite does not wait by itself here: to change the mode it takes a read lock upwards, and answers at once that the
    file is locked where another holds RESERVED, since two that both waited would wait for each other.
    """
    until = time.monotonic() + _BUSY_TIMEOUT
    while True:
        try:
            cursor.execute("PRAGMA journal_mode=WAL")
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY or time.monotonic() > until:
                raise
            time.sleep(_WAL_PAUSE)
        else:
            return


class SqliteStore(SqlStore):
    """A store in one SQLite file, in WAL mode.

    ``synchronous=FULL`` by default: a commit is on disk when it returns, also if the power fails (see SQLite's
    documentation of ``PRAGMA synchronous``). Writing transactions begin with ``BEGIN IMMEDIATE``, since one that
    begins by reading can lose what others wrote meanwhile.

    Args:
        url: ``sqlite:///relative.db`` or ``sqlite:////absolute.db``; ``?synchronous=NORMAL`` gives up the last
            moments before a power failure for speed.

    Raises:
        StoreError: The URL names no file.
    """

    def __init__(self, url: str) -> None:
        super().__init__(url)
        try:
            parsed = make_url(url)
        except ArgumentError as error:
            raise StoreError(f"{url!r} is not a URL of a database: {error}") from error
        if not parsed.database or parsed.database == ":memory:":
            raise StoreError(f"{url!r} names no file; use 'sqlite:///orders.db', or 'memory:' to keep nothing")
        synchronous = str(parsed.query.get("synchronous", "FULL")).upper()
        if synchronous not in _SYNCHRONOUS:
            raise StoreError(f"synchronous={synchronous} is none of {', '.join(_SYNCHRONOUS)}")
        self._synchronous = synchronous
        self._url = parsed.difference_update_query(["synchronous"])
        self._path = Path(parsed.database).resolve()
        self._data_version = -1
        self._texts: dict[tuple[str, int], str] = {}
        self._lifelines: dict[str, LifeLine] = {}
        self._dead: set[str] = set()

    @property
    def path(self) -> Path:
        """Where the file is."""
        return self._path

    def _connect(self) -> Engine:
        """Makes the engine."""
        if not self._path.parent.is_dir():
            raise StoreError(f"{self.url}: there is no directory {self._path.parent}")
        engine = create_engine(self._url, connect_args={"check_same_thread": False, "timeout": _BUSY_TIMEOUT})
        event.listen(engine, "connect", self._configure)
        event.listen(engine, "begin", _begin)
        return engine

    def _configure(self, connection: Any, _: object) -> None:
        """Sets up a new connection of the driver."""
        connection.isolation_level = None
        cursor = connection.cursor()
        _to_wal(cursor)
        cursor.execute(f"PRAGMA synchronous={self._synchronous}")
        cursor.close()

    def _write_batch(self, connection: Connection, batch: Batch) -> None:
        """See ``SqlStore``: statements are written once for a number of rows, and executed as they are."""
        if batch.new:
            self._write_rows(connection, "new", [(*new, "running", True) for new in batch.new])
        if batch.rows:
            self._write_rows(connection, "row", batch.rows)
        if batch.changes:
            self._write_rows(connection, "change", list(batch.changes.values()))
        if batch.read:
            connection.execute(delete(_MAIL).where(_MAIL.c.id.in_(batch.read)))

    def _write_rows(self, connection: Connection, kind: str, rows: Sequence[tuple[Any, ...]]) -> None:
        """Writes rows with as few statements as possible."""
        position = 0
        for size in _chunks(len(rows)):
            text = self._texts.get((kind, size))
            if text is None:
                text = self._texts[kind, size] = self._text(kind, size)
            values = [value for row in rows[position : position + size] for value in row]
            connection.exec_driver_sql(text, tuple(values))
            position += size

    def _text(self, kind: str, rows: int) -> str:
        """Writes the statement for a number of rows of a kind: ``new``, ``row`` or ``change``."""
        if kind == "change":
            return self._update_text(rows)
        table, names = (
            ("saga", (*NewSaga._fields, "status", "active")) if kind == "new" else ("saga_journal", JournalRow._fields)
        )
        return f"INSERT INTO {table} ({', '.join(names)}) VALUES {self._values(rows, len(names))}"

    def _values(self, rows: int, columns: int) -> str:
        """Writes placeholders for a number of rows."""
        one = f"({','.join('?' * columns)})"
        return ",".join([one] * rows)

    def _update_text(self, rows: int) -> str:
        """Writes the statement that applies a number of changes."""
        names = Change._fields[1:]
        assignments = ", ".join(f"{name} = v.column{number}" for number, name in enumerate(names, 2))
        return (
            f"UPDATE saga SET {assignments} FROM (VALUES {self._values(rows, len(Change._fields))}) AS v "
            "WHERE saga.id = v.column1 AND saga.ended_at IS NULL"
        )

    def changed(self) -> bool:
        """See ``Store.changed``: asks SQLite whether another connection has committed."""
        with self._writing, self._errors():
            # On the driver's own connection, since SQLAlchemy would begin a transaction, which locks.
            driver = self._writer_connection().connection.driver_connection
            assert driver is not None, "an open connection has a driver's one"
            try:
                version = driver.execute("PRAGMA data_version").fetchone()[0]
            except sqlite3.Error as error:
                raise StoreUnavailable(f"the journal's database {self.url} cannot be read now: {error}") from error
        before, self._data_version = self._data_version, int(version)
        return before != self._data_version

    # --- who is alive -------------------------------------------------------------------------------------------

    def renew(self, lease: Lease, now: float) -> float:
        """See ``Store.renew``."""
        if lease.id not in self._lifelines:
            try:
                self._lifelines[lease.id] = LifeLine(self._lifeline(lease.id))
            except OSError as error:
                raise StoreError(f"{self.url}: cannot write beside the database: {error}") from error
        until = super().renew(lease, now)
        self._bury()
        return until

    def release(self, owner: str) -> None:
        """See ``Store.release``."""
        super().release(owner)
        lifeline = self._lifelines.pop(owner, None)
        if lifeline is not None:
            lifeline.let_go()
        self._bury()

    def _bury(self) -> None:
        """Removes what coordinators that died have left behind: their leases, and the files beside the database."""
        for file in self._path.parent.glob(f"{glob.escape(self._path.name)}-lease-*"):
            owner = file.name.rpartition("-lease-")[2]
            if self._proven_dead(owner):
                super().release(owner)
                file.unlink(missing_ok=True)
                self._dead.discard(owner)

    def close(self) -> None:
        """See ``Store.close``. A lease that could not be given back is known to be over all the same."""
        super().close()
        for lifeline in self._lifelines.values():
            lifeline.drop()
        self._lifelines.clear()

    def _lifeline(self, owner: str) -> Path:
        """Names the file that a coordinator keeps locked."""
        return self._path.with_name(f"{self._path.name}-lease-{owner}")

    def _proven_dead(self, owner: str) -> bool:
        """See ``SqlStore``."""
        if owner not in self._lifelines and owner not in self._dead and holder_is_dead(self._lifeline(owner)):
            self._dead.add(owner)
        return owner in self._dead


def _begin(connection: Connection) -> None:
    """Begins a transaction, and takes the lock at once if it is going to write."""
    if connection.get_execution_options().get("sagas_writes", False):
        _get_in(connection)
    else:
        connection.exec_driver_sql("BEGIN")


def _get_in(connection: Connection) -> None:
    """Begins to write when no other process does.

    SQLite itself looks after 1, 2, 5, … and then 100 ms only, so that whoever has waited for long would have to wait
    for ever while others come and go.
    """
    driver = connection.connection.driver_connection
    assert driver is not None, "an open connection has a driver's one"
    driver.execute("PRAGMA busy_timeout = 0")
    try:
        if not _is_free_within(driver, _BUSY_TIMEOUT):
            connection.exec_driver_sql("BEGIN IMMEDIATE")  # which says what is in the way
    finally:
        driver.execute(f"PRAGMA busy_timeout = {_BUSY_TIMEOUT * 1000:.0f}")


def _is_free_within(driver: Any, seconds: float) -> bool:
    """Tries to begin for so long; says whether it has."""
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        try:
            driver.execute("BEGIN IMMEDIATE")
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY:
                return False
            time.sleep(_PAUSE)
        else:
            return True
    return False
