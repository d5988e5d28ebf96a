"""Finds the queue that a URL names, among those that are installed."""

from __future__ import annotations

import re
from importlib.metadata import entry_points
from typing import TYPE_CHECKING, Protocol, cast
from urllib.parse import parse_qsl, urlencode, urlsplit

from sagas.errors import TransportError

if TYPE_CHECKING:
    from sagas.transport.queues import Queue

__all__ = ["QueueFactory", "open_queue", "sibling"]

_GROUP = "sagas.queues"
_USER = re.compile(r"//[^/?#]*@")


class QueueFactory(Protocol):
    """What an entry point of the group ``sagas.queues``, named like the URL's scheme, has to be."""

    def __call__(self, url: str, *, queue: str, visibility: float, max_deliveries: int) -> Queue:
        """Makes a queue; connects later, when it is used.

        Args:
            url: Of the broker, without what is given beside it.
            queue: Name of the queue.
            visibility: See ``Queue``.
            max_deliveries: See ``Queue``.
        """
        ...


def open_queue(url: str, *, visibility: float | None = None, max_deliveries: int | None = None) -> Queue:
    """Makes the queue that a URL names, such as ``nats://localhost:4222?queue=payments``.

    Args:
        url: Of the broker, with the queue's name as ``queue=`` in its query. ``visibility=`` and ``max_deliveries=``
            may stand there too; the rest is the adapter's.
        visibility: Seconds for which a delivery is its consumer's alone; 30 if nobody says otherwise.
        max_deliveries: How often a message is delivered at most; 5 if nobody says otherwise.

    Raises:
        TransportError: No installed adapter goes by the URL's scheme, or the URL lacks something.
    """
    parts = urlsplit(url)
    query = dict(parse_qsl(parts.query))
    queue = query.pop("queue", "")
    if not queue:
        raise TransportError(f"{_public(url)} does not name a queue; add ?queue=NAME")
    given = (query.pop("visibility", "30"), query.pop("max_deliveries", "5"))
    try:
        seconds, deliveries = float(given[0]), int(given[1])
    except ValueError as error:
        raise TransportError(f"{_public(url)}: visibility= and max_deliveries= are numbers: {error}") from error
    factory = _factory(parts.scheme.partition("+")[0])
    rest = f"?{urlencode(query)}" if query else ""
    return factory(
        url.partition("?")[0] + rest,
        queue=queue,
        visibility=seconds if visibility is None else visibility,
        max_deliveries=deliveries if max_deliveries is None else max_deliveries,
    )


def sibling(url: str, queue: str) -> str:
    """Gives the URL of another queue of the same broker."""
    base, _, query = url.partition("?")
    others = [(name, value) for name, value in parse_qsl(query) if name != "queue"]
    return f"{base}?{urlencode([('queue', queue), *others])}"


def _factory(scheme: str) -> QueueFactory:
    """Finds what makes queues of a scheme.

    Raises:
        TransportError: Nothing does.
    """
    found = entry_points(group=_GROUP, name=scheme)
    if not found:
        known = ", ".join(sorted({entry.name for entry in entry_points(group=_GROUP)}))
        raise TransportError(f"no queue goes by URLs that begin with {scheme!r}; installed are {known or 'none'}")
    return cast("QueueFactory", next(iter(found)).load())


def _public(url: str) -> str:
    """Leaves out a URL's user and password; nothing else changes, so that it is found where it was written."""
    return _USER.sub("//", url, count=1)
