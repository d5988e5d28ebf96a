"""Sagas that begin when an event comes in."""

from __future__ import annotations

import hashlib
import logging
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any, cast

import anyio

from sagas.core.definitions import Saga
from sagas.core.operations import SagaCall
from sagas.errors import (
    CoordinatorBusy,
    CoordinatorClosed,
    DeclarationError,
    DeliveryExpired,
    IdempotencyConflict,
    PayloadError,
    TransportClosed,
    TransportError,
)
from sagas.telemetry import arriving
from sagas.transport.events import CloudEvent, read_event
from sagas.transport.intake import Intake

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from sagas.transport.queues import Delivery, Queue

__all__ = ["Subscriber", "Subscription"]

logger = logging.getLogger("sagas.coordinator")

# Seconds before an event that could not be handled is delivered once more.
_AGAIN = 1.0


@dataclass(frozen=True, slots=True)
class Subscription:
    """Starts a saga for each event of a type: ``Subscription(queue, "order.placed", place_order)``.

    An event starts one saga, however often it is delivered: the saga's id is made of the event's source and id. It is
    acknowledged when the saga's start is durable. One that cannot start a saga goes to the dead letters, with the
    reason; one of another type is acknowledged and left.

    Attributes:
        queue: Where events come from; closed with the coordinator.
        type: Of the events, or a pattern with ``*`` and ``?``.
        saga: Takes the event's data as its only parameter; or makes a call of the event
            (``lambda event: place_order(...)``, with a ``CloudEvent``).
        concurrency: How many events are handled side by side.

    Raises:
        DeclarationError: It is no saga, or one without exactly one parameter.
    """

    queue: Queue
    type: str
    saga: Saga[..., Any] | Callable[[CloudEvent], SagaCall[Any]]
    concurrency: int = 32

    def __post_init__(self) -> None:
        """Refuses what could not take an event."""
        saga = _saga(self.saga)
        if saga is not None:
            if _parameter(saga) is None:
                raise DeclarationError(
                    f"Subscription(…, {self.type!r}, {saga.name}): the saga takes the event's data as its one "
                    "parameter; for another one, give a function that makes the call of the event"
                )
        elif not callable(self.saga):
            raise DeclarationError(f"Subscription(…, {self.type!r}, {self.saga!r}): that is neither saga nor function")

    def call(self, event: CloudEvent) -> SagaCall[Any]:
        """Makes the call that an event is for.

        Raises:
            PayloadError: The data do not fit the saga's parameter.
        """
        saga = _saga(self.saga)
        if saga is None:
            return cast("Callable[[CloudEvent], SagaCall[Any]]", self.saga)(event)
        data = b'{"' + (_parameter(saga) or "").encode() + b'":' + event.data + b"}"
        return SagaCall(saga, dict(saga.arguments_schema.decode(data)))


def _saga(given: object) -> Saga[..., Any] | None:
    """Tells a saga from a function."""
    return cast("Saga[..., Any]", given) if isinstance(given, Saga) else None


def _parameter(saga: Saga[..., Any]) -> str | None:
    """Names the parameter that takes an event's data; ``None`` if there is none, or more than one has to be given."""
    names = saga.parameters.names
    required = [name for name in names if name not in saga.parameters.defaults]
    return None if not names or len(required) > 1 else (required or list(names))[0]


class Subscriber:
    """Handles the events of a subscription.

    Args:
        subscription: Which.
        start: Starts a saga under an id; durable when it returns.
    """

    def __init__(self, subscription: Subscription, start: Callable[[SagaCall[Any], str], Awaitable[object]]) -> None:
        self._subscription = subscription
        self._queue = subscription.queue
        self._intake = Intake(subscription.queue, "events", logger)
        self._start = start
        self._seats = anyio.Semaphore(subscription.concurrency)

    async def run(self) -> None:
        """Handles events, until it is cancelled."""
        async with anyio.create_task_group() as group:
            while True:
                await self._seats.acquire()
                try:
                    deliveries = await self._intake.take(1)
                except TransportClosed:
                    return
                if not deliveries:
                    self._seats.release()
                for delivery in deliveries:
                    group.start_soon(self._handle, delivery)

    async def _handle(self, delivery: Delivery) -> None:
        """Handles an event."""
        try:
            event = read_event(delivery.message)
            if fnmatchcase(event.type, self._subscription.type):
                with arriving(event.trace):
                    await self._start(self._subscription.call(event), _saga_id(event))
            await self._queue.ack(delivery)
        except DeliveryExpired as error:
            logger.info("%s", error)
        except (CoordinatorBusy, CoordinatorClosed) as error:
            await self._give_back(delivery, error, later=0.0)
        except IdempotencyConflict as error:
            logger.warning("queue %s: an event came again with other data: %s", self._queue.name, error)
            await self._give_back(delivery, error, later=_AGAIN)
        except (PayloadError, TransportError) as error:
            logger.warning("queue %s: delivery %d failed: %s", self._queue.name, delivery.count, error)
            await self._give_back(delivery, error, later=_AGAIN)
        except Exception as error:
            logger.exception("an event from queue %s could not be handled", self._queue.name)
            await self._give_back(delivery, error, later=_AGAIN)
        finally:
            self._seats.release()

    async def _give_back(self, delivery: Delivery, error: Exception, *, later: float) -> None:
        """Has an event delivered again; too often, and it goes to the dead letters with this reason."""
        delay = later if self._queue.capabilities.nack_delay else 0.0
        try:
            await self._queue.nack(delivery, delay=delay, reason=f"{type(error).__name__}: {error}")
        except TransportError as refusal:
            logger.info("%s", refusal)
        except Exception:
            logger.exception("an event could not be given back to queue %s; it is due again later", self._queue.name)


def _saga_id(event: CloudEvent) -> str:
    """Gives the id of the saga that an event starts: the event's own, as far as that tells it from all others."""
    token = hashlib.blake2b(f"{event.source}\0{event.id}".encode(), digest_size=12).hexdigest()
    return f"event-{token}"
