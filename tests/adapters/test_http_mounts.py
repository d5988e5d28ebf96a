"""Wherever it is mounted, a participant is reached, whatever its steps are called."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from fastapi import FastAPI
from litestar import Litestar, asgi
from starlette.applications import Starlette
from starlette.routing import Mount

from sagas import step
from sagas.transport import StepReply, StepRequest
from sagas_adapters.http import HttpTransport, Signing, participant_app
from tests.adapters.serving import LocalParticipant, serving

KEY = b"k" * 32
NAMES = ["stock.reserve", "a/b", "..", ".", "undo", "steps", "größe", "50%", "a?b#c", "/undo", "x/", "steps/undo"]


def on_starlette(app: Any) -> Any:
    return Starlette(routes=[Mount("/in/here", app)])


def on_fastapi(app: Any) -> Any:
    outer, inner = FastAPI(), FastAPI()
    inner.mount("/here", app)
    outer.mount("/in", inner)
    return outer


def on_litestar(app: Any) -> Any:
    @asgi("/in/here", is_mount=True, copy_scope=True)
    async def mounted(scope: Any, receive: Any, send: Any) -> None:
        await app(scope, receive, send)

    return Litestar([mounted])


def at_steps(app: Any) -> Any:
    """At a path that looks like one of its own."""
    return Starlette(routes=[Mount("/steps", app)])


def declared(name: str) -> Any:
    @step(name=name)
    async def named(item: str) -> str:
        return name

    @named.compensator
    async def unnamed(item: str) -> None: ...

    return named


@pytest.mark.parametrize(
    ("mount", "prefix"),
    [(lambda app: app, ""), (on_starlette, "/in/here"), (on_fastapi, "/in/here"), (on_litestar, "/in/here"),
     (at_steps, "/steps")],
    ids=["alone", "starlette", "fastapi", "litestar", "steps"],
)  # fmt: skip
@pytest.mark.parametrize("wait", [30.0, 0.000001], ids=["at once", "by polls"])
@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_steps_with_any_name_are_reached_wherever_they_are(
    mount: Callable[[Any], Any], prefix: str, wait: float
) -> None:
    app = participant_app(LocalParticipant(map(declared, NAMES)), sign=Signing(KEY), wait=wait)
    with serving(mount(app)) as url:
        transport = HttpTransport(url + prefix, sign=Signing(KEY))
        for name in NAMES:
            given: dict[str, Any] = {"step": name, "saga_id": "s", "path": "1", "arguments": b'{"item":"lamp"}'}
            reply = await transport.call(StepRequest(kind="action", idempotency_key=f"key of {name}", **given))
            assert reply == StepReply.succeeded(f'"{name}"'.encode()), name
            undo = StepRequest(kind="undo", idempotency_key=f"undo of {name}", undoes=f"key of {name}", **given)
            assert await transport.call(undo) == StepReply.succeeded(), name
        await transport.close()
