"""Which hosts a request may be for, and whether it comes from this very machine."""

from __future__ import annotations

import ipaddress
from collections.abc import Collection, MutableMapping
from typing import Any, Final, TypeAlias

__all__ = [
    "LOOPBACK", "Scope", "header", "host_of", "is_allowed", "is_from_elsewhere", "is_loopback", "is_loopback_request",
]  # fmt: skip

Scope: TypeAlias = MutableMapping[str, Any]

# Stands for every name of this machine for itself, in a list of allowed hosts.
LOOPBACK: Final = "loopback"
# What a proxy adds: then the peer is the proxy, which tells nothing of who asks.
# What proxies add, of which the many that begin with the last one are told by that.
_PASSED_ON: Final = frozenset(
    {
        b"forwarded", b"via", b"x-real-ip", b"x-client-ip", b"x-envoy-external-address", b"cf-connecting-ip",
        b"true-client-ip",
    }
)  # fmt: skip
_PASSED_ON_SO = b"x-forwarded-"


def header(scope: Scope, name: bytes) -> str | None:
    """Gives a header field of a request; of several, the last."""
    found = None
    for key, value in scope["headers"]:
        if key == name:
            found = value.decode("latin-1")
    return found


def host_of(scope: Scope) -> str:
    """Gives the host that a request is for, in lower case and without its port."""
    host = (header(scope, b"host") or "").strip().lower()
    if host.startswith("["):
        return host.partition("]")[0].removeprefix("[")
    return host.rpartition(":")[0].rstrip(".") if ":" in host else host.rstrip(".")


def is_loopback(host: str) -> bool:
    """Says whether a name or address is always that of this very machine."""
    if host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def is_allowed(host: str, hosts: Collection[str]) -> bool:
    """Says whether a request may be for a host."""
    return host in hosts or (LOOPBACK in hosts and is_loopback(host))


def is_from_elsewhere(scope: Scope) -> bool:
    """Says whether a page of another site makes a request, other than by leading its visitor here.

    Browsers tell in ``Sec-Fetch-Site``, over TLS and to this machine; a site at another port of this machine counts
    as another, too.
    """
    if (header(scope, b"sec-fetch-site") or "none") in ("same-origin", "none"):
        return False
    leads_here = header(scope, b"sec-fetch-mode") == "navigate" and header(scope, b"sec-fetch-dest") == "document"
    return not (leads_here and scope["method"] in ("GET", "HEAD"))


def is_loopback_request(scope: Scope) -> bool:
    """Says whether somebody on this machine makes a request, of a host that only they can mean.

    Without the second, a page anywhere could have a name of its own point here (DNS rebinding).
    """
    peer = scope.get("client")
    passed_on = any(name in _PASSED_ON or name.startswith(_PASSED_ON_SO) for name, _ in scope["headers"])
    return peer is not None and not passed_on and is_loopback(str(peer[0])) and is_loopback(host_of(scope))
