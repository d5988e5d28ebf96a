"""HTTP: ``httpx2`` at one end, a raw ASGI app under uvicorn at the other."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from benchmarks.remote.bare.port import Ask, Handle
from benchmarks.remote.web import serving
from sagas_adapters.http.library import ClientPool

__all__ = ["answering", "asking"]

_HEADERS = {"content-type": "application/json"}


@asynccontextmanager
async def answering(_: str, __: str, handle: Handle) -> AsyncIterator[str]:
    """See ``Bare``."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            return
        body = b""
        while True:
            message = await receive()
            body += message["body"]
            if not message.get("more_body"):
                break
        answer = await handle(body)
        headers = [(b"content-type", b"application/json"), (b"content-length", str(len(answer)).encode())]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": answer})

    async with serving(app) as url:
        yield url


@asynccontextmanager
async def asking(url: str, _: str) -> AsyncIterator[Ask]:
    """See ``Bare``: with many small clients, since one with 256 connections is much slower."""
    pool = ClientPool(512)

    async def ask(body: bytes) -> bytes:
        with pool.borrow() as client:
            response = await client.post(url, content=body, headers=_HEADERS)
        answer: bytes = response.content
        return answer

    yield ask
    await pool.aclose()
