"""All attempts of one command, wherever they are made: what they wait for, how long they may take, their spans."""

from __future__ import annotations

from abc import ABC, abstractmethod
from contextlib import nullcontext
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from opentelemetry.trace import SpanKind

from sagas.context import Pulse
from sagas.core.attempts import StepAttempts
from sagas.core.commands import RunStep, RunUndo
from sagas.errors import SagaNotRegistered
from sagas.telemetry import mark, unsampled

if TYPE_CHECKING:
    from collections.abc import Awaitable, Sequence
    from contextlib import AbstractContextManager

    from sagas.coordinator.gates import Gate
    from sagas.coordinator.host import Host
    from sagas.coordinator.runtime import Runtime
    from sagas.core.attempts import Next, UndoAttempts
    from sagas.core.definitions import Step
    from sagas.telemetry import Held

__all__ = ["Attempts", "Command", "Invocation", "mark_failure"]

_UNTRACED: AbstractContextManager[None] = nullcontext()

Command = TypeVar("Command", bound="RunStep | RunUndo")
Attempts = TypeVar("Attempts", bound="StepAttempts | UndoAttempts")


class Invocation(ABC, Generic[Command, Attempts]):
    """See the module.

    Args:
        host: What attempts are made with.
        runtime: The saga.
        command: What it wants done.
        attempts: Says what comes after each of them.

    Attributes:
        made: Whether an attempt was made here.
        fed: Whether the saga has been told already.
    """

    __slots__ = ("_attempts", "_command", "_held", "_host", "_pulse", "_runtime", "_step", "fed", "made")

    def __init__(self, host: Host, runtime: Runtime, command: Command, attempts: Attempts) -> None:
        self._host = host
        self._runtime = runtime
        self._command = command
        self._attempts = attempts
        self._step = command.step
        self._pulse = Pulse(now=host.clock.steady)
        self._held: list[Held] | None = None
        self.made = False
        self.fed = False

    # --- spans --------------------------------------------------------------------------------------------------

    def _span(self, role: str, number: int, kind: SpanKind = SpanKind.INTERNAL) -> AbstractContextManager[Held | None]:
        """Traces an attempt, or a question to a probe, if the saga is traced."""
        runtime, command = self._runtime, self._command
        if runtime.story is None:
            return unsampled(runtime.origin) if runtime.origin.trace else _UNTRACED
        first = number == command.tried + 1
        if self._held is None:
            self._held = []
        now = self._host.clock.now
        return runtime.story.attempt(role, command, number, now, first=first, kind=kind, held=self._held)

    def take_held(self) -> Sequence[Held]:
        """Gives the spans of its attempts away, to be shown with their record."""
        held, self._held = self._held, None
        return held or ()

    def give_up(self) -> None:
        """Lets go of the spans of attempts that are in no record."""
        for held in self.take_held():
            held.give_up()

    # --- attempts -----------------------------------------------------------------------------------------------

    def begin(self) -> Next:
        """Makes sure that there is code for it, and says what to do first."""
        step = self._step
        if step is None or (isinstance(self._command, RunUndo) and step.undo is None):
            role = "compensator for the step" if isinstance(self._command, RunUndo) else "step"
            return self._attempts.not_run(
                SagaNotRegistered(
                    f"the code at hand has no {role} {self._command.name!r}. Pass it in Coordinator(…, steps=[…]), "
                    "deploy the code that has it, then retry"
                )
            )
        return self._prepare(step)

    @abstractmethod
    def _prepare(self, step: Step[..., Any]) -> Next:
        """Gets ready for attempts of a step, or of its compensator, and says what to do first."""

    def act(self) -> Awaitable[Next | None]:
        """Makes an attempt, once its limit allows it; ``None`` if it is not to be made here any more."""
        gate = self._gate()
        return self._attempt() if gate is None else self._attempt_within(gate)

    async def _attempt_within(self, gate: Gate) -> Next | None:
        """Makes an attempt once a gate is open."""
        if not await self._enter(gate):
            return self._refused("it waited for its limit")
        try:
            return await self._attempt()
        finally:
            gate.leave()

    @abstractmethod
    def _attempt(self) -> Awaitable[Next | None]:
        """Makes an attempt now."""

    def ask(self) -> Awaitable[Next | None]:
        """Asks the probe, which only steps have."""
        raise AssertionError("only steps are probed")

    # --- limits -------------------------------------------------------------------------------------------------

    def _gate(self) -> Gate | None:
        """Gives the gate that this attempt has to pass."""
        step = self._step
        assert step is not None, "begin has made sure"
        if isinstance(self._command, RunStep):
            limit, own = step.options.limit, "step"
        else:
            limit, own = step.undo.limit if step.undo is not None else None, "undo"
        # No name of a step or limit has a space.
        return None if limit is None else self._host.limits.gate(f"{own} {step.name}", limit)

    async def _enter(self, gate: Gate) -> bool:
        """Waits until the limit and the lease allow an attempt, as long as it is wanted; says whether they do."""
        host = self._host
        path = self._command.path if isinstance(self._command, RunStep) else None
        while self._is_wanted():
            if not await host.limits.enter(gate, self._runtime, path, self._left(host.clock.now())):
                return False
            if not host.lapsed and self._is_wanted():
                return True
            gate.leave()
            while host.lapsed:
                await host.lease_renewed.wait()
        return False

    def _is_wanted(self) -> bool:
        """Says whether the saga still wants this attempt, here."""
        return not self._runtime.discarded and not (isinstance(self._command, RunStep) and self._stop())

    def _stop(self) -> bool:
        """Says whether the saga no longer wants new attempts of this step."""
        return not self._runtime.execution.may_attempt(self._command.path)

    def _refused(self, why: str) -> Next | None:
        """Says what comes of an attempt that was not made."""
        attempts = self._attempts
        if self._runtime.discarded or self._host.closing or not isinstance(attempts, StepAttempts):
            return None
        if self._stop():
            return attempts.stopped()
        return attempts.not_run(TimeoutError(f"its total_timeout passed while {why}"))

    def _timeout(self, step: Step[..., Any], now: float) -> float | None:
        """Says how long this attempt may take."""
        if step.options.total_timeout is None or (left := self._left(now)) is None:
            return step.options.timeout
        return left if step.options.timeout is None else min(left, step.options.timeout)

    def _left(self, now: float) -> float | None:
        """Says how many seconds are left for all attempts of the step together."""
        step, command = self._step, self._command
        if step is None or step.options.total_timeout is None or not isinstance(command, RunStep):
            return None
        return max(0.0, command.scheduled_at + step.options.total_timeout - now)

    @property
    def _key(self) -> str:
        """The step's idempotency key."""
        return f"{self._runtime.execution.key}:{self._command.path}"


def mark_failure(held: Held | None, error: BaseException) -> None:
    """Shows a failure in a span, if there is one."""
    if held is not None:
        mark(held.span, error)
