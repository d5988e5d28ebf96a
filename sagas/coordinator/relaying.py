"""Sends the events that sagas have emitted: the other end of the transactional outbox.

One coordinator at a time does so, for the sagas of all, so that those of a saga stay in order whoever drives it. Which
one is decided by a permit that holds across processes, and is free again when its holder is dead.
"""

from __future__ import annotations

import logging
from fnmatch import fnmatchcase
from functools import partial
from typing import TYPE_CHECKING, TypeAlias

import anyio

from sagas.errors import DeclarationError, MessageTooLarge, NotSupported, StoreError, TransportError
from sagas.stores.port import PayloadContext
from sagas.transport.events import event_message
from sagas.transport.queues import Queue

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from sagas.coordinator.engine import Engine
    from sagas.stores.port import Holding, Outgoing
    from sagas.transport.queues import Message

__all__ = ["Relay", "Targets"]

_Batch: TypeAlias = "list[tuple[int, Outgoing]]"

logger = logging.getLogger("sagas.coordinator")

# The permit; no limit of a user's has a space in its name.
_PERMIT = "sagas outbox"
_MANY = 200
_SHORTEST_PAUSE, _LONGEST_PAUSE = 0.2, 10.0


class Targets:
    """Finds the queue for an event.

    Args:
        events: One queue for all, or queues by type or pattern of types (``"order.*"``). A type goes before a pattern,
            a longer pattern before a shorter one.

    Raises:
        DeclarationError: Something else is given.
    """

    def __init__(self, events: Queue | Mapping[str, Queue]) -> None:
        given: Mapping[str, Queue] = events if _is_mapping(events) else {"*": events}  # type: ignore[assignment,dict-item]  # told apart by what it can do
        for pattern, queue in given.items():
            if not callable(getattr(queue, "send", None)):
                raise DeclarationError(f"events={{{pattern!r}: …}}: {queue!r} is no queue")
        self._queues = dict(given)
        self._patterns = sorted(self._queues, key=lambda pattern: (-len(pattern), pattern))

    def find(self, kind: str) -> Queue | None:
        """Gives the queue for a type of events."""
        chosen = kind if kind in self._queues else next((x for x in self._patterns if fnmatchcase(kind, x)), None)
        return None if chosen is None else self._queues[chosen]

    async def close(self) -> None:
        """Closes every queue."""
        for queue in self._queues.values():
            await queue.close()


def _is_mapping(events: object) -> bool:
    """Tells queues by name from a queue."""
    return hasattr(events, "items")


class Relay:
    """See the module.

    Args:
        engine: Whose store.
        targets: Where events go.
        poll: Seconds between two looks for events of other processes.
    """

    def __init__(self, engine: Engine, targets: Targets, *, poll: float) -> None:
        self._engine = engine
        self._targets = targets
        self._poll = max(poll, _SHORTEST_PAUSE)
        self._wake = anyio.Event()
        self._pause = self._poll
        self._told: set[str] = set()
        engine.emitted = self.wake

    def wake(self) -> None:
        """Has it look at once."""
        self._wake.set()

    async def run(self) -> None:
        """Sends, until it is cancelled."""
        while True:
            self._wake = anyio.Event()
            try:
                sent = await self._send_some()
            except StoreError as error:
                logger.warning("events are sent later, since that failed: %s", error)
                sent = False
            if sent:
                self._pause = self._poll
                continue
            with anyio.move_on_after(self._pause):
                await self._wake.wait()

    async def _is_in_charge(self) -> bool:
        """Says whether nobody else sends."""
        engine = self._engine
        hold = partial(engine.store.hold_permits, _PERMIT, engine.owner, engine.clock.now(), slots=1, used=1, want=1)
        holding: Holding = await engine.in_thread(hold)
        return holding.held > 0

    async def _send_some(self) -> bool:
        """Sends what there is; says whether there was anything that could be sent.

        Page by page, so that what cannot be sent does not keep back what comes after it.
        """
        engine, found = self._engine, False
        last, blocked = 0, set[str]()
        while True:
            rows: Sequence[tuple[int, Outgoing]] = await engine.in_thread(
                partial(engine.store.outgoing, _MANY, after=last)
            )
            batches = self._sorted(rows, blocked)
            if batches:
                if not await self._is_in_charge():
                    return found
                found = await self._send_page(batches, blocked) or found
            if len(rows) < _MANY:
                return found
            last = rows[-1][0]

    async def _send_page(self, batches: Sequence[tuple[Queue, _Batch]], blocked: set[str]) -> bool:
        """Sends some batches; says whether there was anything that could be sent."""
        engine, sent = self._engine, list[int]()
        for queue, batch in batches:
            try:
                sent += await self._send(queue, batch, blocked)
            except Exception as error:  # also one of a client library, or this would end the coordinator
                fault = None if isinstance(error, TransportError) else error
                logger.warning("events are sent later, since queue %s failed: %s", queue.name, error, exc_info=fault)
                self._pause = min(2 * self._pause, _LONGEST_PAUSE)
                blocked.update(event.saga_id for _, event in batch)
        if sent:
            await engine.in_thread(engine.store.sent, sent)
        return bool(sent)

    def _sorted(self, rows: Sequence[tuple[int, Outgoing]], blocked: set[str]) -> Sequence[tuple[Queue, _Batch]]:
        """Puts events together by queue; those that nobody takes hold up what their sagas emitted later."""
        batches: dict[int, tuple[Queue, _Batch]] = {}
        for number, event in rows:
            queue = self._targets.find(event.type)
            if queue is None:
                self._tell(event.type, f"no queue in Coordinator(events=…) takes events of the type {event.type!r}")
                blocked.add(event.saga_id)
            elif event.saga_id not in blocked:
                batches.setdefault(id(queue), (queue, []))[1].append((number, event))
        return list(batches.values())

    async def _send(self, queue: Queue, batch: _Batch, blocked: set[str]) -> list[int]:
        """Sends those of a batch that nothing holds up; gives the numbers of what was sent.

        Raises:
            TransportError: Nothing of it was sent, as far as is known.
        """
        free: _Batch = []
        messages: list[Message] = []
        for number, event in batch:
            if event.saga_id not in blocked and (message := self._message(event, queue, blocked)) is not None:
                free.append((number, event))
                messages.append(message)
        if not free:
            return []
        try:
            await queue.send(*messages)
        except (MessageTooLarge, NotSupported) as error:
            if len(free) == 1:
                self._tell(free[0][1].id, str(error))
                blocked.add(free[0][1].saga_id)
                return []
        else:
            return [number for number, _ in free]
        return [number for one in free for number in await self._send(queue, [one], blocked)]

    def _message(self, event: Outgoing, queue: Queue, blocked: set[str]) -> Message | None:
        """Makes an event's message; ``None`` if its data cannot be read."""
        codec, data = self._engine.codec, event.data
        try:
            if codec is not None:
                data = codec.decode(data, PayloadContext(event.saga_id, _path(event.id), "event"))
            return event_message(event, data, queue.capabilities)
        except Exception as error:  # a codec is the user's
            self._tell(event.id, f"the event {event.id} cannot be read: {type(error).__name__}: {error}")
            blocked.add(event.saga_id)
            return None

    def _tell(self, what: str, why: str) -> None:
        """Says once why something is not sent."""
        if what not in self._told:
            self._told.add(what)
            logger.error("%s; it waits, and so does what its saga emits later", why)


def _path(event_id: str) -> str:
    """Gives the place in the saga at which an event was emitted."""
    return event_id.partition(":")[2]
