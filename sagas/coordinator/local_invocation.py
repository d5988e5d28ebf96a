"""Attempts that are made in this process."""

from __future__ import annotations

import logging
from functools import partial
from typing import TYPE_CHECKING, Any

import anyio

from sagas.context import StepContext, running_step
from sagas.coordinator.invocation import Attempts, Command, Invocation, mark_failure
from sagas.coordinator.transactional import StepWork, TransactionalAttempt, UndoWork
from sagas.core import events as e
from sagas.core.attempts import StepAttempts, UndoAttempts
from sagas.core.commands import RunStep, RunUndo
from sagas.core.definitions import NotApplied
from sagas.core.failures import describe, is_rejection
from sagas.errors import DeclarationError, PayloadError, StoreError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from sagas.coordinator.calling import UserFunction
    from sagas.coordinator.transactional import Work
    from sagas.core.attempts import Next
    from sagas.core.definitions import Compensator, Step

__all__ = ["LocalInvocation", "LocalStep", "LocalUndo"]

logger = logging.getLogger("sagas.coordinator")


class LocalInvocation(Invocation[Command, Attempts]):
    """What steps and compensators in this process have in common."""

    __slots__ = ("_arguments",)

    _arguments: Mapping[str, object]

    def _prepare(self, step: Step[..., Any]) -> Next:
        """Decodes the arguments; see ``Invocation``."""
        if step.options.remote:
            return self._attempts.not_run(
                DeclarationError(
                    f"{step.where} is remote, and no route leads to it. Pass one in Coordinator(…, "
                    f"routes={{{step.name!r}: transport}}), then retry"
                )
            )
        try:
            self._arguments = step.arguments_schema.decode(self._command.arguments)
        except PayloadError as error:
            return self._attempts.not_run(error)
        return self._attempts.first()

    # --- calls --------------------------------------------------------------------------------------------------

    async def _call(
        self,
        target: UserFunction,
        arguments: Mapping[str, object],
        attempt: int,
        within: float | None,
        heartbeat: float | None = None,
    ) -> Any:
        """Calls a function of the user's, with its timeouts (in seconds)."""
        deadline = None if within is None else self._host.clock.now() + within
        token = running_step.set(partial(self._context, deadline, attempt))
        try:
            caller = self._host.caller
            if within is None and heartbeat is None:
                return await caller.call(target, arguments)
            if heartbeat is None:
                return await caller.call_within(target, arguments, within)
            return await caller.call_watched(target, arguments, within, heartbeat, self._pulse)
        finally:
            running_step.reset(token)

    def _context(self, deadline: float | None, attempt: int) -> StepContext:
        """Makes what ``current_step()`` gives."""
        runtime, path, key = self._runtime, self._command.path, self._key
        undoing = isinstance(self._command, RunUndo)
        return StepContext(
            saga_id=runtime.id,
            step=self._command.name,
            path=path,
            idempotency_key=f"{key}:undo" if undoing else key,
            undoes=key if undoing else None,
            attempt=attempt,
            deadline=deadline,
            pulse=self._pulse,
        )

    async def _call_in_transaction(self, work: Work, where: str) -> Next:
        """Attempts a transactional step or compensator, in one transaction with the record of its outcome."""
        host, context = self._host, self._context(None, self._attempts.attempt)
        if not host.journal.has_sessions:
            return work.not_run(StoreError(f"{where} is transactional, and memory: has no database for it"))
        refusal = host.refused.pop(context.idempotency_key, None)
        if refusal is not None:
            return work.not_run(refusal)
        attempt = TransactionalAttempt(self._runtime, work, clock=host.clock, context=context, refused=host.refused)
        role = "compensate" if context.undoes else "step"
        with self._span(role, context.attempt) as held:
            attempt.traced_as(held, self.take_held)
            host.journal.transact(attempt)
            action = await attempt.outcome()
            if attempt.error is not None:
                self._report_unless_rejected(context, attempt.error)
        self.fed = attempt.fed
        return action

    # --- failures -----------------------------------------------------------------------------------------------

    def _is_failure(self, error: BaseException) -> bool:
        """Tells what a function raised from an order to this task to end."""
        if isinstance(error, anyio.get_cancelled_exc_class()):
            return not self._host.closing and _let_out()
        return not isinstance(error, (KeyboardInterrupt, GeneratorExit))

    def _report_unless_rejected(self, context: StepContext, error: BaseException) -> None:
        """Shows a developer where a transactional function failed."""
        step = self._step
        if context.undoes:
            self._report("undo", context.attempt, error)
        elif step is not None and not is_rejection(error, step.options.rejects):
            self._report("attempt", context.attempt, error)

    def _report(self, what: str, number: int, error: BaseException) -> None:
        """Shows a developer where a function failed; what it says may not even be printable, so not as it is."""
        if not logger.isEnabledFor(logging.WARNING):
            return
        told = describe(error).traceback
        logger.warning("saga %s: %s %d of step %s failed\n%s", self._runtime.id, what, number, self._command.name, told)


class LocalStep(LocalInvocation[RunStep, StepAttempts]):
    """A step that is performed here."""

    __slots__ = ()

    async def _attempt(self) -> Next:
        """Attempts it, if the saga still wants that."""
        attempts = self._attempts
        if self._stop():
            return attempts.stopped()
        step = self._step
        assert step is not None, "begin has made sure"
        self.made = True
        if step.options.transactional:
            work = StepWork(step, self._arguments, attempts, self._stop)
            return await self._call_in_transaction(work, step.where)
        clock = self._host.clock
        number = attempts.attempt
        started = clock.now()
        with self._span("step", number) as held:
            span_id = "" if held is None else held.id
            try:
                within = self._timeout(step, started)
                result = await self._call(step, self._arguments, number, within, step.options.heartbeat)
                payload = step.result_schema.encode(result)
            except BaseException as error:
                if not self._is_failure(error):
                    raise
                mark_failure(held, error)
                if not is_rejection(error, step.options.rejects):
                    self._report("attempt", number, error)
                now, stop = clock.now(), self._stop()
                return attempts.failed(error, started, now, clock.chance(), stop=stop, span=span_id)
        return attempts.succeeded(payload, e.Attempt(started, round(clock.now() - started, 6), None, span_id))

    async def ask(self) -> Next:
        """Asks its probe."""
        step, attempts, clock = self._step, self._attempts, self._host.clock
        assert step is not None, "only a step with a definition has a probe"
        assert step.query is not None, "attempts ask only where there is a probe"
        self.made = True
        probe = step.query
        with self._span("probe", attempts.attempt) as held:
            try:
                arguments = probe.select(self._arguments)
                found = await self._call(probe, arguments, attempts.attempt, step.options.timeout)
                applied = not (isinstance(found, NotApplied) or found is NotApplied)
                payload = step.result_schema.encode(found) if applied else b""
            except BaseException as error:
                if not self._is_failure(error):
                    raise
                mark_failure(held, error)
                return attempts.probe_failed(clock.chance())
        if applied:
            return attempts.applied(payload, clock.now())
        return attempts.not_applied(clock.now(), clock.chance(), stop=self._stop())


class LocalUndo(LocalInvocation[RunUndo, UndoAttempts]):
    """A compensator that is performed here."""

    __slots__ = ()

    async def _attempt(self) -> Next:
        """Attempts it."""
        attempts, step = self._attempts, self._step
        assert step is not None, "begin has made sure"
        assert step.undo is not None, "begin has made sure"
        self.made = True
        undo, clock = step.undo, self._host.clock
        if undo.transactional:
            return await self._attempt_in_transaction(step, undo)
        number = attempts.attempt
        started = clock.now()
        with self._span("compensate", number) as held:
            span_id = "" if held is None else held.id
            try:
                await self._call(undo, self._for_undo(step, undo), number, undo.timeout)
            except BaseException as error:
                if not self._is_failure(error):
                    raise
                mark_failure(held, error)
                self._report("undo", number, error)
                return attempts.failed(error, started, clock.now(), clock.chance(), span=span_id)
        return attempts.succeeded(e.Attempt(started, round(clock.now() - started, 6), None, span_id))

    async def _attempt_in_transaction(self, step: Step[..., Any], undo: Compensator) -> Next:
        """Attempts it as a transactional one."""
        try:
            work = UndoWork(undo, self._for_undo(step, undo), self._attempts)
        except PayloadError as error:
            return self._attempts.not_run(error)
        return await self._call_in_transaction(work, undo.parameters.where)

    def _for_undo(self, step: Step[..., Any], undo: Compensator) -> dict[str, object]:
        """Gives its arguments.

        Raises:
            PayloadError: The step's result is none any more, by the code at hand.
        """
        arguments = undo.select(self._arguments)
        if undo.wants_result:
            result = self._command.result
            arguments["result"] = None if result is None else step.result_schema.decode(result)
        return arguments


def _let_out() -> bool:
    """Says whether a cancellation is one that a user's own code let out, as asyncio allows."""
    return not anyio.get_current_task().has_pending_cancellation()
