"""Calls steps, compensators and probes for requests, and says how they went."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

import anyio
from opentelemetry.trace import SpanKind

from sagas.context import Pulse, StepContext, running_step
from sagas.coordinator.calling import Caller
from sagas.core.definitions import NotApplied
from sagas.core.failures import describe, describe_rejection, is_rejection
from sagas.errors import PayloadError
from sagas.stores.outage import is_outage
from sagas.telemetry import is_here, mark, serving
from sagas.transport.port import StepReply

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from contextlib import AbstractContextManager

    from opentelemetry.trace import Span, Tracer
    from opentelemetry.util.types import AttributeValue
    from sqlmodel import Session

    from sagas.coordinator.calling import UserFunction
    from sagas.coordinator.clock import Clock
    from sagas.core.definitions import Compensator, Probe, Step
    from sagas.transport.port import StepRequest

__all__ = ["Performing"]

logger = logging.getLogger("sagas.worker")


class Performing:
    """One request that is performed.

    Args:
        request: What to do.
        step: The definition.
        arguments: As decoded.
        caller: Calls functions.
        clock: For deadlines.
        tracer: For a span of each call; ``None`` for none.

    Attributes:
        request: What to do.
        step: The definition.
        pulse: When the function last said that it is alive.
        admitted: Whether the barrier has let it through.
    """

    def __init__(
        self,
        request: StepRequest,
        step: Step[..., Any],
        arguments: Mapping[str, object],
        *,
        caller: Caller,
        clock: Clock,
        tracer: Tracer | None,
    ) -> None:
        self.request = request
        self.step = step
        self._arguments = arguments
        self._caller = caller
        self._clock = clock
        self._tracer = tracer
        self._kind = SpanKind.INTERNAL if tracer is not None and is_here(request.headers) else SpanKind.SERVER
        self.pulse = Pulse(now=clock.steady)
        self.admitted = False

    @property
    def is_transactional(self) -> bool:
        """Whether the function wants a session."""
        if self.request.kind == "action":
            return self.step.options.transactional
        return self.request.kind == "undo" and self.step.undo is not None and self.step.undo.transactional

    # --- in the event loop --------------------------------------------------------------------------------------

    async def attempt(self) -> StepReply:
        """Calls the function, and says how it went."""
        return await (self._act() if self.request.kind == "action" else self._undo())

    async def _act(self) -> StepReply:
        """Calls the step."""
        step = self.step
        with self._span(f"step {step.name}") as span:
            try:
                result = await self._call(step, self._arguments, step.options.timeout, step.options.heartbeat)
                return StepReply.succeeded(step.result_schema.encode(result))
            except Exception as error:
                return self._failed(error, span)

    async def _undo(self) -> StepReply:
        """Calls the compensator."""
        undo = self.step.undo
        assert undo is not None, "whoever admitted the request has looked"
        with self._span(f"compensate {self.step.name}") as span:
            try:
                await self._call(undo, self._for_undo(undo), undo.timeout)
            except Exception as error:
                return self._not_undone(error, span)
        return StepReply.succeeded()

    def _for_undo(self, undo: Compensator) -> dict[str, object]:
        """Gives a compensator's arguments.

        Raises:
            PayloadError: The action's result is none.
        """
        chosen = undo.select(self._arguments)
        if undo.wants_result:
            result = self.request.result
            chosen["result"] = None if result is None else self.step.result_schema.decode(result)
        return chosen

    async def probe(self, probe: Probe) -> StepReply:
        """Asks the step's own probe."""
        with self._span(f"probe {self.step.name}") as span:
            try:
                found = await self._call(probe, probe.select(self._arguments), self.step.options.timeout)
                if isinstance(found, NotApplied) or found is NotApplied:
                    return StepReply.not_applied()
                return StepReply.succeeded(self.step.result_schema.encode(found))
            except Exception as error:
                _mark(span, error)
                return StepReply.in_doubt(describe(error))

    async def _call(
        self,
        target: UserFunction,
        arguments: Mapping[str, object],
        limit: float | None,
        heartbeat: float | None = None,
    ) -> Any:
        """Calls a function within its timeouts, in seconds.

        Raises:
            RuntimeError: It let out a cancellation that nobody had asked for.
        """
        within = self._within(limit)
        token = running_step.set(self._context())
        try:
            if heartbeat is not None:
                return await self._caller.call_watched(target, arguments, within, heartbeat, self.pulse)
            if within is None:
                return await self._caller.call(target, arguments)
            return await self._caller.call_within(target, arguments, within)
        except anyio.get_cancelled_exc_class() as error:
            if anyio.get_current_task().has_pending_cancellation():
                raise
            raise RuntimeError("it let out a cancellation of its own") from error  # as asyncio allows
        finally:
            running_step.reset(token)

    def _within(self, limit: float | None) -> float | None:
        """Says how many seconds there are."""
        if self.request.deadline is None:
            return limit
        left = max(0.0, self.request.deadline - self._clock.now())
        return left if limit is None else min(left, limit)

    # --- in a transaction's thread ------------------------------------------------------------------------------

    def within(self, session: Session, check: Callable[[Session], None], /) -> StepReply:
        """Calls a transactional function; what it wrote counts only if it succeeded. See ``inbox.Work``."""
        undo = self.step.undo
        what = "step" if self.request.kind == "action" else "compensate"
        with self._span(f"{what} {self.step.name}") as span:
            token = running_step.set(self._context())
            try:
                if self.request.kind == "action":
                    result = self.step.function(session, **self._arguments)
                    reply = StepReply.succeeded(self.step.result_schema.encode(result))
                else:
                    assert undo is not None, "whoever admitted the request has looked"
                    undo.function(session, **self._for_undo(undo))
                    reply = StepReply.succeeded()
                check(session)
                session.commit()
            except Exception as error:
                if is_outage(error):
                    raise
                session.rollback()
                return self._rolled_back(error, span)
            else:
                return reply
            finally:
                running_step.reset(token)

    def _rolled_back(self, error: Exception, span: Span | None) -> StepReply:
        """Says how a function failed whose writes are taken back."""
        if self.request.kind == "undo":
            return self._not_undone(error, span)
        _mark(span, error)
        if is_rejection(error, self.step.options.rejects):
            return StepReply.rejected(describe_rejection(error))
        self._report("step", error)
        return StepReply.failed(describe(error))

    # --- failures -----------------------------------------------------------------------------------------------

    def _failed(self, error: Exception, span: Span | None) -> StepReply:
        """Says how an action failed."""
        _mark(span, error)
        options = self.step.options
        if is_rejection(error, options.rejects):
            return StepReply.rejected(describe_rejection(error))
        self._report("step", error)
        harmless = options.atomic and not isinstance(error, (TimeoutError, PayloadError))
        return StepReply.failed(describe(error)) if harmless else StepReply.in_doubt(describe(error))

    def _not_undone(self, error: Exception, span: Span | None) -> StepReply:
        """Says how a compensator failed."""
        _mark(span, error)
        self._report("compensator of step", error)
        return StepReply.in_doubt(describe(error))

    def _report(self, what: str, error: Exception) -> None:
        """Shows a developer where a function failed."""
        if logger.isEnabledFor(logging.WARNING):
            request, told = self.request, describe(error).traceback
            logger.warning(
                "saga %s: attempt %d of %s %s failed\n%s", request.saga_id, request.attempt, what, request.step, told
            )

    def _context(self) -> StepContext:
        """Makes what ``current_step()`` gives."""
        request = self.request
        return StepContext(
            saga_id=request.saga_id, step=request.step, path=request.path, idempotency_key=request.idempotency_key,
            undoes=request.undoes, attempt=request.attempt, deadline=request.deadline, pulse=self.pulse,
        )  # fmt: skip

    def _span(self, name: str) -> AbstractContextManager[Span | None]:
        """Traces a call, as part of the trace that the request belongs to."""
        request = self.request
        attributes: dict[str, AttributeValue] = {
            "saga.id": request.saga_id, "saga.step": request.step, "saga.path": request.path,
            "saga.attempt": request.attempt,
        }  # fmt: skip
        if request.kind == "undo":
            attributes["saga.compensation"] = True
        return serving(self._tracer, name, request.headers, attributes, kind=self._kind)


def _mark(span: Span | None, error: Exception) -> None:
    """Shows a failure in a span."""
    if span is not None and span.is_recording():
        mark(span, error)
