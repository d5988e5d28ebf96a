"""What a child process does on PostgreSQL: one measurement of one system, or one process of a fleet."""

from __future__ import annotations

import asyncio
import resource
import sys
import time
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import TYPE_CHECKING, Any

from benchmarks import workload
from benchmarks.model import Case, SystemName
from benchmarks.tasks import Reply, Request, measure_windows
from benchmarks.workload import Timing, closed_loop, gate, spread

if TYPE_CHECKING:
    from benchmarks.systems.dbos_system import DbosWorkflows
    from benchmarks.systems.library import LibraryRunner

_WARM_UP_SAGAS = 50
_POLL_SECONDS = 0.01

_kept_open: list[object] = []


def _open_library(url: str, *, traced: bool = False) -> AbstractAsyncContextManager[LibraryRunner]:
    """This library; it is imported here, so that no other system pays for that."""
    from benchmarks.systems import library

    return library.open_traced_runner(url) if traced else library.open_runner(url)


@asynccontextmanager
async def _open_dbos(url: str) -> AsyncIterator[DbosWorkflows]:
    """DBOS, as it comes: a pool of 20 connections, and `LISTEN/NOTIFY`."""
    from benchmarks.systems import dbos_system

    dbos_system.launch(url)
    yield dbos_system.DbosWorkflows()


# --- throughput -------------------------------------------------------------------------------------------------


async def throughput(request: Request) -> Reply:
    """Runs the closed loop for each case and concurrency asked for."""
    url = request["url"]
    system = SystemName(request["system"])
    if system is SystemName.DBOS:
        async with _open_dbos(url) as dbos:
            return {"windows": await measure_windows(request, _loop(dbos.run)), "facts": {}}
    async with _open_library(url, traced=system is SystemName.TRACED) as runner:
        return {"windows": await measure_windows(request, _loop(runner.run)), "facts": await runner.facts()}


def _loop(run: Callable[[Case, str], Awaitable[None]]) -> Callable[[Case, int, float, str], Awaitable[Timing]]:
    async def measure(case: Case, clients: int, seconds: float, prefix: str) -> Timing:
        return await closed_loop(lambda name: run(case, name), concurrency=clients, seconds=seconds, prefix=prefix)

    return measure


async def bare(request: Request) -> Reply:
    """Has the library write one saga, and the bare driver as many of that kind as it can."""
    from benchmarks.postgres.bare import write_in_batches, write_in_groups, write_one_by_one

    writers = {SystemName.CEILING: write_in_groups, SystemName.BATCHES: write_in_batches}
    write = writers.get(request["system"], write_one_by_one)
    tape = await _tape(request["url"])

    async def run(_: Case, clients: int, seconds: float, prefix: str) -> Timing:
        return write(request["url"], tape, concurrency=clients, seconds=seconds, prefix=prefix)

    rows = sum(len(commit) for commit in tape.commits) - 1
    facts = {"commits": len(tape.commits), "rows": rows}
    return {"windows": await measure_windows(request, run), "facts": facts}


async def _tape(url: str) -> Any:
    """Runs one saga, and reads back what was written for it."""
    from benchmarks.postgres.server import connect
    from benchmarks.postgres.tape import Row, read_saga, read_tape

    before: list[Row] = []
    with connect(url) as connection:
        gate.visit = lambda: before.append(read_saga(connection, "taped-0000000"))
        async with _open_library(url) as runner:
            await runner.run(Case.COMPLETED, "taped-0000000")
        gate.visit = None
    return read_tape(url, before[0], "taped-0000000", effects=workload.STEPS)


async def fleet(request: Request) -> AsyncGenerator[Reply, Any]:
    """Is one process of several: warms up, waits for the others, and runs the closed loop."""
    async with _open_library(request["url"]) as runner:
        measure = _loop(runner.run)
        prefix = f"member{request['member']}"
        await measure(Case.COMPLETED, 8, 0.2, f"warm-{prefix}")
        yield {}
        begun = time.monotonic()
        timing = await measure(Case.COMPLETED, request["clients"], request["seconds"], prefix)
        yield {"count": len(timing.latencies), "begun": begun, "ended": begun + timing.elapsed}


# --- sagas that are there already -------------------------------------------------------------------------------


async def block(request: Request) -> Reply:
    """Starts sagas that stay in their third step, and returns when all are there."""
    gate.shut = True
    # Kept open on purpose, beyond this function: the process is killed while its sagas run.
    _kept_open.append(opened := _open_library(request["url"]))
    runner = await opened.__aenter__()
    await spread(runner.start, count=request["count"], prefix="open")
    while gate.arrived < request["count"]:
        await asyncio.sleep(_POLL_SECONDS)
    return {"hold": True}


async def serve(request: Request) -> AsyncGenerator[Reply, Any]:
    """Opens a coordinator and says how long that took; then runs what it is told to.

    `{"run": name}` runs one saga, `{"loop": seconds, "prefix": …}` the closed loop; the replies hold the peak of
    memory so far.
    """
    begun = time.monotonic()
    async with _open_library(request["url"]) as runner:
        order = yield {"begun": begun, "entered": time.monotonic() - begun}
        while True:
            if "run" in order:
                started = time.monotonic()
                await runner.run(Case.COMPLETED, order["run"])
                reply: Reply = {"seconds": time.monotonic() - started}
            elif "loop" in order:
                loop = _loop(runner.run)
                timing = await loop(Case.COMPLETED, order["clients"], order["loop"], order["prefix"])
                reply = {"count": len(timing.latencies), "per_second": timing.per_second}
            else:
                reply = {}
            order = yield reply | {"peak_bytes": _peak_bytes()}


async def write(request: Request) -> Reply:
    """Runs sagas to their end, or until they are parked."""
    async with _open_library(request["url"]) as runner:

        async def run(saga_id: str) -> None:
            await runner.run(Case.COMPLETED, saga_id)

        if request["parked"]:
            await spread(runner.park, count=request["count"], prefix=request["prefix"])
            while gate.arrived < request["count"]:
                await asyncio.sleep(_POLL_SECONDS)
        else:
            await spread(run, count=request["count"], prefix=request["prefix"])
    return {}  # the coordinator was left, so everything is written


def _peak_bytes() -> int:
    """The most memory that this process ever held."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


TASKS: dict[str, Callable[[Request], Any]] = {
    task.__name__: task for task in (throughput, bare, fleet, block, serve, write)
}
