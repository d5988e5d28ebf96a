"""The library's own ends of each way: what a worker serves, and the transport to it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib import import_module
from typing import TYPE_CHECKING

import anyio

from benchmarks.remote.web import serving

if TYPE_CHECKING:
    from sagas.transport import Queue, Transport
    from sagas.worker import Worker

__all__ = ["serve", "transport"]

_CONCURRENCY = 256


def _queue(way: str, url: str, name: str) -> Queue:
    """Makes a queue with the adapter's own settings."""
    adapter = import_module(f"sagas_adapters.{way}")
    queue: Queue = adapter.open_queue(url, queue=name, visibility=30.0, max_deliveries=5)
    return queue


@asynccontextmanager
async def serve(way: str, url: str, prefix: str, worker: Worker) -> AsyncIterator[str]:
    """Serves a worker's steps; gives where to ask."""
    if way == "http":
        from sagas_adapters.http import participant_app

        async with serving(participant_app(worker)) as at:
            yield at
        return
    async with anyio.create_task_group() as group:

        async def run() -> None:
            requests = _queue(way, url, f"{prefix}-requests")
            await worker.serve(requests, replies=lambda name: _queue(way, url, name), concurrency=_CONCURRENCY)

        group.start_soon(run)
        yield url
        group.cancel_scope.cancel()


def transport(way: str, url: str, prefix: str) -> Transport:
    """Gives what takes requests to the worker."""
    if way == "http":
        from sagas_adapters.http import HttpTransport

        return HttpTransport(url)
    from sagas.transport import QueueTransport

    return QueueTransport(_queue(way, url, f"{prefix}-requests"), _queue(way, url, f"{prefix}-replies"))
