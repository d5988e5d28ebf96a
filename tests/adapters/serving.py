"""Real servers for the tests, on loopback: uvicorn in a thread, hypercorn under trio, and sockets that misbehave."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import AsyncGenerator, Callable, Generator, Iterable
from contextlib import asynccontextmanager, contextmanager
from typing import Any

import anyio
import uvicorn

from sagas.core.definitions import Step
from sagas.transport import Beat, StepReply, StepRequest
from sagas.worker import Worker
from sagas_adapters.http.jobs import spawn

__all__ = ["LocalParticipant", "free_port", "misbehaving", "raw_exchange", "serving", "serving_on_trio"]


class LocalParticipant:
    """A worker that lives as long as the event loop of its server; notes what it was asked for."""

    def __init__(self, steps: Iterable[Step[..., Any]], inbox: str = "memory:") -> None:
        declared = list(steps)
        self.steps = frozenset(step.name for step in declared)
        self.requests: list[StepRequest] = []
        self._declared, self._inbox = declared, inbox
        self._worker: Worker | None = None
        self._ready: anyio.Event | None = None

    async def perform(self, request: StepRequest, *, beat: Beat | None = None) -> StepReply:
        self.requests.append(request)
        if self._ready is None:
            self._ready = anyio.Event()
            spawn(self._live)
        await self._ready.wait()
        assert self._worker is not None
        return await self._worker.perform(request, beat=beat)

    async def _live(self) -> None:
        assert self._ready is not None
        # It belongs to the event loop in which it is made, and that is the server's.
        async with Worker(self._declared, inbox=self._inbox, shutdown_timeout=0.0) as self._worker:
            self._ready.set()
            await anyio.sleep_forever()


def _listening() -> socket.socket:
    listener = socket.socket()
    listener.bind(("127.0.0.1", 0))
    listener.listen(512)  # from here on connections wait, so that nobody has to wait for the server
    return listener


def free_port() -> int:
    """A port at which nobody listens."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def serving(app: Any, **options: Any) -> Generator[str]:
    """Runs an ASGI app in uvicorn, in a thread with an event loop of its own; gives its URL."""
    listener = _listening()
    config = uvicorn.Config(
        app, log_level="critical", access_log=False, timeout_graceful_shutdown=1, ws="none", **options
    )
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
    thread.start()
    try:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join()
        listener.close()


@asynccontextmanager
async def serving_on_trio(app: Any) -> AsyncGenerator[str]:
    """Runs an ASGI app in hypercorn, in this event loop, which is trio's; gives its URL."""
    import hypercorn
    import hypercorn.trio
    import trio

    config = hypercorn.Config()
    config.bind = ["127.0.0.1:0"]
    config.graceful_timeout = 0.1
    over = trio.Event()
    async with trio.open_nursery() as nursery:
        binds = await nursery.start(lambda task_status: hypercorn.trio.serve(
            app, config, shutdown_trigger=over.wait, task_status=task_status
        ))  # fmt: skip
        yield binds[0]
        over.set()
        nursery.cancel_scope.cancel()


@contextmanager
def misbehaving(handle: Callable[[socket.socket], None]) -> Generator[str]:
    """Runs a server that does to each connection whatever the test wants; gives its URL."""
    listener = _listening()

    def accept() -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            with connection, contextlib.suppress(OSError):
                handle(connection)

    thread = threading.Thread(target=accept)
    thread.start()
    try:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        thread.join()


async def raw_exchange(url: str, sent: bytes) -> bytes:
    """Sends bytes to a server, and gives what it answers until it closes the connection."""
    host, _, port = url.removeprefix("http://").partition(":")
    received = b""
    async with await anyio.connect_tcp(host, int(port)) as stream:
        with contextlib.suppress(anyio.BrokenResourceError, anyio.EndOfStream, anyio.ClosedResourceError):
            await stream.send(sent)
            await stream.send_eof()
        with contextlib.suppress(anyio.BrokenResourceError, anyio.EndOfStream):
            while True:
                received += await stream.receive()
    return received
