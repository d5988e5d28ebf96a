"""What every response of the console carries, and which requests get none of it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, MutableMapping
from typing import Any, Final, TypeAlias

from sagas_adapters.console.hosts import Scope, host_of, is_allowed, is_from_elsewhere

__all__ = ["POLICY", "Shield"]

_Message: TypeAlias = MutableMapping[str, Any]
_Receive: TypeAlias = Callable[[], Awaitable[_Message]]
_Send: TypeAlias = Callable[[_Message], Awaitable[None]]
_App: TypeAlias = Callable[[Scope, _Receive, _Send], Awaitable[None]]

# No script and no style but the files that come with the console, so that no text of a saga can ever be one.
POLICY: Final = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; form-action 'self'; "
    "base-uri 'none'; frame-ancestors 'none'"
)
_HEADERS: Final = (
    (b"content-security-policy", POLICY.encode()),
    (b"x-content-type-options", b"nosniff"),
    (b"x-frame-options", b"DENY"),
    # Browsers that are told `no-referrer` also hide where a form comes from.
    (b"referrer-policy", b"same-origin"),
    (b"cross-origin-opener-policy", b"same-origin"),
    (b"cross-origin-resource-policy", b"same-origin"),
    (b"permissions-policy", b"camera=(), geolocation=(), microphone=()"),
    (b"x-robots-tag", b"noindex"),
)
_WRONG_HOST: Final = (
    b"This console is not asked for by that name. Use the address that it was started with, or allow the name: "
    b"hosts= of console_app, --allow-host of `sagas console`.\n"
)
_ELSEWHERE: Final = (
    b"Nothing was done: this console works for its own pages, and a page of another site asked for it.\n"
)


class Shield:
    """An ASGI app around another.

    Args:
        app: What is inside.
        hosts: For which requests may be, without ports; empty for all.
    """

    def __init__(self, app: _App, hosts: Collection[str]) -> None:
        self._app = app
        self._hosts = frozenset(host.lower() for host in hosts)

    async def __call__(self, scope: Scope, receive: _Receive, send: _Send) -> None:
        """See ASGI."""
        if scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": 1002, "reason": "HTTP only"})
        elif scope["type"] != "http":
            await self._app(scope, receive, send)
        elif self._hosts and not is_allowed(host_of(scope), self._hosts):
            await _refuse(_with_headers(send), 421, _WRONG_HOST)
        elif is_from_elsewhere(scope):
            await _refuse(_with_headers(send), 403, _ELSEWHERE)
        else:
            await _straight(self._app, scope, receive, _with_headers(send))


async def _straight(app: _App, scope: Scope, receive: _Receive, send: _Send) -> None:
    """Takes back the slash that Litestar puts behind every path; where it is missing indeed, sends the browser there.

    All addresses in pages are relative, so they have to start from the very place.
    """
    path, sent = str(scope["path"]), bytes(scope.get("raw_path") or b"/").partition(b"?")[0]
    if sent.endswith(b"/") or not path.endswith("/"):
        await app(scope, receive, send)
    elif path.strip("/"):
        await app({**scope, "path": path.rstrip("/")}, receive, send)
    else:
        where = sent.rpartition(b"/")[2] + b"/"
        await send({"type": "http.response.start", "status": 307, "headers": [(b"location", where)]})
        await send({"type": "http.response.body", "body": b""})


def _with_headers(send: _Send) -> _Send:
    """Adds the headers to a response."""

    async def sending(message: _Message) -> None:
        if message["type"] == "http.response.start":
            headers = list(message.get("headers", ()))
            there = {name.lower() for name, _ in headers}
            headers += [pair for pair in _HEADERS if pair[0] not in there]
            if b"cache-control" not in there:
                headers.append((b"cache-control", b"no-store"))
            message = {**message, "headers": headers}
        await send(message)

    return sending


async def _refuse(send: _Send, status: int, text: bytes) -> None:
    """Answers a request that nobody looks at."""
    headers = [(b"content-type", b"text/plain; charset=utf-8"), (b"content-length", b"%d" % len(text))]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": text})
