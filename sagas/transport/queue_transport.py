"""Requests and replies over queues."""

from __future__ import annotations

import logging
import secrets
import socket
import time
from contextlib import AsyncExitStack
from itertools import count
from typing import TYPE_CHECKING

import anyio

from sagas.core.failures import describe
from sagas.errors import KeyReused, MessageTooLarge, NotSupported, TransportClosed, TransportError
from sagas.telemetry import tell_message
from sagas.transport.acks import Acks
from sagas.transport.intake import Intake
from sagas.transport.messages import HEARTBEAT, KEY_REUSED, read_answer, request_message
from sagas.transport.outgoing import Pump
from sagas.transport.port import StepReply

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType
    from typing import Self

    from sagas.transport.messages import Answer
    from sagas.transport.port import Beat, StepRequest
    from sagas.transport.queues import Delivery, Message, Queue

__all__ = ["QueueTransport"]

logger = logging.getLogger("sagas.transport")

# Seconds for the last acknowledgements.
_PARTING = 1.0


class _Call:
    """A request whose reply is waited for.

    Attributes:
        begun: Whether the step is known to be at work.
        answer: What came back.
        heard: Set whenever something has come back.
    """

    __slots__ = ("answer", "beat", "begun", "heard")

    def __init__(self, beat: Beat | None) -> None:
        self.beat = beat
        self.begun = False
        self.answer: Answer | None = None
        self.heard = anyio.Event()


class QueueTransport:
    """Sends requests through one queue, and takes the replies from another one.

    A ``Coordinator`` opens and closes it, and both queues with it. The queue for replies is this transport's own: no
    other process may read it. A reply that gets lost, as when this process is killed, costs time and nothing else,
    since whoever asks again is answered from the participant's memory.

    Args:
        requests: What the participant serves.
        replies: Of this process alone; its name is told to the participant.
        timeout: Seconds to wait for the answer to a request without a deadline; then it is in doubt.
        start_within: Seconds within which a request has to be begun; ``None`` for as long as it takes. A participant
            does not begin it later.
        source: What this process is called in messages (the CloudEvents attribute).
        now: Gives POSIX time.

    Attributes:
        is_queue: That requests are messages, for traces.
    """

    is_queue = True

    def __init__(
        self,
        requests: Queue,
        replies: Queue,
        *,
        timeout: float = 60.0,
        start_within: float | None = None,
        source: str | None = None,
        now: Callable[[], float] = time.time,
    ) -> None:
        self._requests = requests
        self._replies = replies
        self._timeout = timeout
        self._start_within = start_within
        self._source = source or f"/sagas/{socket.gethostname()}"
        self._now = now
        self._calls: dict[str, _Call] = {}
        self._numbers = count(1)
        self._began = int(now() * 1_000_000)
        self._token = f"{self._began}.{secrets.token_hex(6)}"
        self._warned = False
        self._sending: Pump[Message] = Pump(lambda messages: requests.send(*messages), most=_most(requests))
        self._acks = Acks(replies, most=_most(replies))
        self._stack: AsyncExitStack | None = None
        self._scope: anyio.CancelScope | None = None
        self._is_closed = False

    # --- as long as it is open ----------------------------------------------------------------------------------

    async def __aenter__(self) -> Self:
        if self._stack is not None:
            raise TransportError("this transport is open already; make another one")
        async with AsyncExitStack() as stack:
            stack.push_async_callback(self._close_queues)
            group = await stack.enter_async_context(anyio.create_task_group())
            stack.callback(group.cancel_scope.cancel)
            group.start_soon(self._work)
            self._stack = stack.pop_all()
        return self

    async def _work(self) -> None:
        """Sends and receives; in a scope that can be cancelled without cancelling whoever has opened this."""
        with anyio.CancelScope() as self._scope:
            async with anyio.create_task_group() as group:
                group.start_soon(self._sending.run)
                group.start_soon(self._acks.run)
                group.start_soon(self._receive)

    async def __aexit__(
        self, _: type[BaseException] | None, __: BaseException | None, ___: TracebackType | None
    ) -> None:
        await self.close()
        stack, self._stack = self._stack, None
        if stack is not None:
            await stack.aclose()

    async def close(self) -> None:
        """See ``Transport.close``; what ``async with`` has opened is closed when its block ends."""
        self._is_closed = True
        self._sending.close(self._closed())
        for call in self._calls.values():
            call.heard.set()
        if self._scope is not None:
            self._scope.cancel()

    async def _close_queues(self) -> None:
        """Lets go of both queues."""
        with anyio.move_on_after(_PARTING, shield=True):
            await self._acks.flush()
        with anyio.CancelScope(shield=True):
            await self._requests.close()
            await self._replies.close()

    def _closed(self) -> TransportClosed:
        """Says that nothing can be sent."""
        return TransportClosed(
            f"the transport to queue {self._requests.name} is closed; a Coordinator opens it, or `async with`"
        )

    # --- requests -----------------------------------------------------------------------------------------------

    async def call(self, request: StepRequest, *, beat: Beat | None = None) -> StepReply:
        """See ``Transport.call``."""
        if self._stack is None or self._is_closed:
            raise self._closed()
        name = f"{self._token}-{next(self._numbers)}"
        call = self._calls[name] = _Call(beat)
        try:
            tell_message(self._requests.capabilities.system, self._requests.name, name)
            await self._sending.put(self._message(request, name, beats=beat is not None))
            return await self._answer(call, request)
        except (KeyReused, MessageTooLarge, NotSupported, TransportClosed):
            raise
        except TransportError as error:
            return StepReply.in_doubt(describe(error), reached=False)
        finally:
            del self._calls[name]

    def _message(self, request: StepRequest, name: str, *, beats: bool) -> Message:
        """Makes a request's message."""
        start_by = None if self._start_within is None else self._now() + self._start_within
        return request_message(
            request, call=name, source=self._source, reply_to=self._replies.name, start_by=start_by, beats=beats
        )

    async def _answer(self, call: _Call, request: StepRequest) -> StepReply:
        """Waits for what comes of a request.

        Raises:
            KeyReused: The participant knows the key from another request.
            TransportClosed: The transport was closed meanwhile.
        """
        waits = self._timeout if request.deadline is None else max(0.0, request.deadline - self._now())
        with anyio.move_on_after(waits):
            if self._start_within is not None and not await self._begun(call, self._start_within):
                late = TimeoutError(f"it was not begun within {self._start_within:g} s")
                return StepReply.in_doubt(describe(late), reached=False)
            while call.answer is None and not self._is_closed:
                await call.heard.wait()
                call.heard = anyio.Event()
        if call.answer is None:
            if self._is_closed:
                raise self._closed()
            silence = TimeoutError(f"no reply within {waits:g} s to what was sent to queue {self._requests.name}")
            return StepReply.in_doubt(describe(silence), reached=call.begun)
        if call.answer.outcome == KEY_REUSED:
            raise KeyReused(request.idempotency_key, request.step)
        assert call.answer.reply is not None, "all other answers have one"
        return call.answer.reply

    async def _begun(self, call: _Call, seconds: float) -> bool:
        """Waits until the step is known to be at work, or done."""
        with anyio.move_on_after(seconds):
            while not call.begun and not self._is_closed:
                await call.heard.wait()
                call.heard = anyio.Event()
        return call.begun or self._is_closed

    # --- replies ------------------------------------------------------------------------------------------------

    async def _receive(self) -> None:
        """Hands replies to those who wait for them."""
        intake = Intake(self._replies, "replies", logger)
        while True:
            try:
                deliveries = await intake.take(_most(self._replies))
                for delivery in deliveries:
                    self._hear(delivery)
                    self._acks.put(delivery)  # one that comes again does no harm
            except TransportClosed:
                return

    def _hear(self, delivery: Delivery) -> None:
        """Takes an answer; one that nobody waits for is dropped."""
        try:
            answer = read_answer(delivery.message)
        except TransportError as error:
            logger.warning("queue %s: %s; it is dropped", self._replies.name, error)
            return None
        call = self._calls.get(answer.call)
        if call is None:
            return self._stray(answer.call)
        call.begun = True
        if answer.outcome != HEARTBEAT:
            call.answer = answer
        elif call.beat is not None:
            call.beat()
        call.heard.set()
        return None

    def _stray(self, name: str) -> None:
        """Looks at a reply that nobody here waits for; says once if it shows that somebody else reads this queue too.

        Those of an earlier process, which is dead, are no sign of that; those of one that began later are.
        """
        token = name.rpartition("-")[0]
        began = token.partition(".")[0]
        if token == self._token or self._warned or not (began.isdecimal() and int(began) >= self._began):
            return
        self._warned = True
        logger.error(
            "queue %s: there came a reply to a request of somebody else, who began later. So two read this queue, and "
            "each loses what the other takes. Give each QueueTransport of each process a queue of its own as replies=",
            self._replies.name,
        )


def _most(queue: Queue) -> int:
    """Says how many messages go together."""
    return max(1, min(100, queue.capabilities.max_batch))
