"""What a child process does: one measurement of one system."""

from __future__ import annotations

import asyncio
import gc
import sqlite3
import time
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager, closing
from pathlib import Path
from typing import Any

from benchmarks import workload
from benchmarks.model import Case, SystemName
from benchmarks.systems.runner import Runner
from benchmarks.workload import Timing, closed_loop, gate, spread

Request = dict[str, Any]
Reply = dict[str, Any]

_WARM_UP_SECONDS = 0.2
_WARM_UP_CLIENTS = 8
_WARM_UP_SAGAS = 50
_POLL_SECONDS = 0.01
_SETTLE_SECONDS = 0.5

_kept_open: list[object] = []


def open_runner(request: Request) -> AbstractAsyncContextManager[Runner]:
    """The system that `request` names, on the database that it names."""
    database = Path(request["database"])
    match SystemName(request["system"]):
        case SystemName.LIBRARY:
            from benchmarks.systems import library

            return library.open_runner(f"sqlite:///{database}")
        case SystemName.TRACED:
            from benchmarks.systems import library

            return library.open_traced_runner(f"sqlite:///{database}")
        case SystemName.DBOS:
            from benchmarks.systems import dbos_system

            return dbos_system.open_runner(database, wal=request["dbos_wal"])
        case SystemName.CEILING | SystemName.LOOP | SystemName.BATCHES:
            raise ValueError("a bare driver runs no sagas")


async def throughput(request: Request) -> Reply:
    """Runs the closed loop for each case and concurrency asked for."""
    async with open_runner(request) as runner:

        async def run(case: Case, clients: int, seconds: float, prefix: str) -> Timing:
            return await closed_loop(
                lambda saga_id: runner.run(case, saga_id),
                concurrency=clients,
                seconds=seconds,
                prefix=prefix,
            )

        return {"windows": await measure_windows(request, run), "facts": await runner.facts()}


async def ceiling(request: Request) -> Reply:
    """Writes the tapes of each case at each concurrency asked for."""
    from benchmarks.systems.ceiling import write_sagas
    from benchmarks.systems.tape import read_tape

    effects = {
        Case.COMPLETED: workload.STEPS,
        Case.COMPENSATED: workload.STEPS + workload.UNDONE,
    }
    tapes = {}
    for name, taped in request["tapes"].items():
        case, finished = Case(name), Path(taped["database"])
        running = finished.with_suffix(".running")
        tapes[case] = read_tape(finished, running, taped["saga_id"], effects=effects[case])

    async def run(case: Case, clients: int, seconds: float, prefix: str) -> Timing:
        return write_sagas(
            Path(request["database"]),
            tapes[case],
            concurrency=clients,
            seconds=seconds,
            prefix=prefix,
        )

    facts = {
        f"{case}_{what}": number
        for case, tape in tapes.items()
        for what, number in (("rows", tape.rows), ("commits", len(tape.commits)))
    }
    return {"windows": await measure_windows(request, run), "facts": facts}


async def measure_windows(
    request: Request, run: Callable[[Case, int, float, str], Awaitable[Timing]]
) -> list[dict[str, Any]]:
    """Warms up, and measures each case and concurrency asked for, as fields of `Window`."""
    cases = dict.fromkeys(Case(case) for case, _ in request["windows"])
    for case in cases:
        await run(case, _WARM_UP_CLIENTS, _WARM_UP_SECONDS, f"warm-{case}")
    windows = []
    for case, clients in request["windows"]:
        timing = await run(Case(case), clients, request["seconds"], f"{case}-{clients}")
        windows.append(
            {
                "case": case,
                "concurrency": clients,
                "count": len(timing.latencies),
                "per_second": timing.per_second,
                "p50_ms": timing.percentile(50),
                "p99_ms": timing.percentile(99),
            }
        )
    return windows


async def tape(request: Request) -> Reply:
    """Lets the library write one saga that the ceiling can copy."""
    from benchmarks.systems.library import capture

    await capture(Path(request["database"]), Case(request["case"]), request["saga_id"])
    return {}


async def memory(request: Request) -> Reply:
    """Parks sagas and sees how much the process grew for each."""
    count, measure = request["count"], _probe(request["probe"])
    # Caches of the database and of statements are full after these; they do not grow with sagas.
    warm = count // 10
    async with open_runner(request) as runner:
        await _park(runner, "warm", warm, expected=warm)
        before = measure()
        await _park(runner, "parked", count, expected=warm + count)
        return {"bytes_per_saga": (measure() - before) / count}


async def _park(runner: Runner, prefix: str, count: int, *, expected: int) -> None:
    await spread(runner.park, count=count, prefix=prefix)
    while await runner.parked() < expected:
        await asyncio.sleep(_POLL_SECONDS)
    await asyncio.sleep(_SETTLE_SECONDS)
    gc.collect()


def _probe(name: str) -> Callable[[], int]:
    """How to tell the bytes in use: `rss` of the process, or `tracemalloc`'s of Python."""
    if name == "rss":
        import psutil

        process = psutil.Process()
        return lambda: int(process.memory_info().rss)
    import tracemalloc

    tracemalloc.start()
    return lambda: tracemalloc.get_traced_memory()[0]


async def block(request: Request) -> Reply:
    """Starts sagas that stay in their third step, and returns when all are there."""
    gate.shut = True
    # Kept open on purpose, beyond this function: the process is killed while its sagas run.
    _kept_open.append(opened := open_runner(request))
    runner = await opened.__aenter__()
    await spread(runner.start, count=request["count"], prefix="open")
    while gate.arrived < request["count"]:
        await asyncio.sleep(_POLL_SECONDS)
    return {"hold": True}


async def recover(request: Request) -> Reply:
    """Opens a system whose last process was killed, and times its first and last completion.

    The times count from `request["started"]`, a reading of the monotonic clock that the parent
    took just before it started this process.
    """
    count = request["count"]
    async with open_runner(request) as runner:
        first = await _completed(request, runner, 1)
        last = await _completed(request, runner, count)
    return {"first_seconds": first, "seconds": last}


async def _completed(request: Request, runner: Runner, count: int) -> float:
    """Seconds since the start of the process when the database holds `count` completed sagas."""
    with closing(sqlite3.connect(request["database"], isolation_level=None)) as connection:
        while connection.execute(runner.completed_query).fetchone()[0] < count:
            await asyncio.sleep(_POLL_SECONDS)
    return time.monotonic() - float(request["started"])


async def size(request: Request) -> Reply:
    """Runs sagas and sees how much the compacted database grew for each."""
    database, count = Path(request["database"]), request["count"]
    async with open_runner(request) as runner:

        async def run(saga_id: str) -> None:
            await runner.run(Case.COMPLETED, saga_id)

        await spread(run, count=_WARM_UP_SAGAS, prefix="warm")
        before = _compacted_bytes(database)
        await spread(run, count=count, prefix="sized")
        return {"bytes_per_saga": (_compacted_bytes(database) - before) / count}


def _compacted_bytes(database: Path) -> int:
    """What the database takes after VACUUM, which writes a copy and so disturbs nobody."""
    compact = database.with_suffix(".compact")
    compact.unlink(missing_ok=True)
    with closing(sqlite3.connect(database)) as connection:
        connection.execute("VACUUM INTO ?", (str(compact),))
    with closing(sqlite3.connect(compact)) as connection:
        pages = connection.execute("PRAGMA page_count").fetchone()[0]
        return int(pages) * int(connection.execute("PRAGMA page_size").fetchone()[0])


async def simulation(request: Request) -> Reply:
    """Plays simulated runs, and a check."""
    from benchmarks.simulation import rates, seconds_of_check

    # They have event loops of their own, and are not to be disturbed by this one.
    found = await asyncio.to_thread(rates, request["seconds"])
    return {"rates": found, "check_seconds": await asyncio.to_thread(seconds_of_check)}


TASKS: dict[str, Callable[[Request], Awaitable[Reply]]] = {
    task.__name__: task for task in (throughput, ceiling, tape, memory, block, recover, size, simulation)
}
