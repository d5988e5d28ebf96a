"""A queue in memory: for tests, and as the reference for every other."""

from __future__ import annotations

import time
from copy import copy
from dataclasses import dataclass, field, replace
from itertools import count
from typing import TYPE_CHECKING, Protocol, Self

import anyio
import anyio.lowlevel

from sagas.errors import DeliveryExpired, TransportClosed
from sagas.transport.queues import Capabilities, DeadLetter, Delivery, Message

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Sequence

__all__ = ["MemoryQueue", "QueueClock", "SystemClock"]


class QueueClock(Protocol):
    """Time, real or not."""

    def now(self) -> float:
        """Gives seconds since any moment."""
        ...

    async def sleep(self, seconds: float) -> None:
        """Waits."""
        ...


class SystemClock:
    """The time that passes."""

    def now(self) -> float:
        """See ``QueueClock.now``."""
        return time.monotonic()

    async def sleep(self, seconds: float) -> None:
        """See ``QueueClock.sleep``."""
        await anyio.sleep(seconds)


@dataclass(slots=True)
class _Letter:
    """A message in the queue.

    Attributes:
        message: What was sent.
        ready_at: When it can be delivered (again).
        count: How often it was.
        receipt: Of the delivery that somebody has; ``""`` if nobody does.
        reason: Why it was given back.
    """

    message: Message
    ready_at: float
    count: int = 0
    receipt: str = ""
    reason: str = ""


@dataclass(slots=True)
class _Shelf:
    """What all connections to a queue share.

    Attributes:
        letters: By number, in the order in which they were sent.
        dead: The same, of those that were delivered too often.
        seen: By ``dedup_id``, until when it is remembered.
        changed: Set, and replaced, when there may be something to deliver.
    """

    letters: dict[int, _Letter] = field(default_factory=dict[int, _Letter])
    dead: dict[int, _Letter] = field(default_factory=dict[int, _Letter])
    seen: dict[str, float] = field(default_factory=dict[str, float])
    numbers: Iterator[int] = field(default_factory=lambda: count(1))
    changed: anyio.Event = field(default_factory=anyio.Event)

    def wake(self) -> None:
        """Has everybody who waits look again."""
        changed, self.changed = self.changed, anyio.Event()
        changed.set()


class MemoryQueue:
    """A queue that ends with its process; for one event loop.

    Args:
        name: For messages.
        visibility: See ``Queue``.
        max_deliveries: See ``Queue``.
        capabilities: To be had with less than it can, for tests of what relies on it.
        clock: Time.
    """

    ABLE = Capabilities(
        system="memory",
        ordered=True, groups=True, delay=True, nack_delay=True, extend=True, dedup_window=300.0, dead_letters=True,
        max_bytes=1_000_000, max_batch=100, late="refused",
    )  # fmt: skip

    def __init__(
        self,
        name: str = "memory",
        *,
        visibility: float = 30.0,
        max_deliveries: int = 5,
        capabilities: Capabilities = ABLE,
        clock: QueueClock | None = None,
    ) -> None:
        self.name = name
        self.visibility = visibility
        self.max_deliveries = max_deliveries
        self.capabilities = capabilities
        self._clock = clock or SystemClock()
        self._shelf = _Shelf()
        self._closed = False

    def connect(self) -> Self:
        """Opens another connection to the same queue, as another process would."""
        other = copy(self)
        other._closed = False  # noqa: SLF001 - of the same class
        return other

    async def send(self, *messages: Message) -> None:
        """See ``Queue.send``."""
        self._check_open()
        self.capabilities.admit(messages, where=self._where)
        await anyio.lowlevel.checkpoint()
        now = self._clock.now()
        for message in messages:
            if not self._is_duplicate(message, now):
                self._put(message, now + message.delay)
        self._shelf.wake()

    def _put(self, message: Message, ready_at: float) -> None:
        """Adds a message."""
        self._shelf.letters[next(self._shelf.numbers)] = _Letter(replace(message, delay=0.0), ready_at)

    def _is_duplicate(self, message: Message, now: float) -> bool:
        """Says whether a message was sent before; remembers it if it was not."""
        window, seen = self.capabilities.dedup_window, self._shelf.seen
        if message.dedup_id is None or window is None:
            return False
        for key in [key for key, until in seen.items() if until <= now]:
            del seen[key]
        if message.dedup_id in seen:
            return True
        seen[message.dedup_id] = now + window
        return False

    async def receive(self, limit: int = 1, *, wait: float = 0.0) -> Sequence[Delivery]:
        """See ``Queue.receive``."""
        if limit < 1:
            raise ValueError(f"receive(limit={limit}): at least one message")
        self._check_open()
        await anyio.lowlevel.checkpoint()
        until = self._clock.now() + wait
        while not (found := self._take(min(limit, self.capabilities.max_batch))):
            left = until - self._clock.now()
            if left <= 0:
                return []
            await self._pause(left)
            self._check_open()
        return found

    def _take(self, limit: int) -> list[Delivery]:
        """Delivers what can be delivered now."""
        now = self._clock.now()
        self._bury(now)
        found: list[Delivery] = []
        blocked: set[str] = set()
        for number, letter in self._shelf.letters.items():
            group = letter.message.group
            if len(found) < limit and letter.ready_at <= now and group not in blocked:
                found.append(self._deliver(number, letter, now))
            if group is not None:
                blocked.add(group)  # whoever is first in a group keeps away all that are behind
        return found

    def _deliver(self, number: int, letter: _Letter, now: float) -> Delivery:
        """Gives a message to a consumer."""
        letter.count += 1
        letter.receipt = f"{number}.{next(self._shelf.numbers)}"
        letter.ready_at = now + self.visibility
        letter.reason = ""
        return Delivery(message=letter.message, receipt=letter.receipt, count=letter.count)

    def _bury(self, now: float) -> None:
        """Puts away what has been delivered too often."""
        letters = self._shelf.letters
        for number, letter in list(letters.items()):
            if letter.count >= self.max_deliveries and letter.ready_at <= now:
                del letters[number]
                letter.reason = letter.reason or f"not acknowledged within {self.visibility:g} s"
                if self.capabilities.dead_letters:
                    self._shelf.dead[number] = letter

    async def _pause(self, left: float) -> None:
        """Waits for a change, or for the next moment at which there may be something; at most so many seconds."""
        now = self._clock.now()
        changed = self._shelf.changed
        moments = [letter.ready_at - now for letter in self._shelf.letters.values() if letter.ready_at > now]
        async with anyio.create_task_group() as group:

            async def nap() -> None:
                await self._clock.sleep(min([left, *moments]))
                group.cancel_scope.cancel()

            group.start_soon(nap)
            await changed.wait()
            group.cancel_scope.cancel()

    async def ack(self, *deliveries: Delivery) -> None:
        """See ``Queue.ack``."""
        late = [delivery for delivery in deliveries if not self._remove(delivery)]
        self._shelf.wake()  # those behind them in their groups
        if late:
            self._late(late[0])

    def _remove(self, delivery: Delivery) -> bool:
        """Forgets the message of a delivery; says whether it was not somebody else's by now."""
        number, letter = self._find(delivery)
        if letter is not None:
            del self._shelf.letters[number]
            return True
        return number not in self._shelf.letters and number not in self._shelf.dead

    async def nack(self, delivery: Delivery, *, delay: float = 0.0, reason: str = "") -> None:
        """See ``Queue.nack``."""
        if delay > 0:
            self.capabilities.need(able=self.capabilities.nack_delay, what="put a message off", where=self._where)
        _, letter = self._find(delivery)
        if letter is None:
            return self._late(delivery)
        # What has been delivered often enough is not put off any more: nobody will get it.
        last = letter.count >= self.max_deliveries
        letter.ready_at = self._clock.now() + (0.0 if last else delay)
        letter.receipt, letter.reason = "", reason or "given back, and nobody said why"
        self._shelf.wake()
        return None

    async def extend(self, delivery: Delivery, seconds: float) -> None:
        """See ``Queue.extend``."""
        self.capabilities.need(able=self.capabilities.extend, what="extend a delivery", where=self._where)
        _, letter = self._find(delivery)
        if letter is None:
            return self._late(delivery)
        letter.ready_at = self._clock.now() + seconds
        return None

    def _find(self, delivery: Delivery) -> tuple[int, _Letter | None]:
        """Finds the message of a delivery, if it is still its consumer's."""
        self._check_open()
        number = int(delivery.receipt.partition(".")[0])
        letter = self._shelf.letters.get(number)
        held = letter is not None and letter.receipt == delivery.receipt and letter.ready_at > self._clock.now()
        return number, letter if held else None

    def _late(self, delivery: Delivery) -> None:
        """Does what is declared with a delivery that is over.

        Raises:
            DeliveryExpired: That is declared.
        """
        if self.capabilities.late == "refused":
            raise DeliveryExpired(
                f"{self._where}: delivery {delivery.receipt} was not acknowledged within {self.visibility:g} s, so "
                "the message is delivered to others. Nothing was changed. Extend deliveries that take longer"
            )

    async def dead_letters(self, limit: int = 100) -> Sequence[DeadLetter]:
        """See ``Queue.dead_letters``."""
        self._check_dead_letters()
        return [
            DeadLetter(id=str(number), message=letter.message, count=letter.count, reason=letter.reason)
            for number, letter in list(self._shelf.dead.items())[:limit]
        ]

    async def redrive(self, ids: Collection[str] | None = None) -> int:
        """See ``Queue.redrive``."""
        self._check_dead_letters()
        chosen = [number for number in self._shelf.dead if ids is None or str(number) in ids]
        for number in chosen:
            self._put(self._shelf.dead.pop(number).message, self._clock.now())
        self._shelf.wake()
        return len(chosen)

    def _check_dead_letters(self) -> None:
        """Brings the dead letters up to date.

        Raises:
            NotSupported: There are none.
        """
        self._check_open()
        self.capabilities.need(able=self.capabilities.dead_letters, what="keep dead letters", where=self._where)
        self._bury(self._clock.now())

    async def close(self) -> None:
        """See ``Queue.close``."""
        self._closed = True
        self._shelf.wake()

    @property
    def _where(self) -> str:
        """Names it in messages."""
        return f"queue {self.name}"

    def _check_open(self) -> None:
        """Refuses to go on.

        Raises:
            TransportClosed: It is closed.
        """
        if self._closed:
            raise TransportClosed(f"{self._where} is closed")
