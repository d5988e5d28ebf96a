"""Answers that come by themselves: to where they may, and once they are believed."""

from __future__ import annotations

import socket
import threading
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any

import anyio
import httpx2
import pytest
import uvicorn

from sagas.core.events import ErrorInfo
from sagas.errors import DeclarationError
from sagas.transport import Beat, StepReply, StepRequest
from sagas_adapters.http import Callbacks, HttpTransport, Signing, participant_app
from sagas_adapters.http.callbacks import Caller
from tests.adapters.serving import serving

KEY, OTHER = b"k" * 32, b"o" * 32
LONG = StepRequest(kind="action", step="wait", saga_id="s", path="1", idempotency_key="k")


class Held:
    """A participant whose step ends when it is let."""

    steps = ("wait",)

    def __init__(self, reply: StepReply) -> None:
        self.go = threading.Event()
        self._reply = reply

    async def perform(self, request: StepRequest, *, beat: Beat | None = None) -> StepReply:
        while not self.go.is_set():  # noqa: ASYNC110 - it is set from another thread
            await anyio.sleep(0.005)
        return self._reply


class Gate:
    """An ASGI app before another: counts what came, and lets it through or loses it."""

    def __init__(self, app: Any, *, lose: bool = False) -> None:
        self.statuses: list[int] = []
        self._app, self._lose = app, lose

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        async def noting(message: Any) -> None:
            if message["type"] == "http.response.start":
                self.statuses.append(message["status"])
            await send(message)

        if self._lose and scope["type"] == "http":
            self.statuses.append(0)
            await send({"type": "http.response.start", "status": 200, "headers": []})
            await send({"type": "http.response.body"})
        else:
            await self._app(scope, receive, noting)


@asynccontextmanager
async def _asgi_in_this_loop(app: Any) -> AsyncGenerator[str]:
    """Serves an app in the event loop of the caller, as the coordinator's service does."""
    listener = socket.socket()
    listener.bind(("127.0.0.1", 0))
    listener.listen()
    server = uvicorn.Server(uvicorn.Config(app, log_level="critical", lifespan="off", ws="none"))
    async with anyio.create_task_group() as group:
        group.start_soon(server._serve, [listener])  # noqa: SLF001 - `serve` takes over the signals too
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        server.should_exit = True


async def _called(held: Held, gate_options: dict[str, Any], **options: Any) -> tuple[StepReply, Gate]:
    """Calls a step that takes long, with a place for its answer; lets it end when it was promised."""
    sign: Signing | None = options.pop("sign", None)
    gates: list[Gate] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await gates[0](scope, receive, send)

    async with _asgi_in_this_loop(app) as here:
        callbacks = Callbacks(f"{here}/saga-callbacks", sign=sign)

        async def mounted(scope: Any, receive: Any, send: Any) -> None:
            await callbacks.app({**scope, "root_path": "/saga-callbacks"}, receive, send)

        gates.append(Gate(mounted, **gate_options))
        allowed = options.pop("allowed", f"{here}/saga-callbacks")
        server_sign = options.pop("server_sign", sign)
        with serving(participant_app(held, sign=server_sign, callbacks_allowed=[allowed])) as url:
            transport = HttpTransport(url, callbacks=callbacks, sign=server_sign, timeout=10.0, **options)

            async def let() -> None:
                await anyio.sleep(1.2)  # longer than the transport waits before it is called back
                held.go.set()

            replies: list[StepReply] = []
            async with anyio.create_task_group() as group:
                group.start_soon(let)
                replies.append(await transport.call(LONG))
            await transport.close()
            return replies[0], gates[0]


pytestmark = pytest.mark.parametrize("anyio_backend", ["asyncio"])

REJECTED = StepReply.rejected(ErrorInfo("shop:Declined", "no money", b'{"args":[],"attributes":{}}'))


@pytest.mark.parametrize("reply", [StepReply.succeeded(b'{"a": 1.0}'), REJECTED])
@pytest.mark.parametrize("sign", [None, Signing(KEY)])
async def test_an_answer_comes_by_itself(reply: StepReply, sign: Signing | None) -> None:
    got, gate = await _called(Held(reply), {}, sign=sign, poll=9.0)
    assert got == reply
    assert gate.statuses == [204]


async def test_an_answer_that_is_lost_is_asked_for() -> None:
    got, gate = await _called(Held(StepReply.succeeded(b"1")), {"lose": True}, poll=0.5)
    assert got == StepReply.succeeded(b"1")
    assert gate.statuses == [0]


async def test_an_answer_with_another_signature_is_not_believed() -> None:
    """It is asked for instead."""
    got, gate = await _called(
        Held(StepReply.succeeded(b"1")), {}, sign=Signing(KEY), server_sign=Signing(OTHER), poll=0.5
    )
    assert got == StepReply.succeeded(b"1")
    assert gate.statuses == [401]


async def test_a_place_that_is_not_allowed_is_not_called() -> None:
    got, gate = await _called(Held(StepReply.succeeded(b"1")), {}, allowed="https://elsewhere.example/", poll=0.5)
    assert got == StepReply.succeeded(b"1")
    assert gate.statuses == []


@pytest.mark.parametrize(
    ("url", "allowed"),
    [
        ("https://orders.example/saga-callbacks/x", True),
        ("https://orders.example:443/saga-callbacks/x/y", True),
        ("https://ORDERS.example/saga-callbacks", True),
        ("http://orders.example/saga-callbacks/x", False),
        ("https://orders.example/saga-callbacks-evil/x", False),
        ("https://orders.example/other", False),
        ("https://orders.example:8443/saga-callbacks/x", False),
        ("https://orders.example.evil.example/saga-callbacks/x", False),
        ("https://orders.example@evil.example/saga-callbacks/x", False),
        ("https://evil.example\\@orders.example/saga-callbacks/x", False),
        ("https://evil.example#@orders.example/saga-callbacks/x", False),
        ("https://orders.example/saga-callbacks/../admin", False),
        ("https://orders.example/saga-callbacks/%2e%2E/admin", False),
        ("https://orders.example/saga-callbacks/%252e%252e/admin", False),
        ("https://orders.example/saga-callbacks/..%2fadmin", False),
        ("https://orders.example/saga-callbacks/x?y", False),
        ("https://orders.example/saga-callbacks/x;y", False),
        ("https://orders.example/saga-callbacks/ x", False),
        ("https://orders.example/saga-callbacks/\r\nx", False),
        ("https://örders.example/saga-callbacks/x", False),
        ("https://[::1/saga-callbacks/x", False),
        ("https://orders.example:99999/saga-callbacks/x", False),
        ("file:///saga-callbacks/x", False),
        ("//orders.example/saga-callbacks/x", False),
        ("", False),
    ],
)
async def test_only_what_is_below_an_allowed_url_is_called(url: str, allowed: bool) -> None:
    assert Caller(["https://orders.example/saga-callbacks/"], None, None).allows(url) is allowed
    assert not Caller([], None, None).allows(url)


@pytest.mark.parametrize("url", ["orders.example", "https://a@b/c", "https://x/?y", "ftp://x"])
async def test_urls_that_make_no_sense_are_refused(url: str) -> None:
    with pytest.raises(DeclarationError):
        Caller([url], None, None)


async def test_nobody_else_s_answers_are_taken() -> None:
    callbacks = Callbacks("http://127.0.0.1/")
    with serving(callbacks.app) as url, callbacks.expect() as expected:
        number = expected.url.rsplit("/", 1)[1]
        assert httpx2.post(f"{url}/guess", content=b'{"status":200,"result":1}').status_code == 404
        assert httpx2.get(f"{url}/{number}").status_code == 405
        for wrong in (b"", b"[]", b'{"status":"200"}', b'{"status":2000}', b"{}"):
            assert httpx2.post(f"{url}/{number}", content=wrong).status_code == 400
        assert expected.answer is None


@pytest.mark.parametrize("url", ["orders.example", "https://", "https://x?y=1", "ftp://x"])
async def test_a_place_for_answers_is_a_url(url: str) -> None:
    with pytest.raises(DeclarationError, match="Callbacks"):
        Callbacks(url)
