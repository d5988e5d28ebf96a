"""What psycopg alone can do: the library's own rows, a commit a step or in groups, and nothing computed but the ids."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING

from benchmarks.postgres.server import connect
from benchmarks.workload import Timing, saga_id

if TYPE_CHECKING:
    from benchmarks.postgres.tape import Tape

POOL = 16


def write_in_groups(url: str, tape: Tape, *, concurrency: int, seconds: float, prefix: str) -> Timing:
    """Writes sagas in step, `concurrency` at a time: each commit holds the next record of all of them.

    One connection; a commit is one prepared statement with an array a column in the binary format, so one round trip.

    Args:
        url: A database with the library's tables.
        tape: What to write for each saga.
        concurrency: Sagas a commit.
        seconds: How long to begin new ones.
        prefix: What the ids begin with; must not recur in the same database.
    """
    latencies: list[float] = []
    statements = tape.sql(many=True)
    with connect(url) as connection:
        begun = now = time.perf_counter()
        while now < begun + seconds:
            started = now
            ids = [saga_id(prefix, len(latencies) + number) for number in range(concurrency)]
            for number, statement in enumerate(statements):
                connection.execute(statement.encode(), tape.columns_for(number, ids), prepare=True)
            now = time.perf_counter()
            latencies += [now - started] * concurrency
    return Timing(now - begun, sorted(latencies))


def write_in_batches(url: str, tape: Tape, *, concurrency: int, seconds: float, prefix: str) -> Timing:
    """As ``write_in_groups``, the way that psycopg's manual shows: rows by ``executemany``, and a commit after them.

    psycopg sends them in pipeline mode, so a statement a row, but a round trip for all of them.
    """
    latencies: list[float] = []
    with connect(url) as connection, connection.cursor() as cursor:
        begun = now = time.perf_counter()
        while now < begun + seconds:
            started = now
            ids = [saga_id(prefix, len(latencies) + number) for number in range(concurrency)]
            for number, commit in enumerate(tape.commits):
                with connection.transaction():
                    for statement, rows in zip(commit, tape.rows_for(number, ids), strict=True):
                        cursor.executemany(statement.one.encode(), rows)
            now = time.perf_counter()
            latencies += [now - started] * concurrency
    return Timing(now - begun, sorted(latencies))


def write_one_by_one(url: str, tape: Tape, *, concurrency: int, seconds: float, prefix: str) -> Timing:
    """Writes sagas side by side, each step of each with a commit of its own.

    A thread a connection of a pool of 16, which was faster than a task a saga (asyncio), and than more threads. A
    commit is one prepared statement, so one round trip.

    Args:
        url: A database with the library's tables.
        tape: What to write for each saga.
        concurrency: How many sagas; of those beyond 16, each waits until another has ended.
        seconds: How long to begin new ones.
        prefix: What the ids begin with; must not recur in the same database.
    """
    from psycopg_pool import ConnectionPool

    latencies: list[float] = []
    statements = [statement.encode() for statement in tape.sql(many=False)]
    plain = url.replace("postgresql+psycopg:", "postgresql:", 1)
    with ConnectionPool(plain, min_size=POOL, max_size=POOL, kwargs={"autocommit": True}, open=True) as pool:
        pool.wait()
        begun = time.perf_counter()

        def client(own: str) -> None:
            now, number = begun, 0
            while now < begun + seconds:
                started, name = now, saga_id(own, number)
                for commit, statement in enumerate(statements):
                    with pool.connection() as connection:
                        connection.execute(statement, tape.values_for(commit, name), prepare=True)
                now = time.perf_counter()
                latencies.append(now - started)
                number += 1

        threads = [threading.Thread(target=client, args=(f"{prefix}-{n}",)) for n in range(min(concurrency, POOL))]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        elapsed = time.perf_counter() - begun
    return Timing(elapsed, sorted(latencies))
