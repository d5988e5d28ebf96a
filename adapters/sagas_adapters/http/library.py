"""The HTTP client library: ``httpx2``, or ``httpx`` where only that is installed."""

from __future__ import annotations

from functools import cache
from importlib import import_module
from typing import Any

from sagas.errors import TransportError

__all__ = ["library", "own_client"]

# Seconds for which an idle connection is kept: less than servers do (uvicorn: 5), so that none is used while the
# server closes it, which would leave the request in doubt.
_IDLE = 4.0


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
