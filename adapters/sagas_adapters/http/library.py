"""The HTTP client library: ``httpx2``, or ``httpx`` where only that is installed."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from functools import cache
from importlib import import_module
from math import ceil
from typing import Any, Final

import anyio

from sagas.errors import TransportError

__all__ = ["ClientPool", "library", "own_client", "read_limited"]

# Seconds for which an idle connection is kept. Servers keep one a little longer, so that none is used at the very
# moment when its server closes it, which would leave the request in doubt.
_IDLE: Final = 4.0
# Connections of one client. It looks at all of them for each request, so that one client with 256 would do little else.
# For 256 callers, many small clients were more than twice as fast.
_SHARE: Final = 32


@cache
def library() -> Any:
    """Gives the module.

    Raises:
        TransportError: None is installed.
    """
    for name in ("httpx2", "httpx"):
        try:
            return import_module(name)
        except ModuleNotFoundError as error:
            if error.name != name:
                raise
    raise TransportError("HTTP needs the client library httpx2: pip install 'sagakit[http]'")


def own_client(*, max_connections: int, **options: Any) -> Any:
    """Makes a client that many tasks can use at once.

    Args:
        max_connections: As many calls are on their way at once; others wait.
        options: Of ``httpx2.AsyncClient``.
    """
    httpx = library()
    limits = httpx.Limits(
        max_connections=max_connections, max_keepalive_connections=max_connections, keepalive_expiry=_IDLE
    )
    return httpx.AsyncClient(limits=limits, **options)


async def read_limited(response: Any, limit: int) -> bytes:
    """Reads the body of a response that was asked for with ``stream=True``.

    Args:
        response: Of the client library.
        limit: The largest body, in bytes.

    Raises:
        ValueError: It is larger.
    """
    pieces, size = list[bytes](), 0
    with anyio.CancelScope() as scope:
        async for piece in response.aiter_bytes():
            size += len(piece)
            if size > limit:
                # Merely to leave the loop would leave the library's generators behind unfinished, which trio reports.
                scope.cancel()
            else:
                pieces.append(piece)
    if size > limit:
        raise ValueError(f"the answer has more than {limit} bytes; see max_answer=")
    return pieces[0] if len(pieces) == 1 else b"".join(pieces)


class ClientPool:
    """Several clients that are used as if they were one with many connections.

    Args:
        max_connections: As many calls are on their way at once; others wait.
    """

    def __init__(self, max_connections: int) -> None:
        shares = ceil(max_connections / _SHARE)
        self._sizes = [max_connections // shares + (number < max_connections % shares) for number in range(shares)]
        self._clients: list[Any] = []
        self._busy: list[int] = []
        self._tls: Any = None

    @contextmanager
    def borrow(self) -> Generator[Any]:
        """Gives a client for one exchange: the first that is not fully used, so that connections are used again."""
        number = self._choose()
        self._busy[number] += 1
        try:
            yield self._clients[number]
        finally:
            self._busy[number] -= 1

    def _choose(self) -> int:
        """Finds a client with a connection to spare, or else the one for which the fewest wait."""
        for number, busy in enumerate(self._busy):
            if busy < self._sizes[number]:
                return number
        if len(self._clients) == len(self._sizes):
            return min(range(len(self._busy)), key=lambda number: self._busy[number] / self._sizes[number])
        self._tls = self._tls or library().create_ssl_context()
        self._clients.append(own_client(max_connections=self._sizes[len(self._clients)], verify=self._tls))
        self._busy.append(0)
        return len(self._clients) - 1

    async def aclose(self) -> None:
        """Closes all connections."""
        for client in self._clients:
            await client.aclose()
