"""What every ASGI app here needs: bodies within limits, paths below where it is mounted, problems as answers."""

from __future__ import annotations

import logging
import re
from collections.abc import Awaitable, Callable, MutableMapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final, TypeAlias
from urllib.parse import quote, unquote

import anyio

from sagas_adapters.http.problems import HttpProblem, Response, problem

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["Disconnected", "Receive", "Scope", "Send", "check_json", "local_path", "read_body", "segments", "serve"]

Scope: TypeAlias = MutableMapping[str, Any]
Receive: TypeAlias = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send: TypeAlias = Callable[[MutableMapping[str, Any]], Awaitable[None]]

logger = logging.getLogger("sagas.http")

# Seconds that a body may take to come.
BODY_WITHIN: Final = 30.0
_SLASHES: Final = re.compile("/+")
_JSON_TYPES: Final = frozenset({b"application/json", b"application/octet-stream", b""})


class Disconnected(Exception):  # noqa: N818 - no error of ours, nor of a caller's
    """The client is gone before its request was there."""


async def serve(
    scope: Scope, receive: Receive, send: Send, answer: Callable[[Scope, Receive], Awaitable[Response]]
) -> None:
    """Answers a request, whatever comes.

    Args:
        scope: See ASGI, as the next two.
        receive: As above.
        send: As above.
        answer: Makes the response; may raise ``HttpProblem``.
    """
    if scope["type"] == "lifespan":
        await _live(receive, send)
    elif scope["type"] == "websocket":
        await send({"type": "websocket.close", "code": 1002, "reason": "HTTP only"})
    else:
        try:
            response = await answer(scope, receive)
        except HttpProblem as error:
            response = error.response
        except Disconnected:
            return
        except Exception:  # a caller gets an answer that it understands, and others go on being served
            logger.exception("a request to %s could not be answered", scope.get("path"))
            response = problem("in-doubt", 500, "something went wrong here; the log of the server tells what")
        await _send(send, _closing(response) if scope["http_version"].startswith("1") else response)


def _closing(response: Response) -> Response:
    """Ends the connection after an answer to a body that is too large or slow, since the rest of that is not read."""
    if response.status not in {408, 413}:
        return response
    return replace(response, headers=(*response.headers, (b"connection", b"close")))


async def _live(receive: Receive, send: Send) -> None:
    """Takes part in the life of a server that runs this app alone."""
    while True:
        kind = (await receive())["type"]
        await send({"type": f"{kind}.complete"})
        if kind == "lifespan.shutdown":
            return


async def _send(send: Send, response: Response) -> None:
    """Sends a response."""
    headers = list(response.headers)
    if response.status != 204:  # noqa: PLR2004 - which has no content
        headers += [(b"content-type", response.media_type), (b"content-length", b"%d" % len(response.body))]
    await send({"type": "http.response.start", "status": response.status, "headers": headers})
    await send({"type": "http.response.body", "body": response.body})


async def read_body(headers: Mapping[bytes, bytes], receive: Receive, limit: int) -> bytes:
    """Reads the body of a request.

    Raises:
        HttpProblem: It is larger than the limit, in bytes, or takes too long.
        Disconnected: The client is gone.
    """
    length = headers.get(b"content-length", b"0")
    if length.isdigit() and int(length[:12]) > limit:
        raise _too_large(limit)
    with anyio.move_on_after(BODY_WITHIN):  # or a few clients with endless bodies could keep everybody else out
        message = await receive()
        if message["type"] == "http.request" and not message.get("more_body", False):
            return _within(message.get("body", b""), limit)
        return await _read_on(message, receive, limit)
    raise HttpProblem("slow", 408, f"the body was not there within {BODY_WITHIN:g} s; nothing was begun")


async def _read_on(message: MutableMapping[str, Any], receive: Receive, limit: int) -> bytes:
    """Reads a body that comes in pieces."""
    pieces, size = list[bytes](), 0
    while True:
        if message["type"] == "http.disconnect":
            raise Disconnected
        piece: bytes = message.get("body", b"")
        pieces.append(piece)
        size += len(piece)
        if size > limit:
            raise _too_large(limit)
        if not message.get("more_body", False):
            return b"".join(pieces)
        message = await receive()


def _within(body: bytes, limit: int) -> bytes:
    """Refuses a body that is too large."""
    if len(body) > limit:
        raise _too_large(limit)
    return body


def _too_large(limit: int) -> HttpProblem:
    """Makes the answer to a body that is too large."""
    return HttpProblem("too-large", 413, f"a body may have {limit} bytes here. Store the data, and send a reference")


def check_json(headers: Mapping[bytes, bytes]) -> None:
    """Refuses a body that is declared as something else.

    Raises:
        HttpProblem: See above.
    """
    kind = headers.get(b"content-type", b"").partition(b";")[0].strip().lower()
    if kind not in _JSON_TYPES:
        raise HttpProblem("unsupported", 415, f"the body is {kind.decode('latin-1')}; send application/json")


def segments(scope: Scope) -> tuple[str, ...]:
    """Gives the decoded segments of the path below where the app is mounted; a segment may hold slashes.

    Raises:
        HttpProblem: The path is not percent-encoded UTF-8.
    """
    try:
        return tuple(unquote(part, errors="strict") for part in local_path(scope).strip("/").split("/"))
    except UnicodeDecodeError:
        raise HttpProblem("not-found", 404, "the path is not UTF-8") from None


def local_path(scope: Scope) -> str:
    """Gives the path below where the app is mounted, as it was sent."""
    path, root = str(scope["path"]), str(scope.get("root_path", ""))
    raw = scope.get("raw_path")
    sent = bytes(raw).partition(b"?")[0].decode("latin-1") if raw else _encoded(path)
    if root and path.startswith(root) and path[len(root) : len(root) + 1] in {"/", ""}:
        return _behind(sent, root)
    return _tail(sent, path)


def _encoded(path: str) -> str:
    """Encodes a path again, for a server that does not tell how it was sent."""
    return quote(path, safe="/:@!$&'()*+,;=~")


def _behind(sent: str, root: str) -> str:
    """Leaves out as many segments as the mount has."""
    return "/" + "/".join(sent.split("/")[root.rstrip("/").count("/") + 1 :])


def _tail(sent: str, path: str) -> str:
    """Takes the end of a path whose beginning a framework has left out of ``path`` and not of ``raw_path``."""
    wanted = _plain(path)
    parts = sent.rstrip("/").split("/")
    for start in range(1, len(parts) + 1):
        tail = "/" + "/".join(parts[start:])
        if _plain(unquote(tail)) == wanted:
            return tail
    return _encoded(path)


def _plain(path: str) -> str:
    """Gives a path as frameworks compare them: with single slashes, and none at its end."""
    return _SLASHES.sub("/", path).rstrip("/")
