"""What tasks ask for, and how they hear that it is done."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from typing import Literal

import anyio

from sagas.transport.queues import Delivery
from sagas_adapters.sql.desk import Desk, Row
from sagas_adapters.sql.dialects import Place

__all__ = ["Ack", "Call", "Extend", "Nack", "Post", "Request", "Send", "Take", "Untake", "post_here"]

# Has a function called in an event loop, from any thread.
Post = Callable[[Callable[[], None]], object]


def post_here() -> Post:
    """Gives what calls functions in the event loop at hand."""
    if anyio.get_cancelled_exc_class() is asyncio.CancelledError:
        return asyncio.get_running_loop().call_soon_threadsafe
    from trio.lowlevel import current_trio_token

    return current_trio_token().run_sync_soon


@dataclass(eq=False, slots=True)
class Request:
    """Something that a task waits for.

    Attributes:
        post: Calls functions in the task's event loop.
        done: Set when it is durable, or has failed.
        error: Why it has failed.
    """

    post: Post
    done: anyio.Event = field(default_factory=anyio.Event)
    error: BaseException | None = None

    @property
    def stirs(self) -> Collection[str]:
        """Names the queues in which there may be something for those who wait."""
        return ()

    def perform(self, desk: Desk) -> None:
        """Does it; if it is a ``Take``, it is done with others'."""
        raise NotImplementedError


@dataclass(eq=False, slots=True, kw_only=True)
class Send(Request):
    """Messages of one call, for one queue; all of a transaction are written together."""

    rows: Sequence[Row]
    window: float

    @property
    def stirs(self) -> Collection[str]:
        """See ``Request``."""
        return (self.rows[0].queue,)


@dataclass(eq=False, slots=True, kw_only=True)
class Ack(Request):
    """The same for deliveries that are dealt with.

    Attributes:
        grouped: The queue, if one of them is of a group, whose next one can be delivered then.
        late: Those that were not the consumer's any more.
    """

    places: Sequence[Place]
    grouped: Collection[str] = ()
    late: Sequence[Place] = ()

    @property
    def stirs(self) -> Collection[str]:
        """See ``Request``."""
        return self.grouped


@dataclass(eq=False, slots=True, kw_only=True)
class Nack(Request):
    """A delivery that is given back; ``last`` if it was delivered often enough."""

    queue: str
    place: Place
    delay: float
    reason: str
    last: bool
    held: bool = False

    @property
    def stirs(self) -> Collection[str]:
        """See ``Request``."""
        return (self.queue,)

    def perform(self, desk: Desk) -> None:
        """See ``Request``."""
        self.held = desk.nack(self.place, delay=self.delay, reason=self.reason, last=self.last)


@dataclass(eq=False, slots=True, kw_only=True)
class Extend(Request):
    """A delivery that is held for longer."""

    place: Place
    seconds: float
    held: bool = False

    def perform(self, desk: Desk) -> None:
        """See ``Request``."""
        self.held = desk.extend(self.place, self.seconds)


@dataclass(eq=False, slots=True, kw_only=True)
class Untake(Request):
    """Deliveries that reached nobody."""

    queue: str
    places: Sequence[Place]

    @property
    def stirs(self) -> Collection[str]:
        """See ``Request``."""
        return (self.queue,)

    def perform(self, desk: Desk) -> None:
        """See ``Request``."""
        desk.untake(self.places)


@dataclass(eq=False, slots=True, kw_only=True)
class Call(Request):
    """Anything else."""

    queue: str
    function: Callable[[Desk], object]
    result: object = None

    @property
    def stirs(self) -> Collection[str]:
        """See ``Request``."""
        return (self.queue,)

    def perform(self, desk: Desk) -> None:
        """See ``Request``."""
        self.result = self.function(desk)


@dataclass(eq=False, slots=True, kw_only=True)
class Take(Request):
    """A task that receives.

    Attributes:
        queue: From which.
        limit: How many messages at most.
        visibility: For how long.
        max_deliveries: See ``Queue``.
        patient: Whether it waits until there is something.
        owner: The connection that it belongs to.
        found: What it gets.
        state: Whether it waits for the next transaction, for something to come, for a transaction's end, or is over.
        abandoned: Whether nobody wants what it gets any more.
        forsaken: Why nothing can come any more, if its connection was closed.
    """

    queue: str
    limit: int
    visibility: float
    max_deliveries: int
    patient: bool
    owner: object
    found: Sequence[Delivery] = ()
    state: Literal["pending", "standing", "flying", "over"] = "pending"
    abandoned: bool = False
    forsaken: Exception | None = None

    @property
    def terms(self) -> tuple[str, float, int]:
        """What those have in common who can share what is found."""
        return self.queue, self.visibility, self.max_deliveries
