"""What a transport makes of servers and networks that misbehave, and of its own options."""

from __future__ import annotations

import contextlib
import gzip
import multiprocessing
import os
import signal
import socket
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import anyio
import httpx
import httpx2
import pytest

from sagas.errors import DeclarationError, MessageTooLarge, TransportClosed
from sagas.testing.contracts import Participant
from sagas.transport import Beat, StepReply, StepRequest
from sagas_adapters.http import HttpTransport, participant_app
from sagas_adapters.http.library import ClientPool
from tests.adapters.serving import LocalParticipant, free_port, misbehaving, serving

PATIENCE = 30.0


def action(key: str = "k", step: str = "reserve", **more: Any) -> StepRequest:
    return StepRequest(
        kind="action", step=step, saga_id="s", path="1", idempotency_key=key, arguments=b'{"item":"lamp"}', **more
    )


def answering(*answers: bytes, before: Callable[[], None] = lambda: None) -> Callable[[socket.socket], None]:
    """A server that reads a request and sends what it was given, each connection the next."""
    left = list(answers)

    def handle(connection: socket.socket) -> None:
        _request(connection)
        before()
        connection.sendall(left.pop(0) if len(left) > 1 else left[0])

    return handle


def _request(connection: socket.socket) -> bytes:
    """Reads a request to its end."""
    received = b""
    while b"\r\n\r\n" not in received:
        received += _more(connection)
    head, _, body = received.partition(b"\r\n\r\n")
    length = next((int(line[15:]) for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:")), 0)
    while len(body) < length:
        body += _more(connection)
    return head + body


def _more(connection: socket.socket) -> bytes:
    """Reads what is there; ends the connection if that is over."""
    received = connection.recv(65536)
    if not received:
        raise OSError("the client is gone")
    return received


def response(status: int, body: bytes = b"", **headers: str) -> bytes:
    """An answer, after which the connection ends."""
    lines = [f"HTTP/1.1 {status} X", f"Content-Length: {len(body)}", "Connection: close"]
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


async def called(url: str, request: StepRequest | None = None, **options: Any) -> StepReply:
    transport = HttpTransport(url, **options)
    try:
        with anyio.fail_after(PATIENCE):
            return await transport.call(request or action())
    finally:
        await transport.close()


# --- what cannot have arrived ----------------------------------------------------------------------------------------


async def test_who_is_not_there_has_not_acted() -> None:
    reply = await called(f"http://127.0.0.1:{free_port()}")
    assert (reply.outcome, reply.reached) == ("failed", False)
    assert reply.error is not None
    assert "/steps/reserve" in reply.error.message


async def test_a_name_that_nobody_has_has_not_acted() -> None:
    assert (await called("http://no-such-host.invalid")).outcome == "failed"


async def test_what_tls_does_not_let_through_has_not_acted() -> None:
    """The other end speaks plain HTTP."""

    def plain(connection: socket.socket) -> None:
        connection.recv(65536)
        connection.sendall(response(400))

    with misbehaving(plain) as url:
        assert (await called(url.replace("http:", "https:"))).outcome == "failed"


async def test_no_connection_to_spare_is_a_failure_and_no_doubt() -> None:
    held, release = threading.Event(), threading.Event()

    def hold(connection: socket.socket) -> None:
        _request(connection)
        held.set()
        release.wait(PATIENCE)

    with misbehaving(hold) as url:
        transport = HttpTransport(url, max_connections=1, timeout=0.5, poll=0.1)
        replies: list[StepReply] = []

        async def call(request: StepRequest) -> None:
            replies.append(await transport.call(request))

        async with anyio.create_task_group() as group:
            group.start_soon(call, action("a", deadline=time.time() + 60))
            await anyio.to_thread.run_sync(held.wait)
            await call(action("b", deadline=time.time() + 0.2))
            release.set()
        await transport.close()
    assert [reply.outcome for reply in replies] == ["failed", "in_doubt"]


async def test_nothing_is_sent_after_its_deadline() -> None:
    with misbehaving(answering(response(200, b"1", content_type="application/json"))) as url:
        reply = await called(url, action(deadline=time.time() - 1))
    assert reply.outcome == "failed"
    assert reply.error is not None
    assert "before it was sent" in reply.error.message


@pytest.mark.parametrize("wrong", [{"headers": {"x-a": "b\r\nx: y"}}, {"key": "\ud800"}])
async def test_what_cannot_be_written_fails(wrong: dict[str, Any]) -> None:
    with misbehaving(answering(response(200, b"1", content_type="application/json"))) as url:
        reply = await called(url, action(**wrong))
    assert (reply.outcome, reply.reached) == ("failed", False)


# --- what may have arrived -------------------------------------------------------------------------------------------


def _reset(connection: socket.socket) -> None:
    _request(connection)
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")


@pytest.mark.parametrize(
    "handle",
    [
        pytest.param(lambda connection: _request(connection) and None, id="closes"),
        pytest.param(_reset, id="resets"),
        pytest.param(answering(b"HTTP/1.1 200 OK\r\nContent-Length: 50\r\n\r\n{"), id="half a body"),
        pytest.param(answering(b"HTTP/1.1 200 OK\r\nContent-Le"), id="half a head"),
        pytest.param(answering(b"220 mail.example ESMTP\r\n"), id="no HTTP"),
        pytest.param(answering(response(200, b"x" * 2000, content_type="application/json")), id="too large"),
        pytest.param(answering(response(302, location="http://elsewhere.invalid/")), id="redirects"),
        pytest.param(
            answering(response(202, b"{}", location="http://elsewhere.invalid/requests/1")), id="promises elsewhere"
        ),
    ],
)
async def test_whatever_goes_wrong_after_the_request_leaves_it_in_doubt(handle: Callable[[Any], None]) -> None:
    with misbehaving(handle) as url:
        reply = await called(url, max_answer=1000)
    assert reply.outcome == "in_doubt"
    assert reply.error is not None
    assert reply.error.message


async def test_silence_leaves_it_in_doubt() -> None:
    release = threading.Event()

    def wait() -> None:
        release.wait(PATIENCE)

    with misbehaving(answering(response(200), before=wait)) as url:
        reply = await called(url, timeout=1.0, poll=0.5)  # on a busy machine, a connection takes a while too
        release.set()
    assert reply.outcome == "in_doubt"
    assert reply.error is not None
    assert "no answer within 1 s" in reply.error.message


def _child(ready: Any) -> None:
    """A participant that is killed while it is at work."""
    listener = socket.socket()
    listener.bind(("127.0.0.1", 0))
    listener.listen()
    ready.send(listener.getsockname()[1])
    connection, _ = listener.accept()
    _request(connection)
    ready.send("at work")
    signal.pause()


async def test_a_participant_that_is_killed_at_work_leaves_it_in_doubt() -> None:
    ours, theirs = multiprocessing.Pipe()
    process = multiprocessing.get_context("spawn").Process(target=_child, args=(theirs,))
    process.start()
    port = await anyio.to_thread.run_sync(ours.recv)
    replies: list[StepReply] = []

    async def call() -> None:
        replies.append(await called(f"http://127.0.0.1:{port}"))

    async with anyio.create_task_group() as group:
        group.start_soon(call)
        assert await anyio.to_thread.run_sync(ours.recv) == "at work"
        os.kill(process.pid or 0, signal.SIGKILL)
    process.join()
    assert replies[0].outcome == "in_doubt"


async def test_a_redirect_is_named_with_its_target() -> None:
    with misbehaving(answering(response(308, location="https://moved.example/sagas"))) as url:
        reply = await called(url)
    assert reply.error is not None
    assert "a redirect to https://moved.example/sagas, which is not followed" in reply.error.message


async def test_what_nobody_asked_to_be_compressed_is_not_unpacked() -> None:
    """It could be a thousand times as large."""
    bomb = gzip.compress(b'"' + b"x" * 5_000 + b'"')
    packed = response(200, bomb, content_type="application/json", content_encoding="gzip")
    with misbehaving(answering(packed)) as url:
        reply = await called(url)
    assert reply.outcome == "in_doubt"
    assert reply.error is not None
    assert "compressed (gzip)" in reply.error.message


async def test_what_the_participant_would_not_take_is_not_sent() -> None:
    sent: list[bytes] = []
    large = replace(action(), arguments=b'{"item":"' + b"x" * 1000 + b'"}')
    with (
        misbehaving(lambda connection: sent.append(_request(connection))) as url,
        pytest.raises(MessageTooLarge, match="takes 1000"),
    ):
        await called(url, large, max_body=1000)
    assert sent == []


# --- what is told ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("status", "outcome", "seconds"), [(429, "failed", 7.0), (503, "in_doubt", 7.0), (408, "in_doubt", 7.0)]
)
async def test_retry_after_is_passed_on(status: int, outcome: str, seconds: float) -> None:
    with misbehaving(answering(response(status, b"no", retry_after="7"))) as url:
        reply = await called(url)
    assert (reply.outcome, reply.retry_after) == (outcome, seconds)


@pytest.mark.parametrize(
    ("told", "seconds"),
    [("0", 0.0), ("999999999999", 3600.0), ("9" * 400, 3600.0), ("Fri, 31 Dec 9999 23:59:59 GMT", 3600.0),
     ("Thu, 01 Jan 1970 00:00:00 GMT", 0.0), ("-5", None), ("nan", None), ("1e3", None), ("soon", None), ("", None)],
)  # fmt: skip
async def test_nobody_has_to_wait_for_years(told: str, seconds: float | None) -> None:
    with misbehaving(answering(response(503, b"no", retry_after=told))) as url:
        assert (await called(url)).retry_after == seconds


async def test_a_participant_in_another_language_is_polled_at_its_own_pace() -> None:
    """It answers at once, promises an absolute path, and knows nothing of long polling."""
    promised = response(202, b"", location="/jobs/7?x=1", retry_after="0")
    done = response(200, b'"done"', content_type="application/json")
    with misbehaving(answering(promised, response(202), response(503, b"busy", retry_after="0"), done)) as url:
        assert await called(url) == StepReply.succeeded(b'"done"')


async def test_what_a_poll_cannot_find_out_is_in_doubt() -> None:
    """Though the same answer to the action itself would say that it was not begun."""
    promised = response(202, b"", location="/jobs/7", retry_after="0")
    for answer in (response(404, b"?"), response(401, b"?"), response(500, b"?")):
        with misbehaving(answering(promised, answer)) as url:
            assert (await called(url)).outcome == "in_doubt"


async def test_a_promise_that_is_forgotten_is_asked_for_with_the_same_key() -> None:
    """The participant was started anew."""
    promised = response(202, b"", location="/jobs/7", retry_after="0")
    problem = b'{"type":"urn:sagas:problem:unknown-request","detail":"?"}'
    forgotten = response(404, problem, content_type="application/problem+json")
    done = response(200, b"1", content_type="application/json")
    with misbehaving(answering(promised, forgotten, done)) as url:
        assert await called(url) == StepReply.succeeded(b"1")
    refused = response(503, b'{"type":"urn:sagas:problem:busy","detail":"x"}', content_type="application/problem+json")
    with misbehaving(answering(promised, forgotten, refused)) as url:
        assert (await called(url)).outcome == "in_doubt"


async def test_what_is_still_at_work_at_its_deadline_is_in_doubt() -> None:
    with misbehaving(answering(response(202, b"", location="/jobs/7", retry_after="0"))) as url:
        reply = await called(url, action(deadline=time.time() + 1.0))
    assert reply.outcome == "in_doubt"


# --- signs of life ---------------------------------------------------------------------------------------------------


class Beating:
    """A participant whose step gives signs of life until it has been heard."""

    steps = ("reserve",)

    def __init__(self) -> None:
        self.heard = threading.Event()

    async def perform(self, request: StepRequest, *, beat: Beat | None = None) -> StepReply:
        while not self.heard.is_set():
            assert beat is not None
            beat()
            await anyio.sleep(0.005)
        return StepReply.succeeded(b"1")


async def test_signs_of_life_come_through() -> None:
    beating, heard = Beating(), list[float]()

    def beat() -> None:
        heard.append(time.monotonic())
        if len(heard) == 3:
            beating.heard.set()

    with serving(participant_app(beating)) as url:
        transport = HttpTransport(url)
        with anyio.fail_after(PATIENCE):
            assert await transport.call(action(), beat=beat) == StepReply.succeeded(b"1")
        await transport.close()
    assert len(heard) in {3, 4}
    assert heard[2] - heard[0] > 0.3, "however many there are, they are not each worth an answer"


async def test_who_gives_no_sign_of_life_is_not_said_to() -> None:
    heard: list[None] = []
    promised = response(202, b"", location="/jobs/7", retry_after="0")
    done = response(200, b"1", content_type="application/json")
    with misbehaving(answering(promised, promised, done)) as url:
        transport = HttpTransport(url)
        assert await transport.call(action(), beat=lambda: heard.append(None)) == StepReply.succeeded(b"1")
        await transport.close()
    assert heard == []


# --- its own options -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("library", [httpx, httpx2])
async def test_a_client_of_one_s_own_brings_its_headers_and_stays_open(library: Any) -> None:
    shelf = Participant()
    participant = LocalParticipant(shelf.steps)
    with serving(participant_app(participant)) as url:
        async with library.AsyncClient(headers={"x-tenant": "7", "authorization": "secret"}) as client:
            for key in ("a", "b"):
                transport = HttpTransport(url, client=client)
                assert (await transport.call(action(key))).outcome == "succeeded"
                await transport.close()
                assert not client.is_closed
    assert [request.headers.get("x-tenant") for request in participant.requests] == ["7", "7"]


async def test_a_closed_transport_closes_its_own_connections() -> None:
    shelf = Participant()
    with serving(participant_app(LocalParticipant(shelf.steps))) as url:
        transport = HttpTransport(url)
        await transport.call(action())
        await transport.close()
        with pytest.raises(TransportClosed, match="closed"):
            await transport.call(action())


@pytest.mark.parametrize(
    ("url", "options"),
    [("ftp://x", {}), ("payments:8000", {}), ("http://", {}), ("http://x?y=1", {}), ("http://x", {"timeout": 0}),
     ("http://x", {"poll": 40}), ("http://x", {"max_connections": 0}), ("http://x", {"max_body": 0})],
)  # fmt: skip
def test_options_that_make_no_sense_are_refused(url: str, options: dict[str, Any]) -> None:
    with pytest.raises(DeclarationError, match="HttpTransport"):
        HttpTransport(url, **options)


async def test_a_pool_shares_connections_out_and_uses_them_again() -> None:
    pool = ClientPool(70)
    with contextlib.ExitStack() as stack:
        clients = [stack.enter_context(pool.borrow()) for _ in range(70)]
        assert sorted(map(clients.count, set(clients))) == [23, 23, 24]
        with pool.borrow() as another:
            assert another in clients
    with pool.borrow() as first:
        assert first is clients[0]
    await pool.aclose()


async def test_a_missing_library_is_named_with_its_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    from sagas_adapters.http.library import library

    library.cache_clear()
    monkeypatch.setitem(sys.modules, "httpx2", None)
    with monkeypatch.context() as patch:
        patch.setitem(sys.modules, "httpx", None)
        reply = await called("http://127.0.0.1:9")
        assert reply.error is not None
        assert "pip install 'sagakit[http]'" in reply.error.message
    assert library().__name__ == "httpx"
    library.cache_clear()
