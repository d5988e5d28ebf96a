"""What a queue has to do that carries requests, replies and events.

At least once: a message that was sent is delivered until somebody acknowledges it, or goes to the dead letters. A
delivery is its consumer's alone until it is *visible* again to others.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, Protocol

from sagas.errors import MessageTooLarge, NotSupported

__all__ = ["Capabilities", "DeadLetter", "Delivery", "Message", "Queue"]

_NO_HEADERS: Mapping[str, str] = {}


@dataclass(frozen=True, slots=True, kw_only=True)
class Message:
    """What is sent.

    Attributes:
        body: Any bytes.
        headers: Names in lower case; values of printable ASCII.
        group: Messages of a group are delivered one after the other, in the order in which they were sent; ``None``
            for one that needs no order.
        dedup_id: Another message with the same one is dropped, if it is sent within the queue's ``dedup_window``.
        delay: Seconds before it is delivered for the first time.
    """

    body: bytes
    headers: Mapping[str, str] = field(default_factory=lambda: _NO_HEADERS)
    group: str | None = None
    dedup_id: str | None = None
    delay: float = 0.0

    @property
    def size(self) -> int:
        """Bytes of all of it, as far as they are known before a broker adds its own."""
        texts = [*self.headers, *self.headers.values(), self.group or "", self.dedup_id or ""]
        return len(self.body) + sum(len(text.encode()) for text in texts)


@dataclass(frozen=True, slots=True, kw_only=True)
class Delivery:
    """A message in the hands of one consumer.

    Attributes:
        message: What was sent; its ``delay`` has passed, and need not be told.
        receipt: Names this very delivery, for the queue that gave it.
        count: How often the message was delivered, with this time, since it was sent or redriven.
    """

    message: Message
    receipt: str
    count: int


@dataclass(frozen=True, slots=True, kw_only=True)
class DeadLetter:
    """A message that nobody could handle.

    Attributes:
        id: Names it, for ``redrive``.
        message: What was sent.
        count: How often it was delivered.
        reason: What the last consumer said, or that it said nothing in time.
    """

    id: str
    message: Message
    count: int
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Capabilities:
    """What a queue can do. Whatever it cannot, it refuses with ``NotSupported``; it never only pretends.

    Attributes:
        system: What OpenTelemetry calls the broker (``messaging.system``).
        shared: Whether a message goes to whichever consumer asks for it. If not, each one has some of the messages to
            itself while it is connected, and gets them again itself; others get them when it is closed or lost.
        ordered: Whether messages without a group are delivered in the order in which they were sent, as long as
            there is one consumer and nothing goes wrong.
        groups: Whether ``Message.group`` is heeded.
        delay: Whether ``Message.delay`` is heeded.
        nack_delay: Whether ``nack`` can put a message off.
        extend: Whether a delivery can be held for longer.
        dedup_window: Seconds for which ``Message.dedup_id`` is remembered; ``None``: it is not.
        dead_letters: Whether messages that were delivered too often can be read, and sent back.
        max_bytes: The largest ``Message.size``; ``None``: as much as memory holds.
        max_batch: How many messages one ``receive`` gives at most.
        late: What becomes of an ``ack``, ``nack`` or ``extend`` that comes when the delivery is not its consumer's any
            more: ``refused`` with ``DeliveryExpired``, or ``ignored``. In both cases nothing is changed.
    """

    system: str = "sagas"
    shared: bool = True
    ordered: bool = False
    groups: bool = False
    delay: bool = False
    nack_delay: bool = False
    extend: bool = False
    dedup_window: float | None = None
    dead_letters: bool = False
    max_bytes: int | None = None
    max_batch: int = 1
    late: Literal["refused", "ignored"] = "refused"

    def admit(self, messages: Sequence[Message], *, where: str) -> None:
        """Refuses messages that could not be sent as they are, before any of them is.

        Args:
            messages: What is to be sent together.
            where: The queue, for messages.

        Raises:
            NotSupported: One asks for what the queue cannot do.
            MessageTooLarge: One has more bytes than the queue takes.
        """
        for message in messages:
            self._admit(message, where)

    def _admit(self, message: Message, where: str) -> None:
        """Refuses a message."""
        for asked, able, what in (
            (message.group is not None, self.groups, "keep the order of a group"),
            (message.delay > 0, self.delay, "delay a message"),
            (message.dedup_id is not None, self.dedup_window is not None, "drop duplicates by their dedup_id"),
        ):
            if asked and not able:
                raise NotSupported(f"{where} cannot {what}; nothing was sent. Its capabilities say so")
        if self.max_bytes is not None and message.size > self.max_bytes:
            raise MessageTooLarge(
                f"{where} takes at most {self.max_bytes} bytes a message, and this one has {message.size}; nothing "
                "was sent. Store the data elsewhere, and send a reference to it"
            )

    def need(self, *, able: bool, what: str, where: str) -> None:
        """Refuses what the queue cannot do.

        Raises:
            NotSupported: It is not able to.
        """
        if not able:
            raise NotSupported(f"{where} cannot {what}; nothing was changed. Its capabilities say so")


class Queue(Protocol):
    """A connection to a queue. One consumer may use it from several tasks of one event loop.

    Every method raises ``TransportClosed`` when the connection is closed, and ``TransportError`` when the broker cannot
    be reached; then, what was asked for may have been done.

    Attributes:
        name: As ``queue=`` has it in the URL that opens it. Participants open the queue for replies by this name.
        capabilities: What it can do.
        visibility: Seconds for which a delivery is its consumer's alone.
        max_deliveries: After so many deliveries without ``ack``, a message is not delivered any more. It goes to the
            dead letters where there are some, else it is dropped.
    """

    @property
    def name(self) -> str: ...  # noqa: D102 - see the class

    @property
    def capabilities(self) -> Capabilities: ...  # noqa: D102 - see the class

    @property
    def visibility(self) -> float: ...  # noqa: D102 - see the class

    @property
    def max_deliveries(self) -> int: ...  # noqa: D102 - see the class

    async def send(self, *messages: Message) -> None:
        """Sends messages; durably, if the queue is durable, when it returns.

        Raises:
            NotSupported: One asks for what the queue cannot do; none was sent.
            MessageTooLarge: One is too large; none was sent.
        """
        ...

    async def receive(self, limit: int = 1, *, wait: float = 0.0) -> Sequence[Delivery]:
        """Takes messages, to be acknowledged within ``visibility`` seconds.

        If it is cancelled, what it would have given is delivered to somebody later.

        Args:
            limit: At most so many, and at most ``max_batch``.
            wait: Seconds to wait for the first one.

        Returns:
            What is there; nothing, if nothing came in time.

        Raises:
            ValueError: ``limit`` is less than 1.
        """
        ...

    async def ack(self, *deliveries: Delivery) -> None:
        """Says that messages are dealt with; they are not delivered again. Doing it twice does no harm.

        Raises:
            DeliveryExpired: A delivery is not this consumer's any more, and ``late`` is ``refused``. The others are
                dealt with.
        """
        ...

    async def nack(self, delivery: Delivery, *, delay: float = 0.0, reason: str = "") -> None:
        """Gives a message back, to be delivered again.

        Args:
            delivery: Which.
            delay: Seconds before it is.
            reason: What went wrong; kept with the dead letter, if it becomes one by this.

        Raises:
            NotSupported: The queue cannot put it off; it is still this consumer's.
            DeliveryExpired: See ``ack``.
        """
        ...

    async def extend(self, delivery: Delivery, seconds: float) -> None:
        """Keeps a delivery for so many seconds from now.

        Raises:
            NotSupported: The queue cannot do that.
            DeliveryExpired: See ``ack``.
        """
        ...

    async def dead_letters(self, limit: int = 100) -> Sequence[DeadLetter]:
        """Reads messages that were delivered too often, oldest first.

        Raises:
            NotSupported: The queue keeps none.
        """
        ...

    async def redrive(self, ids: Collection[str] | None = None) -> int:
        """Sends dead letters back, to be delivered as if they were new.

        Args:
            ids: Which; ``None`` for all.

        Returns:
            How many.

        Raises:
            NotSupported: The queue keeps none.
        """
        ...

    async def close(self) -> None:
        """Lets go of the connection; what it holds is delivered to others later. Closing twice does no harm."""
        ...
