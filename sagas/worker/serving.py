"""Serves requests that come through a queue."""

from __future__ import annotations

import logging
import time
from dataclasses import replace
from typing import TYPE_CHECKING

import anyio
from opentelemetry import trace
from opentelemetry.trace import SpanKind

from sagas.core.failures import describe
from sagas.errors import KeyReused, MessageTooLarge, NotSupported, TransportClosed, TransportError
from sagas.telemetry import mark, message_attributes, serving, trace_headers
from sagas.transport.acks import Acks
from sagas.transport.intake import Intake
from sagas.transport.messages import (
    HEARTBEAT,
    KEY_REUSED,
    notice_message,
    read_request,
    reply_message,
    reply_to,
    wants_beats,
)
from sagas.transport.outgoing import Pump
from sagas.transport.port import StepReply

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping, Sequence

    from anyio.abc import TaskGroup
    from opentelemetry.trace import Tracer

    from sagas.transport.port import Beat, Participant, StepRequest
    from sagas.transport.queues import Delivery, Message, Queue

__all__ = ["Serving"]

logger = logging.getLogger("sagas.worker")

# Seconds for the last acknowledgements.
_PARTING = 1.0
# Seconds before what could not be handled is delivered once more.
_AGAIN = 1.0
# How many requests are held for longer at the same time.
_HELD_AT_ONCE = 32


class Serving:
    """Takes requests from a queue, has a participant perform them, and sends the replies.

    A request is acknowledged when its reply is sent, and that is after the participant remembers it.

    Args:
        participant: Performs the requests.
        requests: Where they come from.
        replies: Opens the queue for replies of this name.
        concurrency: How many are performed side by side, and at most taken from the queue.
        source: What this process is called in messages.
        now: Gives POSIX time.
        tracer: For a span of each delivery; ``None`` for none.

    Attributes:
        gave_up: Called when a request was given back for the last time.
    """

    def __init__(
        self,
        participant: Participant,
        requests: Queue,
        replies: Callable[[str], Queue],
        *,
        concurrency: int,
        source: str,
        now: Callable[[], float] = time.time,
        tracer: Tracer | None = None,
    ) -> None:
        self._tracer = tracer
        self._participant = participant
        self._requests = requests
        self._intake = Intake(requests, "requests", logger)
        self._open_replies = replies
        self._replies: dict[str, Pump[Message]] = {}
        self._queues: list[Queue] = []
        self._seats = anyio.CapacityLimiter(concurrency)
        self._concurrency = concurrency
        self._source = source
        self._now = now
        self._held: dict[str, Delivery] = {}
        self._answered: set[str] = set()
        self._room = anyio.Event()
        self._idle = anyio.Event()
        most = max(1, min(100, requests.capabilities.max_batch))
        self._most = most
        self._acks = Acks(requests, most=most, settled=self._let_go)
        self._at_work = 0
        self._stopping = False
        self._receiving: anyio.CancelScope | None = None
        self.gave_up: Callable[[], None] = lambda: None

    async def run(self) -> None:
        """Serves, until ``stop`` is called and all that was taken is dealt with."""
        try:
            async with anyio.create_task_group() as self._group:
                self._group.start_soon(self._acks.run)
                if self._requests.capabilities.extend:
                    self._group.start_soon(self._hold)
                with anyio.CancelScope() as self._receiving:
                    await self._receive()
                self._acks.hurry()
                while self._held:
                    self._idle = anyio.Event()
                    await self._idle.wait()
                self._group.cancel_scope.cancel()
        finally:
            with anyio.move_on_after(_PARTING, shield=True):
                await self._acks.flush()
            with anyio.CancelScope(shield=True):
                for queue in self._queues:
                    await queue.close()

    def stop(self) -> None:
        """Takes nothing more."""
        self._stopping = True
        if self._receiving is not None:
            self._receiving.cancel()

    # --- deliveries ---------------------------------------------------------------------------------------------

    async def _receive(self) -> None:
        """Takes requests, as many as there is room for."""
        while not self._stopping:
            # What waits to be acknowledged takes no seat, but it is taken from the queue.
            room = min(self._concurrency - self._at_work, self._concurrency + self._most - len(self._held))
            if room <= 0:
                self._room = anyio.Event()
                await self._room.wait()
                continue
            try:
                deliveries = await self._intake.take(min(room, self._most))
            except TransportClosed:
                return
            for delivery in deliveries:
                self._held[delivery.receipt] = delivery
                self._at_work += 1
                self._group.start_soon(self._handle, delivery)

    async def _handle(self, delivery: Delivery) -> None:
        """Deals with a delivery."""
        try:
            await self._serve_traced(delivery)
        except (TransportError, KeyError) as error:
            await self._give_back(delivery, error)
        except Exception as error:
            logger.exception("a request from queue %s could not be served", self._requests.name)
            await self._give_back(delivery, error)
        else:
            self._answered.add(delivery.receipt)
            self._acks.put(delivery)
        finally:
            self._at_work -= 1
            self._room.set()

    def _let_go(self, deliveries: Sequence[Delivery]) -> None:
        """Holds some no longer: they are dealt with, or others are to have them."""
        for delivery in deliveries:
            self._held.pop(delivery.receipt, None)
            self._answered.discard(delivery.receipt)
        self._room.set()
        if not self._held:
            self._idle.set()

    async def _serve_traced(self, delivery: Delivery) -> None:
        """Performs a request, and answers it, within a span of its own."""
        request = read_request(delivery.message)
        if self._tracer is None:
            await self._serve(delivery, request)
            return
        queue = self._requests
        told = message_attributes(queue.capabilities.system, queue.name, "process", delivery.message.headers["ce-id"])
        told |= {"saga.id": request.saga_id, "saga.step": request.step, "saga.delivery": delivery.count}
        name, kind = f"process {queue.name}", SpanKind.CONSUMER
        with serving(self._tracer, name, request.headers, told, kind=kind) as span:
            try:
                await self._serve(delivery, replace(request, headers=trace_headers()))
            except Exception as error:
                if span is not None:
                    mark(span, error)
                raise

    async def _serve(self, delivery: Delivery, request: StepRequest) -> None:
        """Performs a request, and answers it."""
        headers = delivery.message.headers
        answers = await self._answers(reply_to(headers))
        beats = _Beats(self._group, lambda: answers.put(notice_message(headers, HEARTBEAT, source=self._source)))
        if "ce-sagastartby" in headers:
            beats.beat()
        message = await self._message(request, delivery, beats.beat if wants_beats(headers) else None)
        try:
            await answers.put(message)
        except (MessageTooLarge, NotSupported) as error:
            # It is done, and remembered; what cannot be sent is only the result.
            await answers.put(reply_message(headers, StepReply.in_doubt(describe(error)), source=self._source))

    async def _message(self, request: StepRequest, delivery: Delivery, beat: Beat | None) -> Message:
        """Performs a request; gives the message that answers it."""
        headers = delivery.message.headers
        if delivery.count == 1 and self._is_late(headers):
            late = TimeoutError("it had waited in the queue for longer than it may, and was not begun")
            return reply_message(headers, StepReply.failed(describe(late)), source=self._source)
        try:
            reply = await self._participant.perform(request, beat=beat)
        except KeyReused:
            return notice_message(headers, KEY_REUSED, source=self._source)
        trace.get_current_span().set_attribute("saga.reply", reply.outcome)
        return reply_message(headers, reply, source=self._source)

    def _is_late(self, headers: Mapping[str, str]) -> bool:
        """Says whether a request may not be begun any more."""
        start_by = headers.get("ce-sagastartby")
        return start_by is not None and float(start_by) <= self._now()

    async def _answers(self, name: str) -> Pump[Message]:
        """Gives what sends to a queue for replies."""
        pump = self._replies.get(name)
        if pump is None:
            queue = self._open_replies(name)
            self._queues.append(queue)
            most = max(1, min(100, queue.capabilities.max_batch))
            pump = self._replies[name] = Pump(lambda messages: queue.send(*messages), most=most)
            self._group.start_soon(pump.run)
        return pump

    async def _give_back(self, delivery: Delivery, error: Exception) -> None:
        """Has a request delivered again; too often, and it goes to the dead letters with this reason."""
        closing = isinstance(error, TransportClosed)
        later = _AGAIN if self._requests.capabilities.nack_delay and not closing else 0.0
        if not closing:
            logger.warning("queue %s: delivery %d failed: %s", self._requests.name, delivery.count, error)
        try:
            await self._requests.nack(delivery, delay=later, reason=f"{type(error).__name__}: {error}")
        except TransportError as refusal:
            logger.info("%s", refusal)
        except Exception:
            logger.exception("a request could not be given back to queue %s; it comes again later", self._requests.name)
        else:
            if delivery.count >= self._requests.max_deliveries:
                self.gave_up()
        finally:
            self._let_go([delivery])

    async def _hold(self) -> None:
        """Keeps what is at work, some of it at a time: a broker far away takes long to answer."""
        while True:
            await anyio.sleep(self._requests.visibility / 3)
            held = list(self._held)
            for first in range(0, len(held), _HELD_AT_ONCE):
                async with anyio.create_task_group() as group:
                    for receipt in held[first : first + _HELD_AT_ONCE]:
                        group.start_soon(self._extend, receipt)

    async def _extend(self, receipt: str) -> None:
        """Keeps one request, if it is still at work. If that fails, others may get it, and the barrier sees to it."""
        delivery = self._held.get(receipt)
        if delivery is None or receipt in self._answered:
            return
        try:
            await self._requests.extend(delivery, self._requests.visibility)
        except TransportError as error:
            logger.info("%s", error)
        except Exception:
            logger.exception("a request of queue %s could not be held for longer", self._requests.name)


class _Beats:
    """Sends signs of life, one at a time; those that come while one is sent are dropped.

    Most requests give none, so that there is a task only while one is sent.
    """

    def __init__(self, group: TaskGroup, send: Callable[[], Awaitable[None]]) -> None:
        self._group = group
        self._send = send
        self._sending = False

    def beat(self) -> None:
        """Has one sent."""
        if not self._sending:
            self._sending = True
            self._group.start_soon(self._run)

    async def _run(self) -> None:
        """Sends one."""
        try:
            await self._send()
        except Exception as error:
            logger.info("a sign of life could not be sent: %s", error)
        finally:
            self._sending = False
