"""A participant in the same process: what a transport and the barrier at its other end have to do."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any, Literal

import anyio
from anyio import to_thread

from sagas.context import StepContext, running_step
from sagas.core.definitions import NotApplied
from sagas.core.failures import describe, describe_rejection, is_rejection
from sagas.errors import DeclarationError, KeyReused, PayloadError, SagaNotRegistered, TransportClosed
from sagas.transport.port import StepReply, StepRequest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from sagas.core.definitions import Compensator, Probe, Step

__all__ = ["LocalTransport"]


@dataclass(slots=True)
class _Entry:
    """What the barrier knows of an action.

    Attributes:
        state: ``begun`` if an attempt may have acted; ``fenced`` if an undo came before it could.
        reply: What every duplicate gets.
        undo: The same, for its undo.
        busy: Whether an attempt of either is at work.
    """

    state: Literal["new", "begun", "fenced"] = "new"
    reply: StepReply | None = None
    undo: StepReply | None = None
    busy: bool = False


@dataclass(slots=True)
class _Inbox:
    """The barrier's memory.

    Attributes:
        entries: By idempotency key of the action.
        fingerprints: Of the first request with each idempotency key.
    """

    entries: dict[str, _Entry] = field(default_factory=dict[str, _Entry])
    fingerprints: dict[str, bytes] = field(default_factory=dict[str, bytes])

    def entry(self, request: StepRequest) -> _Entry:
        """Finds what is known of a request's action.

        Raises:
            KeyReused: The idempotency key came with another request.
        """
        # A probe has the key of its action, and is none.
        if request.kind != "probe":
            first = self.fingerprints.setdefault(request.idempotency_key, request.fingerprint())
            if first != request.fingerprint():
                raise KeyReused(request.idempotency_key, request.step)
        return self.entries.setdefault(request.action_key, _Entry())


class LocalTransport:
    """Performs steps in this process and this event loop, behind a barrier that remembers them in memory.

    The reference for every other transport. Its memory ends with the process, as that of a participant must not.

    Args:
        steps: What it performs.
        now: Gives POSIX time.
        threads: How many ``def`` functions may run side by side.

    Raises:
        DeclarationError: A step is transactional, and there is no database here.
    """

    def __init__(
        self, steps: Iterable[Step[..., Any]], *, now: Callable[[], float] = time.time, threads: int = 8
    ) -> None:
        self._steps = {step.name: _checked(step) for step in steps}
        self._now = now
        self._threads = anyio.CapacityLimiter(threads)
        self._inbox = _Inbox()
        self._closed = False

    async def call(self, request: StepRequest) -> StepReply:
        """See ``Transport.call``."""
        if self._closed:
            raise TransportClosed(f"step {request.step} was not sent: this transport is closed")
        step = self._steps.get(request.step)
        if step is None:
            return _failed(SagaNotRegistered(f"this participant has no step {request.step!r}; it has {self._names()}"))
        if request.deadline is not None and request.deadline <= self._now():
            return _failed(TimeoutError("its deadline had passed before it could be begun"))
        try:
            arguments = step.arguments_schema.decode(request.arguments)
        except PayloadError as error:
            return _failed(error)
        perform = {"action": self._act, "undo": self._undo, "probe": self._probe}[request.kind]
        return await perform(request, step, arguments)

    async def close(self) -> None:
        """See ``Transport.close``."""
        self._closed = True

    def _names(self) -> str:
        """Lists what it performs."""
        return ", ".join(sorted(self._steps)) or "none"

    async def _act(self, request: StepRequest, step: Step[..., Any], arguments: Mapping[str, object]) -> StepReply:
        """Performs an action, unless it was performed before, or never will be."""
        entry = self._inbox.entry(request)
        if entry.busy:
            return StepReply.running()
        if entry.reply is not None:
            return entry.reply
        if entry.state == "fenced":
            return StepReply.fenced()
        entry.busy = True
        before, entry.state = entry.state, "begun"
        try:
            reply = await self._attempt(request, step, arguments)
        finally:
            entry.busy = False
        if reply.outcome in {"rejected", "failed"}:
            entry.state = before
        # A rejection after an attempt in doubt is none: that one may have acted. So it is not remembered.
        if reply.outcome == "succeeded" or (reply.outcome == "rejected" and before == "new"):
            entry.reply = reply
        return reply

    async def _attempt(self, request: StepRequest, step: Step[..., Any], arguments: Mapping[str, object]) -> StepReply:
        """Calls a step, and says how it went."""
        try:
            result = await self._run(request, step, arguments)
            return StepReply.succeeded(step.result_schema.encode(result))
        except Exception as error:
            if is_rejection(error, step.options.rejects):
                return StepReply.rejected(describe_rejection(error))
            harmless = step.options.atomic and not isinstance(error, (TimeoutError, PayloadError))
            return _failed(error) if harmless else StepReply.in_doubt(describe(error))

    async def _undo(self, request: StepRequest, step: Step[..., Any], arguments: Mapping[str, object]) -> StepReply:
        """Undoes an action that may have acted, and keeps away one that has not."""
        if step.undo is None:
            return _failed(SagaNotRegistered(f"the step {step.name!r} has no compensator at this participant"))
        entry = self._inbox.entry(request)
        if entry.busy:
            return StepReply.running()
        if entry.undo is not None:
            return entry.undo
        if entry.state != "begun":
            entry.state = "fenced"
            entry.undo = StepReply.succeeded()
            return entry.undo
        entry.busy = True
        try:
            reply = await self._compensate(request, step, step.undo, arguments)
        finally:
            entry.busy = False
        if reply.outcome == "succeeded":
            entry.state, entry.undo = "fenced", reply
        return reply

    async def _compensate(
        self, request: StepRequest, step: Step[..., Any], undo: Compensator, arguments: Mapping[str, object]
    ) -> StepReply:
        """Calls a compensator, and says how it went."""
        try:
            chosen = undo.select(arguments)
            if undo.wants_result:
                chosen["result"] = None if request.result is None else step.result_schema.decode(request.result)
            await self._run(request, undo, chosen)
        except Exception as error:
            return StepReply.in_doubt(describe(error))
        return StepReply.succeeded()

    async def _probe(self, request: StepRequest, step: Step[..., Any], arguments: Mapping[str, object]) -> StepReply:
        """Says what became of an action: what the barrier knows for sure, else what the step's own probe finds."""
        entry = self._inbox.entry(request)
        if entry.busy:
            return StepReply.running()
        if entry.reply is not None and entry.reply.outcome == "succeeded":
            return entry.reply
        if entry.state != "begun":
            return StepReply.not_applied()
        if step.query is None:
            return StepReply.in_doubt(describe(LookupError(f"the step {step.name!r} has no probe")))
        return await self._ask(request, step, step.query, arguments)

    async def _ask(
        self, request: StepRequest, step: Step[..., Any], probe: Probe, arguments: Mapping[str, object]
    ) -> StepReply:
        """Calls a probe, and says what it found."""
        try:
            found = await self._run(request, probe, probe.select(arguments))
            if isinstance(found, NotApplied) or found is NotApplied:
                return StepReply.not_applied()
            return StepReply.succeeded(step.result_schema.encode(found))
        except Exception as error:
            return StepReply.in_doubt(describe(error))

    async def _run(
        self, request: StepRequest, target: Step[..., Any] | Compensator | Probe, arguments: Mapping[str, object]
    ) -> Any:
        """Calls a function of the user's, until the deadline; a thread is waited for, since it cannot be stopped.

        Raises:
            TimeoutError: The deadline passed.
            RuntimeError: It raised a cancellation that nobody had asked for.
        """
        token = running_step.set(_context(request))
        try:
            if not target.is_async:
                with anyio.CancelScope(shield=True):
                    return await to_thread.run_sync(partial(target.function, **arguments), limiter=self._threads)
            left = None if request.deadline is None else request.deadline - self._now()
            with anyio.move_on_after(left):
                return await target.function(**arguments)
            raise TimeoutError(f"no result within {left:g} s")
        except anyio.get_cancelled_exc_class() as error:
            if anyio.get_current_task().has_pending_cancellation():
                raise
            raise RuntimeError("it let out a cancellation of its own") from error  # as asyncio allows
        finally:
            running_step.reset(token)


def _checked(step: Step[..., Any]) -> Step[..., Any]:
    """Refuses a step that cannot be performed here.

    Raises:
        DeclarationError: It is transactional.
    """
    if step.options.transactional:
        raise DeclarationError(f"{step.where} is transactional, and a LocalTransport has no database for it")
    return step


def _failed(error: Exception) -> StepReply:
    """Says that nothing was done."""
    return StepReply.failed(describe(error))


def _context(request: StepRequest) -> StepContext:
    """Makes what ``current_step()`` gives."""
    return StepContext(
        saga_id=request.saga_id,
        step=request.step,
        path=request.path,
        idempotency_key=request.idempotency_key,
        undoes=request.undoes,
        attempt=request.attempt,
        deadline=request.deadline,
    )
