"""Runs the console alone, with a client of its own and a server."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, Final

import anyio

from sagas.errors import DeclarationError
from sagas_adapters.console.app import console_app
from sagas_adapters.console.hosts import LOOPBACK, is_loopback

if TYPE_CHECKING:
    from collections.abc import Collection

    from sagas.coordinator import Client

__all__ = ["check_access", "serve_console"]

# Seconds that pages which follow something may keep a server that is to end.
_PATIENCE: Final = 1


def check_access(host: str, tokens: Collection[str], authenticate: object = None) -> None:
    """Refuses to let everybody in from everywhere.

    Raises:
        DeclarationError: Others than those on this machine could come in, and nobody would be asked who they are.
    """
    if not tokens and authenticate is None and not is_loopback(host):
        raise DeclarationError(
            f"at {host} others could reach the console, and nobody would ask who they are. Give a token (--token, "
            "tokens=), or stay at 127.0.0.1"
        )


async def serve_console(
    client: Client,
    *,
    host: str = "127.0.0.1",
    port: int = 8000,
    hosts: Collection[str] = (),
    started: Callable[[str], None] | None = None,
    **options: Any,
) -> None:
    """Serves the console until the process is told to end, with SIGINT or SIGTERM. Runs on asyncio or uvloop.

    Args:
        client: Whose sagas; entered here.
        host: Address to listen at.
        port: And its port; 0 for any that is free.
        hosts: See ``console_app``; by default this machine's own names, if it listens only there.
        started: Called with the console's URL when it can be used.
        options: Of ``console_app``.

    Raises:
        DeclarationError: See ``console_app``; or everybody could come in, or uvicorn is not installed.
        OSError: The address cannot be used.
    """
    check_access(host, options.get("tokens") or (), options.get("authenticate"))
    allowed = (*hosts, LOOPBACK) if is_loopback(host) else hosts
    app = console_app(client, hosts=allowed, **options)
    async with client, _listening(app, host, port) as (server, sockets):
        address = sockets[0].getsockname()
        if started is not None:
            started(f"http://{f'[{address[0]}]' if ':' in address[0] else address[0]}:{address[1]}/")
        await _serve(server, sockets)


async def _serve(server: Any, sockets: Any) -> None:
    """Serves until a signal comes. The server itself would end the process by it, with the client still open."""
    server.capture_signals = contextlib.nullcontext

    async def heed() -> None:
        with anyio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
            async for _ in signals:
                server.should_exit = True

    async def end() -> None:
        try:
            await anyio.sleep_forever()
        finally:
            server.should_exit = True

    async with anyio.create_task_group() as group:
        group.start_soon(end)
        if threading.current_thread() is threading.main_thread():
            group.start_soon(heed)
        with anyio.CancelScope(shield=True):  # it is ended in its own way
            await server.serve(sockets=sockets)
        group.cancel_scope.cancel()


@asynccontextmanager
async def _listening(app: Any, host: str, port: int) -> AsyncGenerator[tuple[Any, Any]]:
    """Makes a server, and what it listens at."""
    import socket

    try:
        import uvicorn
    except ModuleNotFoundError as error:
        raise DeclarationError(f"the console needs {error.name}: pip install 'sagakit[console]'") from error
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    config = uvicorn.Config(
        app, lifespan="off", log_level="warning", access_log=False, server_header=False, ws="none",
        timeout_graceful_shutdown=_PATIENCE,
    )  # fmt: skip
    with contextlib.closing(socket.create_server((host, port), family=family)) as listener:
        yield uvicorn.Server(config), [listener]
