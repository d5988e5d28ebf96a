"""Attempts that a participant makes, in another process."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sagas.coordinator.invocation import Attempts, Command, Invocation, mark_failure
from sagas.coordinator.remote import Sender
from sagas.core.attempts import Done, StepAttempts, UndoAttempts
from sagas.core.commands import RunStep, RunUndo
from sagas.core.failures import describe
from sagas.errors import MessageTooLarge, NotSupported
from sagas.telemetry import mark_error
from sagas.transport.port import StepReply

if TYPE_CHECKING:
    from collections.abc import Awaitable

    from sagas.coordinator.gates import Gate
    from sagas.coordinator.host import Host
    from sagas.coordinator.routing import Route
    from sagas.coordinator.runtime import Runtime
    from sagas.core.attempts import Next
    from sagas.core.definitions import Step
    from sagas.telemetry import Held
    from sagas.transport.port import Kind

__all__ = ["RemoteStep", "RemoteUndo"]


class RemoteInvocation(Invocation[Command, Attempts]):
    """What steps and compensators at participants have in common.

    Args:
        host: See ``Invocation``.
        runtime: See ``Invocation``.
        command: See ``Invocation``.
        attempts: See ``Invocation``.
        route: The way to the participant.
    """

    __slots__ = ("_route", "_sender")

    _sender: Sender

    def __init__(self, host: Host, runtime: Runtime, command: Command, attempts: Attempts, route: Route) -> None:
        super().__init__(host, runtime, command, attempts)
        self._route = route

    def _prepare(self, step: Step[..., Any]) -> Next:
        """See ``Invocation``."""
        host = self._host
        self._sender = Sender(
            self._route, self._command, step, saga_id=self._runtime.id, key=self._key, clock=host.clock,
            caller=host.caller, pulse=self._pulse, unwanted=lambda: host.closing or not self._is_wanted(),
        )  # fmt: skip
        return self._attempts.first()

    def act(self) -> Awaitable[Next | None]:
        """Makes an attempt, once its route and its limit allow it; see ``Invocation.act``."""
        return self._attempt_when_open(self._gate())

    async def _attempt_when_open(self, gate: Gate | None) -> Next | None:
        """Makes an attempt, once the route to the participant is open."""
        if not await self._sender.ready(self._left(self._host.clock.now())):
            return self._refused("its route was left alone, since too many requests had failed")
        return await (self._attempt() if gate is None else self._attempt_within(gate))

    async def _request(
        self, kind: Kind, within: float | None, heartbeat: float | None, held: Held | None
    ) -> StepReply | Done | None:
        """Sends a request; see ``Sender.send``. Gives the outcome at once if it can never be sent."""
        try:
            reply = await self._sender.send(kind, self._attempts.attempt, within, heartbeat)
        except (MessageTooLarge, NotSupported) as error:
            mark_failure(held, error)
            return self._attempts.not_run(error)
        if reply is not None:
            _mark_reply(held, reply)
        return reply


class RemoteStep(RemoteInvocation[RunStep, StepAttempts]):
    """A step that a participant performs."""

    __slots__ = ()

    async def _attempt(self) -> Next | None:
        """Has a participant attempt it, if the saga still wants that."""
        attempts, sender = self._attempts, self._sender
        if self._stop():
            return attempts.stopped()
        step, clock = self._step, self._host.clock
        assert step is not None, "begin has made sure"
        self.made = True
        started = clock.now()
        with self._span("step", attempts.attempt, sender.kind) as held:
            reply = await self._request("action", self._timeout(step, started), step.options.heartbeat, held)
            if reply is None or isinstance(reply, Done):
                return reply
            span_id = "" if held is None else held.id
            return sender.told(attempts, reply, started, clock.chance(), stop=self._stop(), span=span_id)

    async def ask(self) -> Next | None:
        """Asks a participant what became of it."""
        step, attempts, sender = self._step, self._attempts, self._sender
        assert step is not None, "only a step with a definition has a probe"
        assert step.query is not None, "attempts ask only where there is a probe"
        self.made = True
        with self._span("probe", attempts.attempt, sender.kind) as held:
            try:
                reply = await sender.send("probe", attempts.attempt, step.options.timeout, None)
            except (MessageTooLarge, NotSupported) as error:
                reply = StepReply.in_doubt(describe(error))
            if reply is None:
                return None
            _mark_reply(held, reply)
        return sender.told_probe(attempts, reply, self._host.clock.chance(), stop=self._stop())


class RemoteUndo(RemoteInvocation[RunUndo, UndoAttempts]):
    """A compensator that a participant performs."""

    __slots__ = ()

    async def _attempt(self) -> Next | None:
        """Has a participant undo the step."""
        attempts, sender = self._attempts, self._sender
        step, clock = self._step, self._host.clock
        assert step is not None, "begin has made sure"
        assert step.undo is not None, "begin has made sure"
        self.made = True
        started = clock.now()
        with self._span("compensate", attempts.attempt, sender.kind) as held:
            reply = await self._request("undo", step.undo.timeout, None, held)
            if reply is None or isinstance(reply, Done):
                return reply
            span_id = "" if held is None else held.id
            return sender.told_undo(attempts, reply, started, clock.chance(), span=span_id)


def _mark_reply(held: Held | None, reply: StepReply) -> None:
    """Shows in a span what came back, if that is a failure."""
    if held is not None and reply.outcome not in {"succeeded", "not_applied"}:
        mark_error(held.span, reply.error, reply.outcome)
