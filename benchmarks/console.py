"""How long the console's pages take with a million sagas in the journal: ``python -m benchmarks.console``.

Fills a SQLite file and a PostgreSQL database (``--only`` one of them), and asks for every page, and for the list with
every filter, over ASGI in this process: so what is measured is the database, the reading and the rendering, without a
network. Each is asked for ``--times`` times; the fastest, the median and the slowest
are told. Exits with 1 if a median is over
100 ms.
"""

from __future__ import annotations

import argparse
import logging
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from typing import NamedTuple
from urllib.parse import quote

import anyio
from sqlalchemy import create_engine, text

from sagas import Client, Coordinator
from sagas_adapters.console import console_app
from tests.adapters.operated import SAGAS, browsing, start_all

_LIMIT = 0.1
# Of a million: how they stand, as people see it. Every id once, over ten days.
_FILL = """
    WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {count})
    INSERT INTO saga (id, name, version, fingerprint, created_at, owner, status, active, wake_at, ended_at, error, rank)
    SELECT 'filled-' || i, CASE WHEN i % 3 = 0 THEN 'filled_order' ELSE 'filled_refund' END, '1', {bytes},
        {now} - ({count} - i) * 0.86, 'gone',
        CASE WHEN i % 1000 = 0 THEN 'stuck' WHEN i % 1000 = 1 THEN 'compensating' WHEN i % 200 = 2 THEN 'running'
             WHEN i % 50 = 3 THEN 'compensated' ELSE 'completed' END,
        false, NULL,
        CASE WHEN i % 1000 IN (0, 1) OR i % 200 = 2 THEN NULL ELSE {now} - ({count} - i) * 0.86 + 0.5 END,
        CASE WHEN i % 1000 = 0 THEN 'release (' || (i % 7) || '): ConnectionError: no answer for order ' || i
             WHEN i % 50 = 3 THEN 'StepFailed: step charge (2) failed: ValueError: card ' || i || ' is declined' END, 0
    FROM n
"""
_RECORDS = """
    INSERT INTO saga_journal (saga_id, seq, at, kind, path, data, digest)
    SELECT id, seq, created_at, 'SagaStarted', '', {bytes}, {bytes}
    FROM saga, (SELECT 0 AS seq UNION ALL SELECT 1 UNION ALL SELECT 2) numbers WHERE id LIKE 'filled-%'
"""


class _Timed(NamedTuple):
    """How long a page took, in seconds."""

    address: str
    best: float
    median: float
    worst: float
    bytes: int


def main() -> int:
    """Fills, asks and tells."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.console", description=__doc__)
    parser.add_argument("--sagas", type=int, default=1_000_000)
    parser.add_argument("--times", type=int, default=20)
    parser.add_argument("--only", choices=["sqlite", "postgres"])
    options = parser.parse_args()
    logging.getLogger("sagas").setLevel(logging.CRITICAL)  # that some sagas get stuck is meant
    slow = False
    for kind in [options.only] if options.only else ["sqlite", "postgres"]:
        with _store(kind) as url:
            began = time.perf_counter()
            anyio.run(_fill, url, options.sagas)
            print(f"\n{kind}: {options.sagas:,} sagas, filled in {time.perf_counter() - began:.0f} s")
            for one in anyio.run(_measure, url, options.times):
                slow |= one.median > _LIMIT
                took = "".join(f"{seconds * 1e3:8.1f} ms" for seconds in (one.best, one.median, one.worst))
                print(f"{took} {one.bytes // 1024:5} KiB  {one.address}")
    return int(slow)


@contextmanager
def _store(kind: str) -> Iterator[str]:
    """Makes a database, and removes it again."""
    with tempfile.TemporaryDirectory() as directory:
        if kind == "sqlite":
            yield f"sqlite:///{directory}/console.db"
            return
        from benchmarks.postgres.server import databases

        Path(directory).chmod(0o755)  # the server may have to be another user, if we are root
        with databases(Path(directory)) as server:
            yield server.create_database()


async def _fill(url: str, count: int) -> None:
    """Writes some real sagas, and very many that look as if they were."""
    async with Coordinator(url, sagas=SAGAS) as coordinator:
        await start_all(coordinator)
    postgres = url.startswith("postgres")
    engine = create_engine(url)
    values = {"count": count, "now": time.time(), "bytes": "'\\x00'::bytea" if postgres else "x'00'"}
    for statement in (_FILL, _RECORDS):
        with engine.begin() as connection:
            connection.execute(text(statement.format(**values).replace("::bytea", "\\:\\:bytea")))
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.execute(text("VACUUM ANALYZE" if postgres else "ANALYZE"))
    engine.dispose()


async def _measure(url: str, times: int) -> list[_Timed]:
    """Asks for the pages."""
    found: list[_Timed] = []
    async with Client(url) as client, browsing(console_app(client)) as browser:
        stuck = quote(next(one.id for one in await client.list(status="stuck", limit=5000) if "stuck-" in one.id))
        cause = next(one.key for one in (await client.stuck()).groups if one.name == "filled_order")
        about = (
            f"saga?id={stuck}",
            f"journal?id={stuck}",
            f"act?id={stuck}&do=skip",
            f"act-all?cause={cause}&do=retry",
        )
        pages = ["./", *_lists(), "stuck", *about, "coordinators", "schedules", "queues", "locks"]
        for address in pages:
            taken: list[float] = []
            for _ in range(times):
                began = time.perf_counter()
                page = await browser.get(address)
                taken.append(time.perf_counter() - began)
                assert page.status_code == 200, page.text
            found.append(_Timed(address, min(taken), median(taken), max(taken), len(page.content)))
    return found


def _lists() -> list[str]:
    """Gives the list with every filter: with many that fit, few, and none."""
    return [
        *(f"./?status={status}" for status in ("open", "stuck", "completed", "compensated", "running", "ended")),
        "./?name=filled_order", "./?name=ship", "./?name=nothing", "./?version=1", "./?version=9",
        "./?step=release", "./?step=charge", "./?step=nothing", "./?id=filled-99999", "./?id=nothing",
        "./?text=declined", "./?text=warehouse", "./?text=nothing", "./?status=stuck&text=nothing",
        "./?status=completed&text=nothing", "./?status=ended&name=nothing",
        "./?age=10m", "./?age=7d", "./?age=over-7d", "./?age=over-24h&status=stuck", "./?age=10m&text=nothing",
        "./?before=500000", "./?before=500000&status=compensated", "./?before=500000&text=nothing",
    ]  # fmt: skip


if __name__ == "__main__":
    sys.exit(main())
