"""What the two processes of each system do: one answers, one asks."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from benchmarks.model import Case
from benchmarks.remote.bare import bare
from benchmarks.remote.disk import open_disk
from benchmarks.remote.model import System
from benchmarks.tasks import Reply, Request
from benchmarks.workload import ORDERS, STEPS, closed_loop

__all__ = ["TASKS"]

_BODY = b'{"order":{"sku":"sku-1234","quantity":2,"amount_cents":4999,"accepted":true},"number":0}'
_ANSWER = b'{"reference":"sku-1234-0"}'


async def answer(request: Request) -> AsyncGenerator[Reply, Any]:
    """Is the worker: says where it can be asked, and works until it is killed."""
    async with _answering(request) as at:
        while True:
            yield {"at": at}


@asynccontextmanager
async def _answering(request: Request) -> AsyncIterator[str]:
    """Opens the worker of a system."""
    way, url, system = request["way"], request["url"], System(request["system"])
    prefix, database = request["prefix"], Path(request["database"])
    if system.is_bare:
        async with open_disk(database, grouped=system is System.GROUPED) as write:

            async def handle(body: bytes) -> bytes:
                await write("note", body.decode())
                return _ANSWER

            async with bare(way).answering(url, prefix, handle) as at:
                yield at
        return
    from benchmarks.remote.answered import SERVED
    from benchmarks.remote.ways import serve
    from sagas.worker import Worker

    async with open_disk(database, grouped=False):
        pass  # the table of the steps
    async with Worker(SERVED, inbox=f"sqlite:///{database}") as worker, serve(way, url, prefix, worker) as at:
        yield at


async def ask(request: Request) -> AsyncGenerator[Reply, Any]:
    """Is the coordinator: measures a closed loop each time when it is told so."""
    async with _asking(request) as run:
        number, order = 0, (yield {})
        while True:
            number += 1
            timing = await closed_loop(
                run, concurrency=order["clients"], seconds=order["seconds"], prefix=f"{request['prefix']}-{number}"
            )
            order = yield {
                "count": len(timing.latencies), "per_second": timing.per_second,
                "p50_ms": timing.percentile(50), "p99_ms": timing.percentile(99),
            }  # fmt: skip


@asynccontextmanager
async def _asking(request: Request) -> AsyncIterator[Callable[[str], Awaitable[None]]]:
    """Opens the coordinator of a system; gives what runs a saga, or as many round trips as it has."""
    way, at, system = request["way"], request["at"], System(request["system"])
    prefix, database = request["prefix"], Path(request["database"])
    if system.is_bare:
        async with (
            open_disk(database, grouped=system is System.GROUPED) as write,
            bare(way).asking(at, prefix) as send,
        ):

            async def trips(name: str) -> None:
                for _ in range(STEPS):
                    answered = await send(_BODY)
                    await write(name, answered.decode())

            yield trips
        return
    from benchmarks.remote.asked import plain_saga, written_saga
    from benchmarks.remote.ways import transport
    from sagas import Coordinator

    body = written_saga if system is System.WRITTEN else plain_saga
    routes = {"remote.*": transport(way, at, prefix)}
    async with Coordinator(f"sqlite:///{database}", sagas=[plain_saga, written_saga], routes=routes) as coordinator:

        async def run(name: str) -> None:
            await coordinator.run(body(ORDERS[Case.COMPLETED]), id=name)

        yield run


async def barrier(request: Request) -> AsyncGenerator[Reply, Any]:
    """Is a worker that is called within its own process, with its inbox and without."""
    from benchmarks.remote.barrier import opened

    async with opened(Path(request["database"])) as rates:
        order = yield {}
        while True:
            order = yield {"per_second": await rates(**order)}


TASKS: dict[str, Callable[[Request], AsyncGenerator[Reply, Any]]] = {
    task.__name__: task for task in (answer, ask, barrier)
}
