"""Makes attempts of steps, compensators and probes, and tells their sagas how they went."""

from __future__ import annotations

import logging
from contextlib import nullcontext
from functools import partial
from typing import TYPE_CHECKING, Any

import anyio
from opentelemetry.trace import SpanKind

from sagas.context import Pulse, StepContext, running_step
from sagas.coordinator.calling import Caller
from sagas.coordinator.remote import Sender
from sagas.coordinator.transactional import StepWork, TransactionalAttempt, UndoWork
from sagas.core import events as e
from sagas.core.attempts import Act, Done, Pause, StepAttempts, UndoAttempts
from sagas.core.commands import RunStep, RunUndo
from sagas.core.definitions import NotApplied
from sagas.core.failures import describe, is_rejection
from sagas.errors import (
    DeclarationError,
    MessageTooLarge,
    NotSupported,
    PayloadError,
    SagaNotRegistered,
    StoreError,
)
from sagas.telemetry import mark, mark_error, unsampled
from sagas.transport.port import StepReply

if TYPE_CHECKING:
    from collections.abc import Awaitable, Mapping, Sequence
    from contextlib import AbstractContextManager

    from sagas.coordinator.calling import UserFunction
    from sagas.coordinator.clock import Clock
    from sagas.coordinator.gates import Gate
    from sagas.coordinator.journal import Journal
    from sagas.coordinator.limits import Limits
    from sagas.coordinator.routing import Route, Routes
    from sagas.coordinator.runtime import Runtime
    from sagas.coordinator.transactional import Work
    from sagas.core.attempts import Next
    from sagas.core.definitions import Compensator, Step
    from sagas.telemetry import Held

__all__ = ["Attempting", "Job"]

logger = logging.getLogger("sagas.coordinator")

_UNTRACED: AbstractContextManager[None] = nullcontext()

Job = tuple["Runtime", RunStep | RunUndo]


class Attempting:
    """Runs the commands of sagas, one job a task.

    Args:
        clock: Time and chance.
        journal: For transactional steps and compensators.
        threads: How many ``def`` steps may run side by side.
        limits: Of steps and compensators.
        routes: To the steps that are performed elsewhere.
    """

    def __init__(self, clock: Clock, journal: Journal, threads: int, limits: Limits, *, routes: Routes) -> None:
        self.clock = clock
        self.journal = journal
        self.caller = Caller(threads)
        self.limits = limits
        self.routes = routes
        self.closing = False
        self.lease_until = float("inf")
        self.lease_renewed = anyio.Event()
        self.refused: dict[str, Exception] = {}

    def lease_held(self, until: float) -> None:
        """Notes until when this coordinator may act, by the steady clock, and lets go on what waited for that."""
        self.lease_until = until
        renewed, self.lease_renewed = self.lease_renewed, anyio.Event()
        renewed.set()

    async def run(self, job: Job) -> None:
        """Attempts a step or an undo until it has an outcome, and feeds the outcome to its saga."""
        runtime, command = job
        runtime.busy += 1
        try:
            await self._attempt(runtime, command)
        except Exception as error:
            # This saga waits for an operator; the others, and the task that runs their steps, go on.
            runtime.give_up(error)
        finally:
            runtime.busy -= 1

    async def _attempt(self, runtime: Runtime, command: RunStep | RunUndo) -> None:
        """Does what ``run`` says."""
        if runtime.discarded:
            return
        route = self.routes.find(command.name)
        remote = route is not None
        attempts = StepAttempts(command, remote=remote) if isinstance(command, RunStep) else UndoAttempts(command)
        run = _Run(self, runtime, command, attempts, route)
        try:
            await self._go_on(run, runtime)
        finally:
            run.give_up()

    async def _go_on(self, run: _Run, runtime: Runtime) -> None:
        """Makes attempts until there is an outcome, and feeds that to the saga."""
        action = run.begin()
        while not isinstance(action, Done):
            if isinstance(action, Pause):
                await self.clock.sleep(action.seconds)
                action = action.then
            # A process that was paused may hold its sagas no longer; nothing acts before that is known.
            while self.lapsed:
                await self.lease_renewed.wait()
            if runtime.discarded or (self.closing and run.made):
                return  # whoever goes on finds the command in the journal
            after = await (run.act() if isinstance(action, Act) else run.ask())
            if after is None:
                return
            action = after
        if not runtime.discarded and not run.fed:
            runtime.feed(action.event, held=run.take_held())

    @property
    def lapsed(self) -> bool:
        """Whether nothing may act now, because others may think that this coordinator is dead."""
        return self.clock.steady() >= self.lease_until and not self.closing


class _Run:
    """All attempts of one command.

    Attributes:
        made: Whether an attempt was made here.
        fed: Whether the saga has been told already.
    """

    __slots__ = (
        "_arguments", "_attempts", "_command", "_held", "_home", "_pulse", "_route", "_runtime", "_sender", "_step",
        "fed", "made",
    )  # fmt: skip

    def __init__(
        self,
        home: Attempting,
        runtime: Runtime,
        command: RunStep | RunUndo,
        attempts: StepAttempts | UndoAttempts,
        route: Route | None,
    ) -> None:
        self._home = home
        self._route = route
        self._runtime = runtime
        self._command = command
        self._attempts = attempts
        self._step = command.step
        self._arguments: Mapping[str, object] = {}
        self._pulse = Pulse(now=home.clock.steady)
        self._sender: Sender | None = None
        self._held: list[Held] | None = None
        self.made = False
        self.fed = False

    # --- spans --------------------------------------------------------------------------------------------------

    def _span(self, role: str, number: int) -> AbstractContextManager[Held | None]:
        """Traces an attempt, or a question to a probe, if the saga is traced."""
        runtime, command = self._runtime, self._command
        if runtime.story is None:
            return unsampled(runtime.origin) if runtime.origin.trace else _UNTRACED
        kind = SpanKind.INTERNAL if self._sender is None else self._sender.kind
        first = number == command.tried + 1
        if self._held is None:
            self._held = []
        now = self._home.clock.now
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
        """Decodes the arguments, and says what to do first."""
        step = self._step
        if step is None or (isinstance(self._command, RunUndo) and step.undo is None):
            role = "compensator for the step" if isinstance(self._command, RunUndo) else "step"
            return self._attempts.not_run(
                SagaNotRegistered(
                    f"the code at hand has no {role} {self._command.name!r}. Pass it in Coordinator(…, steps=[…]), "
                    "deploy the code that has it, then retry"
                )
            )
        if self._route is not None:
            self._sender = self._make_sender(step, self._route)
        else:
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

    def _make_sender(self, step: Step[..., Any], route: Route) -> Sender:
        """Gives what sends this command to a participant."""
        home, runtime = self._home, self._runtime
        return Sender(
            route, self._command, step, saga_id=runtime.id, key=self._key, clock=home.clock,
            caller=home.caller, pulse=self._pulse, unwanted=lambda: home.closing or not self._is_wanted(),
        )  # fmt: skip

    def act(self) -> Awaitable[Next | None]:
        """Makes an attempt, once its route and its limit allow it; ``None`` if it is not to be made here any more."""
        gate = self._gate()
        if self._sender is not None:
            return self._send(self._sender, gate)
        return self._act() if gate is None else self._act_within(gate)

    async def _send(self, sender: Sender, gate: Gate | None) -> Next | None:
        """Has a participant make an attempt, once the route to it is open."""
        if not await sender.ready(self._left(self._home.clock.now())):
            return self._refused("its route was left alone, since too many requests had failed")
        return await (self._act() if gate is None else self._act_within(gate))

    async def _act_within(self, gate: Gate) -> Next | None:
        """Makes an attempt once a gate is open."""
        if not await self._enter(gate):
            return self._refused("it waited for its limit")
        try:
            return await self._act()
        finally:
            gate.leave()

    def _gate(self) -> Gate | None:
        """Gives the gate that this attempt has to pass."""
        step = self._step
        assert step is not None, "begin has made sure"
        if isinstance(self._command, RunStep):
            limit, own = step.options.limit, "step"
        else:
            limit, own = step.undo.limit if step.undo is not None else None, "undo"
        # No name of a step or limit has a space.
        return None if limit is None else self._home.limits.gate(f"{own} {step.name}", limit)

    async def _enter(self, gate: Gate) -> bool:
        """Waits until the limit and the lease allow an attempt, as long as it is wanted; says whether they do."""
        home = self._home
        path = self._command.path if isinstance(self._command, RunStep) else None
        while self._is_wanted():
            if not await home.limits.enter(gate, self._runtime, path, self._left(home.clock.now())):
                return False
            if not home.lapsed and self._is_wanted():
                return True
            gate.leave()
            while home.lapsed:
                await home.lease_renewed.wait()
        return False

    def _is_wanted(self) -> bool:
        """Says whether the saga still wants this attempt, here."""
        return not self._runtime.discarded and not (isinstance(self._command, RunStep) and self._stop())

    def _refused(self, why: str) -> Next | None:
        """Says what comes of an attempt that was not made."""
        attempts = self._attempts
        if self._runtime.discarded or self._home.closing or not isinstance(attempts, StepAttempts):
            return None
        if self._stop():
            return attempts.stopped()
        return attempts.not_run(TimeoutError(f"its total_timeout passed while {why}"))

    def _act(self) -> Awaitable[Next | None]:
        """Makes an attempt now."""
        attempts, sender = self._attempts, self._sender
        if sender is None:
            return self._act_step(attempts) if isinstance(attempts, StepAttempts) else self._act_undo(attempts)
        if isinstance(attempts, StepAttempts):
            return self._send_step(sender, attempts)
        return self._send_undo(sender, attempts)

    async def _send_step(self, sender: Sender, attempts: StepAttempts) -> Next | None:
        """Has a participant attempt a step."""
        if self._stop():
            return attempts.stopped()
        step, clock = self._step, self._home.clock
        assert step is not None, "begin has made sure"
        self.made = True
        started, number = clock.now(), attempts.attempt
        with self._span("step", number) as held:
            within = self._timeout(step, started)
            try:
                reply = await sender.send("action", number, within, step.options.heartbeat)
            except (MessageTooLarge, NotSupported) as error:
                _mark(held, error)
                return attempts.not_run(error)
            if reply is None:
                return None
            _mark_reply(held, reply)
            span_id = "" if held is None else held.id
            return sender.told(attempts, reply, started, clock.chance(), stop=self._stop(), span=span_id)

    async def _send_undo(self, sender: Sender, attempts: UndoAttempts) -> Next | None:
        """Has a participant undo a step."""
        step, clock = self._step, self._home.clock
        assert step is not None, "begin has made sure"
        assert step.undo is not None, "begin has made sure"
        self.made = True
        started, number = clock.now(), attempts.attempt
        with self._span("compensate", number) as held:
            try:
                reply = await sender.send("undo", number, step.undo.timeout, None)
            except (MessageTooLarge, NotSupported) as error:
                _mark(held, error)
                return attempts.not_run(error)
            if reply is None:
                return None
            _mark_reply(held, reply)
            span_id = "" if held is None else held.id
            return sender.told_undo(attempts, reply, started, clock.chance(), span=span_id)

    async def _send_probe(self, sender: Sender, attempts: StepAttempts) -> Next | None:
        """Asks a participant what became of a step."""
        step = self._step
        assert step is not None, "only a step with a definition has a probe"
        with self._span("probe", attempts.attempt) as held:
            try:
                reply = await sender.send("probe", attempts.attempt, step.options.timeout, None)
            except (MessageTooLarge, NotSupported) as error:
                reply = StepReply.in_doubt(describe(error))
            if reply is None:
                return None
            _mark_reply(held, reply)
        return sender.told_probe(attempts, reply, self._home.clock.chance(), stop=self._stop())

    async def _act_step(self, attempts: StepAttempts) -> Next:
        """Attempts a step, if the saga still wants that."""
        if self._stop():
            return attempts.stopped()
        step = self._step
        assert step is not None, "begin has made sure"
        self.made = True
        if step.options.transactional:
            return await self._act_in_transaction(StepWork(step, self._arguments, attempts, self._stop), step.where)
        clock = self._home.clock
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
                _mark(held, error)
                if not is_rejection(error, step.options.rejects):
                    self._report("attempt", number, error)
                now, stop = clock.now(), self._stop()
                return attempts.failed(error, started, now, clock.chance(), stop=stop, span=span_id)
        return attempts.succeeded(payload, e.Attempt(started, round(clock.now() - started, 6), None, span_id))

    async def _act_in_transaction(self, work: Work, where: str) -> Next:
        """Attempts a transactional step or compensator, in one transaction with the record of its outcome."""
        home, context = self._home, self._context(None, self._attempts.attempt)
        if not home.journal.has_sessions:
            return work.not_run(StoreError(f"{where} is transactional, and memory: has no database for it"))
        refusal = home.refused.pop(context.idempotency_key, None)
        if refusal is not None:
            return work.not_run(refusal)
        attempt = TransactionalAttempt(self._runtime, work, clock=home.clock, context=context, refused=home.refused)
        role = "compensate" if context.undoes else "step"
        with self._span(role, context.attempt) as held:
            attempt.traced_as(held, self.take_held)
            home.journal.transact(attempt)
            action = await attempt.outcome()
            if attempt.error is not None:
                self._report_unless_rejected(context, attempt.error)
        self.fed = attempt.fed
        return action

    def _report_unless_rejected(self, context: StepContext, error: BaseException) -> None:
        """Shows a developer where a transactional function failed."""
        step = self._step
        if context.undoes:
            self._report("undo", context.attempt, error)
        elif step is not None and not is_rejection(error, step.options.rejects):
            self._report("attempt", context.attempt, error)

    async def _act_undo(self, attempts: UndoAttempts) -> Next:
        """Attempts a compensator."""
        step = self._step
        assert step is not None, "begin has made sure"
        assert step.undo is not None, "begin has made sure"
        self.made = True
        undo, clock = step.undo, self._home.clock
        if undo.transactional:
            return await self._undo_in_transaction(step, undo, attempts)
        number = attempts.attempt
        started = clock.now()
        with self._span("compensate", number) as held:
            span_id = "" if held is None else held.id
            try:
                await self._call(undo, self._for_undo(step, undo), number, undo.timeout)
            except BaseException as error:
                if not self._is_failure(error):
                    raise
                _mark(held, error)
                self._report("undo", number, error)
                return attempts.failed(error, started, clock.now(), clock.chance(), span=span_id)
        return attempts.succeeded(e.Attempt(started, round(clock.now() - started, 6), None, span_id))

    async def _undo_in_transaction(self, step: Step[..., Any], undo: Compensator, attempts: UndoAttempts) -> Next:
        """Attempts a transactional compensator."""
        try:
            work = UndoWork(undo, self._for_undo(step, undo), attempts)
        except PayloadError as error:
            return attempts.not_run(error)
        return await self._act_in_transaction(work, undo.parameters.where)

    def _for_undo(self, step: Step[..., Any], undo: Compensator) -> dict[str, object]:
        """Gives a compensator's arguments.

        Raises:
            PayloadError: The step's result is none any more, by the code at hand.
        """
        assert isinstance(self._command, RunUndo), "undo attempts belong to undo commands"
        arguments = undo.select(self._arguments)
        if undo.wants_result:
            result = self._command.result
            arguments["result"] = None if result is None else step.result_schema.decode(result)
        return arguments

    async def ask(self) -> Next | None:
        """Asks the probe."""
        step, attempts, clock = self._step, self._attempts, self._home.clock
        assert step is not None, "only a step with a definition has a probe"
        assert step.query is not None, "attempts ask only where there is a probe"
        assert isinstance(attempts, StepAttempts), "only steps are probed"
        self.made = True
        if self._sender is not None:
            return await self._send_probe(self._sender, attempts)
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
                _mark(held, error)
                return attempts.probe_failed(clock.chance())
        if applied:
            return attempts.applied(payload, clock.now())
        return attempts.not_applied(clock.now(), clock.chance(), stop=self._stop())

    def _report(self, what: str, number: int, error: BaseException) -> None:
        """Shows a developer where a function failed; what it says may not even be printable, so not as it is."""
        if not logger.isEnabledFor(logging.WARNING):
            return
        told = describe(error).traceback
        logger.warning("saga %s: %s %d of step %s failed\n%s", self._runtime.id, what, number, self._command.name, told)

    def _stop(self) -> bool:
        """Says whether the saga no longer wants new attempts of this step."""
        return not self._runtime.execution.may_attempt(self._command.path)

    def _is_failure(self, error: BaseException) -> bool:
        """Tells what a function raised from an order to this task to end."""
        if isinstance(error, anyio.get_cancelled_exc_class()):
            return not self._home.closing and _let_out()
        return not isinstance(error, (KeyboardInterrupt, GeneratorExit))

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

    async def _call(
        self,
        target: UserFunction,
        arguments: Mapping[str, object],
        attempt: int,
        within: float | None,
        heartbeat: float | None = None,
    ) -> Any:
        """Calls a function of the user's, with its timeouts (in seconds)."""
        deadline = None if within is None else self._home.clock.now() + within
        token = running_step.set(partial(self._context, deadline, attempt))
        try:
            caller = self._home.caller
            if within is None and heartbeat is None:
                return await caller.call(target, arguments)
            if heartbeat is None:
                return await caller.call_within(target, arguments, within)
            return await caller.call_watched(target, arguments, within, heartbeat, self._pulse)
        finally:
            running_step.reset(token)


def _let_out() -> bool:
    """Says whether a cancellation is one that a user's own code let out, as asyncio allows."""
    return not anyio.get_current_task().has_pending_cancellation()


def _mark_reply(held: Held | None, reply: StepReply) -> None:
    """Shows in a span what came back, if that is a failure."""
    if held is not None and reply.outcome not in {"succeeded", "not_applied"}:
        mark_error(held.span, reply.error, reply.outcome)


def _mark(held: Held | None, error: BaseException) -> None:
    """Shows a failure in a span."""
    if held is not None:
        mark(held.span, error)
