"""The ceiling: a bare `sqlite3` loop that writes the library's own rows with group commit."""

from __future__ import annotations

import sqlite3
import time
from contextlib import closing
from pathlib import Path

from benchmarks.systems.tape import Tape
from benchmarks.workload import Timing, saga_id


def write_sagas(database: Path, tape: Tape, *, concurrency: int, seconds: float, prefix: str) -> Timing:
    """Writes sagas in step, `concurrency` at a time, for `seconds`.

    Each transaction holds every saga's next record, so `concurrency` is the size of the group
    commit. Nothing is computed but the ids: no body, no encoding, no digest.

    Args:
        database: The SQLite file; created with the tape's schema when missing.
        tape: What to write for each saga.
        concurrency: Sagas a transaction.
        seconds: How long to begin new ones.
        prefix: What the ids begin with; must not recur in the same database.
    """
    with closing(_open(database, tape)) as connection:
        latencies: list[float] = []
        begun = now = time.perf_counter()
        while now < begun + seconds:
            started = now
            first = len(latencies)
            ids = [saga_id(prefix, first + number) for number in range(concurrency)]
            _write(connection, tape, ids)
            now = time.perf_counter()
            latencies += [now - started] * concurrency
    return Timing(now - begun, sorted(latencies))


def _open(database: Path, tape: Tape) -> sqlite3.Connection:
    fresh = not database.exists()
    connection = sqlite3.connect(database, isolation_level=None)
    if fresh:
        connection.execute(f"PRAGMA page_size = {tape.page_size}")
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = FULL")
    if fresh:
        for statement in tape.schema:
            connection.execute(statement)
    return connection


def _write(connection: sqlite3.Connection, tape: Tape, ids: list[str]) -> None:
    for statements in tape.commits:
        connection.execute("BEGIN IMMEDIATE")
        for statement in statements:
            rows = [statement.row_for(tape.saga_id, new) for new in ids]
            connection.executemany(statement.sql, rows)
        connection.execute("COMMIT")
