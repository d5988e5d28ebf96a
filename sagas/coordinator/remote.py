"""Attempts that a participant makes, in another process."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

import anyio
from opentelemetry.trace import SpanKind

from sagas.core import events as e
from sagas.core.attempts import Act, Heard
from sagas.core.commands import RunUndo
from sagas.core.failures import describe, one_line
from sagas.errors import MessageTooLarge, NotSupported, PayloadError, TransportClosed
from sagas.telemetry import trace_headers
from sagas.transport.port import StepReply, StepRequest

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    from sagas.context import Pulse
    from sagas.coordinator.calling import Caller
    from sagas.coordinator.clock import Clock
    from sagas.coordinator.routing import Route
    from sagas.core.attempts import Next, StepAttempts, UndoAttempts
    from sagas.core.commands import RunStep
    from sagas.core.definitions import Step
    from sagas.transport.port import Kind, Transport

__all__ = ["Sender"]

# Pauses, in seconds, between two questions whether what is at work is done.
_FIRST_PAUSE, _LONGEST_PAUSE = 0.02, 1.0
_LEFT_ALONE = e.ErrorInfo("left alone", "too many requests on this route had failed")
_FENCED = e.ErrorInfo("fenced", "its undo came first, so it did not act and never will")


@dataclass(slots=True)
class _Sending:
    """What ``Caller`` calls."""

    function: Callable[..., Coroutine[Any, Any, StepReply | None]]
    is_async: bool = True


class Sender:
    """Sends the requests of one command, and tells its attempts what the answers mean.

    Args:
        route: Where to.
        command: What is to be done.
        step: Its definition.
        saga_id: The saga.
        key: Idempotency key of the step.
        clock: For deadlines and pauses.
        caller: Watches for signs of life.
        pulse: Notes them.
        unwanted: Says whether nobody here waits for the answer any more.
    """

    def __init__(
        self,
        route: Route,
        command: RunStep | RunUndo,
        step: Step[..., Any],
        *,
        saga_id: str,
        key: str,
        clock: Clock,
        caller: Caller,
        pulse: Pulse,
        unwanted: Callable[[], bool],
    ) -> None:
        self._route = route
        self._command = command
        self._step = step
        self._saga_id = saga_id
        self._key = key
        self._clock = clock
        self._caller = caller
        self._pulse = pulse
        self._unwanted = unwanted

    @property
    def kind(self) -> SpanKind:
        """What a request is in a trace: a message that is sent, or a call."""
        return SpanKind.PRODUCER if getattr(self._route.transport, "is_queue", False) else SpanKind.CLIENT

    async def ready(self, left: float | None) -> bool:
        """Waits until something can be sent; not longer than ``left`` seconds. Says whether it can."""
        until = None if left is None else self._clock.steady() + left
        while not self._unwanted():
            now = self._clock.steady()
            pause = self._route.pause(now)
            if pause <= 0:
                return True
            if until is not None and now >= until:
                return False
            await self._clock.sleep(min(pause, 0.5, *(() if until is None else (until - now,))))
        return False

    # --- requests -----------------------------------------------------------------------------------------------

    async def send(self, kind: Kind, attempt: int, within: float | None, heartbeat: float | None) -> StepReply | None:
        """Sends a request and waits for what comes of it; ``None`` if nobody waits any more.

        Args:
            kind: Of the request.
            attempt: From 1.
            within: Seconds for which anybody waits.
            heartbeat: Seconds within which there has to be a sign of life.

        Raises:
            MessageTooLarge: It can never be sent, and was not.
            NotSupported: Likewise.
        """
        request = self._request(kind, attempt, within)
        beat = self._beat if heartbeat is not None else None
        sending = _Sending(lambda: self._insist(request, beat))
        try:
            if heartbeat is not None:
                watched = await self._caller.call_watched(sending, {}, within, heartbeat, self._pulse)
                return cast("StepReply | None", watched)
            if within is not None:
                return cast("StepReply | None", await self._caller.call_within(sending, {}, within))
            return await self._insist(request, beat)
        except TimeoutError as error:
            return StepReply.in_doubt(describe(error), reached=False)

    def _beat(self) -> None:
        """Notes a sign of life."""
        self._pulse.at = self._pulse.now()

    def _request(self, kind: Kind, attempt: int, within: float | None) -> StepRequest:
        """Makes a request."""
        command, undoing = self._command, kind == "undo"
        return StepRequest(
            kind=kind,
            step=self._step.name,
            saga_id=self._saga_id,
            path=command.path,
            idempotency_key=f"{self._key}:undo" if undoing else self._key,
            undoes=self._key if undoing else None,
            attempt=attempt,
            arguments=command.arguments,
            result=command.result if undoing and isinstance(command, RunUndo) else None,
            deadline=None if within is None else self._clock.now() + within,
            headers=trace_headers(),
        )

    async def _insist(self, request: StepRequest, beat: Callable[[], None] | None) -> StepReply | None:
        """Sends a request, again and again as long as it is at work."""
        pause = _FIRST_PAUSE
        while True:
            reply = await self._call(request, beat)
            if reply.outcome != "running":
                return reply
            await self._clock.sleep(pause if reply.retry_after is None else reply.retry_after)
            pause = min(2 * pause, _LONGEST_PAUSE)
            if self._unwanted():
                return None

    async def _call(self, request: StepRequest, beat: Callable[[], None] | None) -> StepReply:
        """Sends a request once, or once more by the other way if it cannot have arrived."""
        fallback = self._route.fallback
        try:
            reply = await self._call_by_one_way(request, beat)
        except (MessageTooLarge, NotSupported):
            if fallback is None:
                raise
        else:
            if fallback is None or reply.outcome != "failed" or reply.reached:
                return reply
        return await self._call_through(fallback, request, beat)

    async def _call_by_one_way(self, request: StepRequest, beat: Callable[[], None] | None) -> StepReply:
        """Sends a request, and tells the route what came of it."""
        transport = self._route.choose(self._clock.steady())
        if transport is None:  # somebody else tries whether it works again
            return StepReply.failed(_LEFT_ALONE, reached=False)
        try:
            reply = await self._call_through(transport, request, beat)
        except (MessageTooLarge, NotSupported):
            self._route.unused(transport)
            raise
        except anyio.get_cancelled_exc_class():
            self._route.report(transport, None, self._clock.steady())
            raise
        self._route.report(transport, reply, self._clock.steady())
        return reply

    async def _call_through(
        self, transport: Transport, request: StepRequest, beat: Callable[[], None] | None
    ) -> StepReply:
        """Sends a request by one way; what else is raised there leaves it in doubt."""
        try:
            return await transport.call(request, beat=beat)
        except (MessageTooLarge, NotSupported):
            raise
        except TransportClosed as error:
            return StepReply.failed(describe(error), reached=False)
        except Exception as error:
            return StepReply.in_doubt(describe(error))

    # --- what answers mean --------------------------------------------------------------------------------------

    def _waits(self, reply: StepReply) -> bool:
        """Says whether a request was not even sent, and waits for its route now, which uses up no attempts."""
        return reply.outcome == "failed" and not reply.reached and self._route.is_open

    def told(
        self, attempts: StepAttempts, reply: StepReply, started: float, chance: float, *, stop: bool, span: str
    ) -> Next:
        """Tells the attempts of a step what came of one."""
        if self._waits(reply):
            return Act()
        now = self._clock.now()
        took = round(now - started, 6)
        if reply.outcome == "succeeded":
            payload = b"null" if reply.payload is None else reply.payload
            misfit = self._misfit(payload)
            if misfit is None:
                return attempts.succeeded(payload, e.Attempt(started, took, None, span))
            # It acted, and what it says cannot be read, now or later.
            return attempts.not_run(misfit, sent=True)
        error = _FENCED if reply.outcome == "fenced" else reply.error or _unexplained(reply)
        heard = Heard(
            final=reply.outcome in {"rejected", "fenced"},
            sent=reply.reached or reply.outcome != "failed",
            retry_after=reply.retry_after or 0.0,
        )
        return attempts.answered(
            error, e.Attempt(started, took, one_line(error), span), now, chance, stop=stop, heard=heard
        )

    def _misfit(self, payload: bytes) -> PayloadError | None:
        """Says what is wrong with a result, if anything."""
        try:
            self._step.result_schema.decode(payload)
        except PayloadError as error:
            return error
        return None

    def told_undo(self, attempts: UndoAttempts, reply: StepReply, started: float, chance: float, *, span: str) -> Next:
        """Tells the attempts of a compensator what came of one."""
        if self._waits(reply):
            return Act()
        now = self._clock.now()
        took = round(now - started, 6)
        if reply.outcome == "succeeded":
            return attempts.succeeded(e.Attempt(started, took, None, span))
        error = reply.error or _unexplained(reply)
        attempt = e.Attempt(started, took, one_line(error), span)
        return attempts.answered(error, attempt, now, chance, retry_after=reply.retry_after or 0.0)

    def told_probe(self, attempts: StepAttempts, reply: StepReply, chance: float, *, stop: bool) -> Next:
        """Tells the attempts of a step what its participant, or its probe there, has found."""
        now = self._clock.now()
        if reply.outcome == "succeeded" and reply.payload is not None and self._misfit(reply.payload) is None:
            return attempts.applied(reply.payload, now)
        if reply.outcome == "not_applied":
            return attempts.not_applied(now, chance, stop=stop)
        return attempts.probe_failed(chance)


def _unexplained(reply: StepReply) -> e.ErrorInfo:
    """Stands for the error of an answer that has none."""
    return e.ErrorInfo(reply.outcome, "the participant did not say why")
