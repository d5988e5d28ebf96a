"""Steps a second over HTTP, beside the same client and server used bare: ``python -m benchmarks.http_steps``.

The server is a process of its own. ``echo`` reads a body and answers with it, in raw ASGI; ``participant`` performs a
step that does nothing, behind the barrier of a worker. ``bare`` calls the echo, ``steps`` the participant through a
client that is made the same way, ``own`` through the clients that a transport makes for itself, ``signed`` likewise and
with signatures. A round measures one after the other, in turns; each ratio, to the bare echo, is the median of those of
the rounds.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable
from itertools import count
from statistics import median
from typing import Any

import anyio

from sagas import step
from sagas.transport import StepRequest
from sagas.worker import Worker
from sagas_adapters.http import HttpTransport, Signing, participant_app
from sagas_adapters.http.library import own_client

_KEY = b"benchmark" * 4


@step(name="nothing")
async def nothing(item: str) -> str:
    """Does nothing."""
    return item


def _participant(inbox: str, **options: Any) -> Any:
    """Makes an app that performs steps, as long as it is served."""
    worker = Worker([nothing], inbox=inbox)
    app = participant_app(worker, **options)

    async def served(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "lifespan":
            async with worker:
                await app(scope, receive, send)
        else:
            await app(scope, receive, send)

    return served


async def _echo(scope: Any, receive: Any, send: Any) -> None:
    """Answers with the body."""
    if scope["type"] != "http":
        raise RuntimeError("it has no lifespan")
    message = await receive()
    headers = [(b"content-type", b"application/json")]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": message["body"]})


def _serve(what: str, inbox: str) -> None:
    """Runs a server until it is ended; prints its port."""
    import socket

    import uvicorn

    listener = socket.socket()
    listener.bind(("127.0.0.1", 0))
    listener.listen(1024)
    apps: dict[str, Callable[[], Any]] = {
        "echo": lambda: _echo,
        "participant": lambda: _participant(inbox),
        "signed": lambda: _participant(inbox, sign=Signing(_KEY)),
    }
    config = uvicorn.Config(apps[what](), log_level="critical", access_log=False, ws="none")
    print(listener.getsockname()[1], flush=True)
    uvicorn.Server(config).run(sockets=[listener])


async def _window(call: Callable[[], Awaitable[None]], clients: int, seconds: float) -> float:
    """Gives calls a second, with so many clients that each call again once they are answered."""
    done = 0
    end = time.perf_counter() + seconds

    async def client() -> None:
        nonlocal done
        while time.perf_counter() < end:
            await call()
            done += 1

    started = time.perf_counter()
    async with anyio.create_task_group() as group:
        for _ in range(clients):
            group.start_soon(client)
    return done / (time.perf_counter() - started)


def _bare(client: Any, url: str) -> Callable[[], Awaitable[None]]:
    """Calls the echo."""

    async def call() -> None:
        response = await client.post(url, content=b'{"item":"lamp"}', headers={"content-type": "application/json"})
        assert response.content == b'{"item":"lamp"}'

    return call


def _step(transport: HttpTransport) -> Callable[[], Awaitable[None]]:
    """Calls the participant, with another key each time."""
    numbers = count()

    async def call() -> None:
        key = f"order-{next(numbers)}:3"
        request = StepRequest(
            kind="action", step="nothing", saga_id=key, path="3", idempotency_key=key, arguments=b'{"item":"lamp"}',
            deadline=time.time() + 30.0, headers={"traceparent": "00-" + "a" * 32 + "-" + "b" * 16 + "-01"},
        )  # fmt: skip
        reply = await transport.call(request)
        assert reply.payload == b'"lamp"', reply

    return call


async def _measure(ports: dict[str, int], seconds: float, rounds: int) -> None:
    """Prints the table."""
    # One each, since a client looks through all of its connections, also those that another one of these has left idle.
    clients = [own_client(max_connections=512) for _ in range(2)]
    urls = {name: f"http://127.0.0.1:{port}" for name, port in ports.items()}
    calls = {
        "bare": _bare(clients[0], urls["echo"] + "/echo"),
        "steps": _step(HttpTransport(urls["participant"], client=clients[1])),
        "own": _step(HttpTransport(urls["participant"])),
        "signed": _step(HttpTransport(urls["signed"], sign=Signing(_KEY))),
    }
    for call in calls.values():
        await _window(call, 256, 0.5)
    print(f"{'side by side':>12}" + "".join(f"{name + '/s':>10}{'':>6}" for name in calls))
    for callers in (1, 32, 256):
        found: dict[str, list[float]] = {name: [] for name in calls}
        for _ in range(rounds):
            for name, call in calls.items():
                found[name].append(await _window(call, callers, seconds))
        ratios = [median(mine / bare for mine, bare in zip(found[name], found["bare"], strict=True)) for name in calls]
        cells = (f"{median(found[name]):>10,.0f}{ratio:>6.0%}" for name, ratio in zip(calls, ratios, strict=True))
        print(f"{callers:>12}" + "".join(cells))
    for client in clients:
        await client.aclose()


def main() -> None:
    """Starts the servers, and measures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--serve", help=argparse.SUPPRESS)
    parser.add_argument("--inbox", default="memory:", help="where the participant remembers, such as sqlite:///in.db")
    parser.add_argument("--seconds", type=float, default=3.0)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    if options.serve:
        _serve(options.serve, options.inbox)
        return
    command = (sys.executable, "-m", "benchmarks.http_steps", "--inbox", options.inbox)
    servers = {
        name: subprocess.Popen([*command, "--serve", name], stdout=subprocess.PIPE)
        for name in ("echo", "participant", "signed")
    }
    try:
        ports = {name: int((server.stdout or sys.stdin.buffer).readline()) for name, server in servers.items()}
        anyio.run(_measure, ports, options.seconds, options.rounds)
    finally:
        for server in servers.values():
            server.kill()
            server.wait()


if __name__ == "__main__":
    main()
