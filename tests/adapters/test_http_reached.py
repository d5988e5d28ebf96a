"""Whether a participant was reached at all: what circuit breakers, fallbacks and needless undos depend on."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager

import anyio
import pytest
from anyio.abc import SocketAttribute, SocketStream

from sagas import Breaker, Coordinator, Retry, Route, SagaCompensated, Worker, saga, step
from sagas.transport import StepReply, StepRequest
from sagas.worker import LocalTransport
from sagas_adapters.http import HttpTransport
from tests.support.servers.process import free_port

Handle = Callable[[SocketStream], Awaitable[None]]


@step(name="stock.reserve", remote=True, retry=Retry(attempts=4, initial=0.001))
async def reserve() -> str:
    raise AssertionError("it is only declared here")


@reserve.compensator(retry=Retry(attempts=1))
async def release() -> None:
    raise AssertionError("it is only declared here")


@saga
async def order() -> str:
    return await reserve()


async def _read(connection: SocketStream) -> None:
    received = b""
    while not received.endswith(b"{}"):
        received += await connection.receive()


def _answer(status: int, body: bytes = b"", kind: bytes = b"text/html") -> Handle:
    async def handle(connection: SocketStream) -> None:
        await _read(connection)
        head = b"HTTP/1.1 %d X\r\nContent-Type: %b\r\nContent-Length: %d\r\n\r\n" % (status, kind, len(body))
        await connection.send(head + body)

    return handle


@asynccontextmanager
async def _server(handle: Handle) -> AsyncGenerator[str]:
    """Does the same to each connection, and closes it; gives its URL."""

    async def serve(connection: SocketStream) -> None:
        async with connection:
            await handle(connection)

    listener = await anyio.create_tcp_listener(local_host="127.0.0.1")
    async with listener, anyio.create_task_group() as group:
        group.start_soon(listener.serve, serve)
        port = listener.extra(SocketAttribute.local_port)  # noqa: S610 - of anyio, not of Django
        yield f"http://127.0.0.1:{port}"
        group.cancel_scope.cancel()


async def _called(url: str) -> StepReply:
    transport = HttpTransport(url)
    try:
        return await transport.call(
            StepRequest(kind="action", step="stock.reserve", saga_id="s", path="1", idempotency_key="k")
        )
    finally:
        await transport.close()


async def test_who_is_not_there_was_not_reached() -> None:
    reply = await _called(f"http://127.0.0.1:{free_port()}")
    assert (reply.outcome, reply.reached) == ("failed", False)


@pytest.mark.parametrize(
    "handle", [_read, _answer(502), _answer(503), _answer(504)], ids=["closes", "502", "503", "504"]
)
async def test_who_does_not_answer_or_is_answered_for_was_not_reached(
    handle: Handle,
) -> None:
    async with _server(handle) as url:
        reply = await _called(url)
    assert (reply.outcome, reply.reached) == ("in_doubt", False)


@pytest.mark.parametrize("handle", [_answer(500, b"oops"), _answer(404)], ids=["500", "404"])
async def test_who_answers_was_reached(handle: Handle) -> None:
    async with _server(handle) as url:
        assert (await _called(url)).reached


async def test_a_breaker_leaves_a_server_alone_that_takes_requests_and_does_not_answer() -> None:
    """As a proxy does whose server is away. So the attempts of a step are not used up within an instant."""
    taken: list[int] = []

    async def take(connection: SocketStream) -> None:
        await _read(connection)
        taken.append(1)

    async with _server(take) as url:
        route = Route(HttpTransport(url), breaker=Breaker(failures=2, reset=60.0))
        async with Coordinator(
            "memory:", sagas=[order], routes={"stock.*": route}, shutdown_timeout=0.0
        ) as coordinator:
            with anyio.move_on_after(1.0) as scope:  # the pauses between attempts are a thousand times shorter
                await coordinator.run(order())
    assert scope.cancelled_caught
    assert len(taken) == 2


async def test_a_fallback_is_taken_when_nobody_listens_at_the_first_way() -> None:
    @step(name="stock.reserve")
    async def reserve_here() -> str:
        return "reserved"

    async with Worker([reserve_here], inbox="memory:") as worker:
        route = Route(HttpTransport(f"http://127.0.0.1:{free_port()}"), fallback=LocalTransport(worker))
        async with Coordinator("memory:", sagas=[order], routes={"stock.*": route}) as coordinator:
            assert await coordinator.run(order()) == "reserved"


async def test_what_nobody_listened_to_needs_no_undo() -> None:
    """So that a participant which is down does not leave the saga stuck."""
    route = Route(HttpTransport(f"http://127.0.0.1:{free_port()}"), breaker=None)
    async with Coordinator("memory:", sagas=[order], routes={"stock.*": route}) as coordinator:
        with pytest.raises(SagaCompensated):
            await coordinator.run(order(), id="s")
        (seen,) = (await coordinator.get("s")).steps
    assert seen.undo_attempts == ()
