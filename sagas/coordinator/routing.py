"""Which steps are performed elsewhere, and what is done while the way there does not work."""

from __future__ import annotations

import logging
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING

from sagas.coordinator.checks import check_number
from sagas.core.failures import one_line
from sagas.errors import DeclarationError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from contextlib import AsyncExitStack

    from sagas.core.registry import Registry
    from sagas.transport.port import StepReply, Transport

__all__ = ["Breaker", "Route", "Routes", "check_routes", "enter_transport"]

logger = logging.getLogger("sagas.coordinator")


@dataclass(frozen=True, slots=True, kw_only=True)
class Breaker:
    """When a route is left alone (a *circuit breaker*: M. Nygard, "Release It!", 2007).

    After so many failures in a row, of the way and not of the steps, nothing is sent for a while. Steps wait
    meanwhile, up to their ``total_timeout``; they do not fail. Then one request tries whether it works again.

    Attributes:
        failures: How many in a row.
        reset: Seconds for which nothing is sent.

    Raises:
        RequestError: A number is out of its range.
    """

    failures: int = 5
    reset: float = 5.0

    def __post_init__(self) -> None:
        """Refuses numbers that make no sense."""
        check_number("failures", self.failures, least=1)
        check_number("reset", self.reset, above=True)


@dataclass(slots=True)
class Route:
    """The way to a participant: ``routes={"payments.*": Route(first, fallback=second)}``.

    Attributes:
        transport: Takes the requests.
        fallback: Another way to the same participant, or to one with the same inbox, for while the first one is left
            alone or cannot be reached. With another inbox, a step could act twice.
        breaker: When the first one is left alone; ``None`` for never.
        name: What it is called in logs.
    """

    transport: Transport
    fallback: Transport | None = None
    breaker: Breaker | None = field(default_factory=Breaker)
    name: str = ""
    _failures: int = field(default=0, init=False, repr=False)
    _closed_until: float | None = field(default=None, init=False, repr=False)
    _trying: bool = field(default=False, init=False, repr=False)

    def pause(self, now: float) -> float:
        """Says for how many seconds nothing can be sent; by a clock that nobody sets."""
        if self.fallback is not None or self._closed_until is None:
            return 0.0
        left = self._closed_until - now
        return left if left > 0 else (_TRIAL if self._trying else 0.0)

    @property
    def is_open(self) -> bool:
        """Whether the first way is left alone (as of an electric circuit that is open)."""
        return self._closed_until is not None

    def choose(self, now: float) -> Transport | None:
        """Gives what takes the next request; ``report`` has to follow. ``None``: nothing can be sent just now."""
        if self._closed_until is None:
            return self.transport
        if now >= self._closed_until and not self._trying:
            self._trying = True
            return self.transport
        return self.fallback

    def report(self, transport: Transport, reply: StepReply | None, now: float) -> None:
        """Takes what came of a request; ``None`` if its time was over before there was an answer."""
        if transport is not self.transport:
            return
        self._trying = False
        if reply is not None and reply.reached:
            if self.is_open:
                logger.warning("route %s works again", self.name)
            self._failures, self._closed_until = 0, None
            return
        self._failures += 1
        if self.breaker is not None and (self._failures >= self.breaker.failures or self._closed_until is not None):
            if not self.is_open:
                logger.warning(
                    "route %s is left alone for %g s at a time until it works again: %s",
                    self.name, self.breaker.reset, "no answer in time" if reply is None or reply.error is None
                    else one_line(reply.error),
                )  # fmt: skip
            self._closed_until = now + self.breaker.reset

    def unused(self, transport: Transport) -> None:
        """Takes back a choice, in place of ``report``: nothing was sent, for no fault of the way."""
        if transport is self.transport:
            self._trying = False

    @property
    def transports(self) -> Iterable[Transport]:
        """Gives both."""
        return [self.transport] if self.fallback is None else [self.transport, self.fallback]


# Seconds between two looks whether the one request that tries a route has come back.
_TRIAL = 0.05


class Routes:
    """Finds the route of a step.

    Args:
        routes: By name of the step, or a pattern of names with ``*`` and ``?``. A name goes before a pattern, a longer
            pattern before a shorter one.

    Raises:
        DeclarationError: What is given for a pattern is no transport.
    """

    def __init__(self, routes: Mapping[str, Transport | Route]) -> None:
        self._routes = {pattern: _as_route(pattern, given) for pattern, given in routes.items()}
        self._patterns = sorted(self._routes, key=lambda pattern: (-len(pattern), pattern))
        self._found: dict[str, Route | None] = {}

    def find(self, name: str) -> Route | None:
        """Gives the route of a step; ``None`` for one that runs here."""
        if not self._routes:
            return None
        if name not in self._found:
            chosen = name if name in self._routes else next((x for x in self._patterns if fnmatchcase(name, x)), None)
            self._found[name] = None if chosen is None else self._routes[chosen]
        return self._found[name]

    def with_breaker(self) -> list[Route]:
        """Gives those that are left alone at times."""
        return [route for route in self._routes.values() if route.breaker is not None]

    def transports(self) -> list[Transport]:
        """Gives every transport once."""
        every = {id(transport): transport for route in self._routes.values() for transport in route.transports}
        return list(every.values())


def _as_route(pattern: str, given: object) -> Route:
    """Makes a route of a transport.

    Raises:
        DeclarationError: It is none.
    """
    if isinstance(given, Route):
        given.name = given.name or pattern
        return given
    if not (callable(getattr(given, "call", None)) and callable(getattr(given, "close", None))):
        raise DeclarationError(f"routes={{{pattern!r}: …}}: {given!r} is neither a transport nor a Route")
    return Route(given, name=pattern)  # type: ignore[arg-type]  # it has what a transport has


def check_routes(routes: Mapping[str, Transport | Route], registry: Registry) -> Routes:
    """Makes sure that every step which a body mentions can be performed.

    Raises:
        DeclarationError: One is remote and has no route, or what is given for a pattern is no transport.
    """
    found = Routes(routes)
    for name in sorted(registry.mentioned() & set(registry.steps)):
        step = registry.steps[name]
        if step.options.remote and found.find(name) is None:
            raise DeclarationError(
                f"{step.where} is remote, and no route leads to it; pass one in Coordinator(…, "
                f"routes={{{step.name!r}: transport}})"
            )
    return found


async def enter_transport(stack: AsyncExitStack, transport: Transport) -> None:
    """Opens a transport, if it has to be, and has it closed in the end."""
    if isinstance(transport, AbstractAsyncContextManager):
        await stack.enter_async_context(transport)
    stack.push_async_callback(transport.close)
