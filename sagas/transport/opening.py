"""Finds the queue that a URL names, among those that are installed."""

from __future__ import annotations

import re
from importlib.metadata import entry_points
from typing import TYPE_CHECKING, Protocol, cast
from urllib.parse import SplitResult, parse_qsl, urlencode, urlsplit

from sagas.errors import TransportError

if TYPE_CHECKING:
    from sagas.transport.queues import Queue

__all__ = ["QueueFactory", "open_queue", "public_url", "sibling"]

_GROUP = "sagas.queues"
# Up to the last one: what ends user and password elsewhere may stand in a password that was not encoded.
_USER = re.compile(r"\A([a-z0-9+.-]*://)?.*@", re.DOTALL | re.IGNORECASE)


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
        TransportError: No installed adapter goes by the URL's scheme, or the URL lacks something, or is none.
    """
    try:
        parts = urlsplit(url)
    except ValueError:  # which may tell the password
        raise _unfit(url) from None
    if _is_torn(parts):
        raise _unfit(url)
    query = dict(parse_qsl(parts.query))
    queue = query.pop("queue", "")
    if not queue:
        raise TransportError(f"{public_url(url)} does not name a queue; add ?queue=NAME")
    given = (query.pop("visibility", "30"), query.pop("max_deliveries", "5"))
    try:
        seconds, deliveries = float(given[0]), int(given[1])
    except ValueError as error:
        raise TransportError(f"{public_url(url)}: visibility= and max_deliveries= are numbers: {error}") from error
    factory = _factory(parts.scheme.partition("+")[0])
    rest = f"?{urlencode(query)}" if query else ""
    try:
        return factory(
            url.partition("?")[0] + rest,
            queue=queue,
            visibility=seconds if visibility is None else visibility,
            max_deliveries=deliveries if max_deliveries is None else max_deliveries,
        )
    except ValueError:  # likewise
        raise _unfit(url) from None


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


def _is_torn(parts: SplitResult) -> bool:
    """Says whether a password may have been cut in two, so that its beginning counts as host and port.

    Databases are better at it, and see to it themselves.
    """
    beyond = parts.path + parts.fragment + (parts.query if "?" in parts.query else "")
    return "@" in beyond and not parts.scheme.startswith(("sqlite", "postgresql"))


def _unfit(url: str) -> TransportError:
    """Says that a URL is none, and nothing of what may be a password in it."""
    return TransportError(
        f"{public_url(url)} names no queue: a number in it is none, or its user or password has a letter that has to "
        "be percent-encoded there (/ is %2F, ? is %3F, # is %23, @ is %40, : is %3A)"
    )


def public_url(url: str) -> str:
    """Gives a URL for people: without user, password and query, whatever is wrong with it."""
    plain = url if url.startswith("sqlite") else _USER.sub(r"\1", url, count=1)
    return re.split("[?#]", plain, maxsplit=1)[0]
