"""A saga that runs: it takes events, and says what it wants done next.

No clock, no randomness and no I/O. A coordinator, the simulator and the property tests drive this same class;
recovery is nothing but feeding a journal to a new one. A host needs ``apply``, the commands it gives, and
``outstanding`` after a replay.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from sagas.core import commands as c
from sagas.core import events as e
from sagas.core.driver import Driver
from sagas.core.failures import describe, revive
from sagas.core.fibers import Entry, Fiber, Group, Unwinding, Wait
from sagas.core.paths import follows, is_within
from sagas.core.rollback import UndoOrder
from sagas.core.transitions import SagaState, SagaTrigger, StepState, StepTrigger, next_saga
from sagas.errors import IllegalTransition, PayloadError, ReceiveTimeout, SagaTimeout

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from sagas.core.definitions import Saga, Step

__all__ = ["CANCELLED", "TIMED_OUT", "Execution"]

CANCELLED = "cancelled"
TIMED_OUT = "timed out"

_IN_FLIGHT = (StepState.SCHEDULED, StepState.BACKING_OFF, StepState.PARKED)


class Execution(Driver):
    """One saga, from its first event on.

    Args:
        saga: Its definition; ``None`` to roll it back from its journal alone.
        saga_id: For messages.
        steps: Definitions by name, for undoing steps that the body no longer calls.

    Attributes:
        state: Where it stands.
        at: POSIX time of the last event.
        key: What idempotency keys are derived from.
        steps: The steps it called, by path, in the order of the calls.
        open: Commands that no event has answered yet, by path.
        timers: POSIX times to be woken at, by path.
        halted: Why it needs an operator, by path (``""``: the body itself).
        cause: Why it did not complete.
        result: What it returned, as JSON.
        unnoted: After a replay with mended code, the commands that the journal does not note yet; a host that
            resumes the saga records them with ``SagaResumed``.
    """

    __slots__ = (
        "_pending_stop",
        "_root",
        "cause",
        "halted",
        "registry",
        "result",
        "saga",
        "saga_id",
        "state",
        "steps",
        "unnoted",
    )

    def __init__(self, saga: Saga[..., Any] | None, saga_id: str, steps: Mapping[str, Step[..., Any]]) -> None:
        super().__init__()
        self.saga = saga
        self.saga_id = saga_id
        self.registry = steps
        self.state = SagaState.RUNNING
        self.steps: dict[str, Entry] = {}
        self.halted: dict[str, e.ErrorInfo] = {}
        self.cause: e.ErrorInfo | None = None
        self.result: bytes | None = None
        self._root: Fiber | None = None
        self.unnoted: tuple[c.Command, ...] = ()
        self._pending_stop: e.ErrorInfo | None = None

    # --- what a host calls -------------------------------------------------------------------------------------

    def apply(self, event: e.Event, at: float) -> list[c.Command]:
        """Takes a fact, runs the body on to where it waits again, and says what it wants done.

        Args:
            event: What happened.
            at: POSIX time at which it happened.

        Returns:
            New commands. They must not be carried out before the event is durable.

        Raises:
            IllegalTransition: The state does not allow the event; nothing was changed.
            PayloadError: The input does not fit the body.
            ReplayDiverged: While replaying: the body does not do what the journal says.
        """
        before, self.at, self._draft, self._ready = self.at, at, [], []
        try:
            _REACTIONS[type(event)](self, event)
        except (IllegalTransition, PayloadError):
            self.at = before
            raise
        return self._run()

    def outstanding(self) -> list[c.RunStep | c.RunUndo | c.RunLocal]:
        """Lists the commands that no event has answered, for a host that takes over."""
        return [
            replace(command, redelivered=True) if isinstance(command, c.RunStep) else command
            for command in self.open.values()
        ]

    @property
    def waiting(self) -> bool:
        """Whether only a timer, a signal or an operator can bring it on."""
        return not self.open and not self.state.ended

    @property
    def stopping(self) -> bool:
        """Whether the body is no longer run, so that no new attempt should start."""
        return self.state not in (
            SagaState.RUNNING,
            SagaState.PIVOTED,
            SagaState.RUNNING_STUCK,
            SagaState.PIVOTED_STUCK,
        )

    def may_attempt(self, path: str) -> bool:
        """Says whether another attempt of a step still makes sense."""
        entry = self.steps.get(path)
        return entry is not None and (not entry.stopped or (entry.doubt and entry.irrevocable))

    def can_cancel(self) -> bool:
        """Says whether a cancel would change anything."""
        return self.state in (SagaState.RUNNING, SagaState.RUNNING_STUCK) and self._pending_stop is None

    def check_signal(self, name: str, payload: bytes) -> None:
        """Makes sure that a signal fits whoever waits for it.

        Raises:
            PayloadError: It does not.
        """
        waiter = self._waiter(name)
        if waiter is not None and waiter.schema is not None:
            waiter.schema.decode(payload)

    def unread_signals(self) -> dict[str, int]:
        """Counts the signals that nobody has received yet, by name."""
        return {name: len(queue) for name, queue in (self._signals or {}).items() if queue}

    def awaited_signals(self) -> list[str]:
        """Lists the names of the signals that the body waits for."""
        return [wait.signal for wait in self._waits.values() if wait.kind == "receive"]

    def close(self) -> None:
        """Lets go of the body, without letting it start anything."""
        if self._root is not None:
            self._close(self._root)
            self._root = None

    # --- facts about the saga ----------------------------------------------------------------------------------

    def _started(self, event: e.SagaStarted) -> None:
        """Starts the body."""
        saga = self.saga
        if saga is None or self.key:
            raise IllegalTransition(self.state.value, "SagaStarted", f"saga {self.saga_id}")
        arguments = saga.arguments_schema.decode(event.input)
        self.key = event.key
        self._root = Fiber(saga.function(**arguments), "")
        if saga.timeout is not None:
            self._start_timer("", self.at + saga.timeout)
        self._wake(self._root)

    def _cancel_requested(self, event: e.CancelRequested) -> None:
        """Stops the body and undoes everything."""
        self._stop_saga(e.ErrorInfo(CANCELLED, event.reason))

    def _taken_over(self, _: e.SagaTakenOver | e.SagaResumed) -> None:
        """Notes nothing: who drives a saga, and with which code, changes nothing in it."""

    def _parked(self, event: e.SagaParked) -> None:
        """Notes nothing: a parked saga is not driven, and one that is driven again was mended."""

    def _signal_received(self, event: e.SignalReceived) -> None:
        """Gives a signal to whoever waits for it, or keeps it."""
        if self.state.ended:
            raise IllegalTransition(self.state.value, "SignalReceived", f"saga {self.saga_id}")
        waiter = self._waiter(event.name)
        if waiter is None:
            if self._signals is None:
                self._signals = {}
            self._signals.setdefault(event.name, deque()).append(event.payload)
            return
        self._forget(waiter.path)
        self._deliver(waiter.fiber, waiter.schema, event.payload)

    def _timer_fired(self, event: e.TimerFired) -> None:
        """Ends a pause or a timeout."""
        path = event.path
        if path not in self.timers:
            raise IllegalTransition(self.state.value, f"TimerFired({path!r}) without a timer", f"saga {self.saga_id}")
        if path == "":
            self._stop_saga(e.ErrorInfo(TIMED_OUT, f"the saga took longer than {self._timeout():g} s"))
            return
        entry, wait = self.steps.get(path), self._waits.get(path)
        if wait is not None:
            self._forget(path)
            self._wait_ended(wait)
        elif entry is not None:
            del self.timers[path]
            if entry.state is StepState.BACKING_OFF:
                entry.move(StepTrigger.WAKE)
                self._run_step(entry)
            else:
                entry.move(StepTrigger.UNDO_WAKE)
                self._run_undo(entry)

    def _timeout(self) -> float:
        """Gives the saga's own timeout, in seconds."""
        return (self.saga.timeout if self.saga else None) or 0.0

    def _wait_ended(self, wait: Wait) -> None:
        """Goes on after a timer."""
        if wait.kind == "sleep":
            self._wake(wait.fiber)
        elif wait.kind == "receive":
            self._wake(wait.fiber, error=ReceiveTimeout(f"no signal {wait.signal!r} came in time"))
        else:
            group = wait.fiber.group
            assert group is not None, "a child's timeout belongs to the group of the child"
            group.error = SagaTimeout(f"child saga at {group.path} took longer than its timeout")
            self._decide(group)

    # --- facts about steps -------------------------------------------------------------------------------------

    def _entry(self, path: str, trigger: str) -> Entry:
        """Finds a step.

        Raises:
            IllegalTransition: The saga never called one there.
        """
        entry = self.steps.get(path)
        if entry is None:
            raise IllegalTransition("not called", trigger, f"step {path}")
        return entry

    def _step_succeeded(self, event: e.StepSucceeded) -> None:
        """Gives a result to the body."""
        entry = self._entry(event.path, "StepSucceeded")
        entry.move(StepTrigger.SUCCEED)
        del self.open[event.path]
        entry.result = event.result
        entry.doubt = False
        entry.span = event.attempts[-1].span if event.attempts else ""
        if entry.pivot:
            self._pivot(entry)
        fiber, entry.fiber = entry.fiber, None
        if fiber is not None:
            self._deliver(fiber, entry.step.result_schema if entry.step else None, event.result)

    def _pivot(self, pivot: Entry) -> None:
        """Makes a pivot and everything that it follows final: from here the saga only goes forward."""
        self.state = next_saga(self.state, SagaTrigger.PIVOT, self.saga_id)
        for entry in self.steps.values():
            entry.final = entry.final or entry is pivot or follows(pivot.path, entry.path)
        self._pending_stop = None
        self.timers.pop("", None)

    def _step_ended(self, event: e.StepRejected | e.StepInDoubt) -> None:
        """Raises the failure of a step in the body, or parks the step if it can be neither undone nor given up."""
        wait = self._waits.get(event.path)
        if wait is not None and wait.kind == "local":
            del self._waits[event.path], self.open[event.path]
            self._wake(wait.fiber, error=revive(event.error, (), step="record", path=event.path, doubt=False))
            return
        entry = self._entry(event.path, type(event).__name__)
        if event.path not in self.open:
            raise IllegalTransition(entry.state.value, type(event).__name__, f"step {event.path}")
        doubt = isinstance(event, e.StepInDoubt)
        if self._needs_operator(entry, event.error, doubt=doubt):
            entry.move(StepTrigger.PARK)
            entry.doubt = doubt
            del self.open[event.path]
            self._halt(event.path, event.error)
            return
        entry.move(StepTrigger.DOUBT if doubt else StepTrigger.REJECT)
        entry.span = event.attempts[-1].span if event.attempts else ""
        del self.open[event.path]
        self._fail_step(entry, event.error, doubt=doubt)

    def _needs_operator(self, entry: Entry, error: e.ErrorInfo, *, doubt: bool) -> bool:
        """Says whether failing would leave only ways that are closed.

        After a pivot the saga can only go forward, so a step that merely did not work must work in the end; a
        declared rejection is an answer, which the body may handle. And a pivot in doubt lets it go neither way.
        """
        if doubt and entry.irrevocable:
            return True
        pivoted = self.state in (SagaState.PIVOTED, SagaState.PIVOTED_STUCK)
        return pivoted and not entry.stopped and (doubt or error.fields is None)

    def _fail_step(self, entry: Entry, error: e.ErrorInfo, *, doubt: bool) -> None:
        """Raises a failure in the body."""
        entry.doubt = doubt
        fiber, entry.fiber = entry.fiber, None
        if fiber is not None:
            raises: tuple[type[Exception], ...] = entry.step.raises if entry.step is not None else ()
            self._wake(fiber, error=revive(error, raises, step=entry.name, path=entry.path, doubt=doubt))
        self._stop_if_due()

    def _step_backed_off(self, event: e.StepBackedOff) -> None:
        """Waits for the next attempt with a timer."""
        entry = self._entry(event.path, "StepBackedOff")
        entry.move(StepTrigger.BACK_OFF)
        del self.open[event.path]
        entry.tried, entry.doubt = event.tried, event.doubt
        self._start_timer(event.path, event.until)
        if entry.stopped:
            self._stop_step(entry)

    def _step_retried(self, event: e.StepRetried) -> None:
        """Grants a parked step a new budget."""
        entry = self._entry(event.path, "StepRetried")
        entry.move(StepTrigger.RETRY)
        entry.tried = 0
        entry.scheduled_at = self.at
        self._release(event.path)
        self._run_step(entry)

    def _step_skipped(self, event: e.StepSkipped) -> None:
        """Takes an operator's word that a parked step did not act."""
        entry = self._entry(event.path, "StepSkipped")
        entry.move(StepTrigger.SKIP)
        self._release(event.path)
        self._fail_step(entry, e.ErrorInfo("skipped", event.reason), doubt=False)

    def _recorded(self, event: e.Recorded) -> None:
        """Gives a local value to the body."""
        wait = self._waits.get(event.path)
        if wait is None or wait.kind != "local":
            raise IllegalTransition("not asked for", "Recorded", f"value {event.path}")
        del self._waits[event.path], self.open[event.path]
        self._deliver(wait.fiber, wait.schema, event.result)

    # --- facts about undoing -----------------------------------------------------------------------------------

    def _undo_succeeded(self, event: e.UndoSucceeded) -> None:
        """Goes on with what stands before."""
        entry = self._entry(event.path, "UndoSucceeded")
        entry.move(StepTrigger.UNDO_SUCCEED)
        del self.open[event.path]
        self._undone(entry)

    def _undo_backed_off(self, event: e.UndoBackedOff) -> None:
        """Waits for the next attempt with a timer."""
        entry = self._entry(event.path, "UndoBackedOff")
        entry.move(StepTrigger.UNDO_BACK_OFF)
        del self.open[event.path]
        entry.tried = event.tried
        self._start_timer(event.path, event.until)

    def _undo_failed(self, event: e.UndoFailed) -> None:
        """Asks for an operator; what does not depend on this step is undone all the same."""
        entry = self._entry(event.path, "UndoFailed")
        entry.move(StepTrigger.UNDO_FAIL)
        del self.open[event.path]
        self._halt(event.path, event.error)

    def _undo_retried(self, event: e.UndoRetried) -> None:
        """Grants a compensator a new budget."""
        entry = self._entry(event.path, "UndoRetried")
        entry.move(StepTrigger.UNDO_RETRY)
        entry.tried = 0
        self._release(event.path)
        self._run_undo(entry)

    def _undo_skipped(self, event: e.UndoSkipped) -> None:
        """Takes an operator's word that nothing is left to undo."""
        entry = self._entry(event.path, "UndoSkipped")
        entry.move(StepTrigger.UNDO_SKIP)
        self._release(event.path)
        self._undone(entry)

    def _undone(self, entry: Entry) -> None:
        """Undoes whatever waited for this."""
        unwinding, entry.unwinding = entry.unwinding, None
        assert unwinding is not None, "only a rollback undoes steps"
        for path in unwinding.order.undone(entry.path):
            self._start_undo(self.steps[path], unwinding)
        if not unwinding.order.left:
            self._unwound(unwinding)

    def _unwound(self, unwinding: Unwinding) -> None:
        """Goes on after a rollback."""
        if unwinding.fiber is not None:
            self._wake(unwinding.fiber, unwinding.value, unwinding.error)
            return
        self.state = next_saga(self.state, SagaTrigger.UNDO, self.saga_id)
        self._end(c.Complete(None, self.cause))

    # --- moving the saga ---------------------------------------------------------------------------------------

    def _halt(self, path: str, error: e.ErrorInfo) -> None:
        """Asks for an operator."""
        self.state = next_saga(self.state, SagaTrigger.HALT, self.saga_id)
        self.halted[path] = error
        self._draft.append(c.Halt(path, error))

    def _release(self, path: str) -> None:
        """Notes that an operator acted."""
        self.halted.pop(path, None)
        if not self.halted:
            self.state = next_saga(self.state, SagaTrigger.RELEASE, self.saga_id)

    def _stop_saga(self, cause: e.ErrorInfo) -> None:
        """Stops the body, at once or when a pivot in flight has turned out not to act."""
        next_saga(self.state, SagaTrigger.STOP, self.saga_id)
        self.timers.pop("", None)
        if self._pivot_in_flight():
            self._pending_stop = cause
        else:
            self._stop_now(cause)

    def _pivot_in_flight(self) -> bool:
        """Says whether it is open which way the saga can go."""
        return any(entry.pivot and entry.state in _IN_FLIGHT for entry in self.steps.values())

    def _stop_if_due(self) -> None:
        """Stops the body, if that waited for a pivot which has turned out not to act."""
        if self._pending_stop is not None and not self._pivot_in_flight():
            self._stop_now(self._pending_stop)

    def _stop_now(self, cause: e.ErrorInfo) -> None:
        """Stops the body; the rollback starts when what is in flight has ended."""
        self.state = next_saga(self.state, SagaTrigger.STOP, self.saga_id)
        self.cause = cause
        self._pending_stop = None
        self.timers.pop("", None)
        if self._root is None:
            self._unwind("", None)
        else:
            self._stop(self._root)

    def _body_returned(self, value: object) -> None:
        """Completes the saga."""
        assert self.saga is not None, "only a definition has a body"
        try:
            result = self.saga.result_schema.encode(value)
        except PayloadError as error:
            self._body_failed(error)
            return
        self.state = next_saga(self.state, SagaTrigger.COMPLETE, self.saga_id)
        self.result = result
        self._end(c.Complete(result))

    def _body_failed(self, error: Exception) -> None:
        """Undoes the saga; after a pivot it can only wait for better code."""
        self.cause = describe(error)
        self.state = next_saga(self.state, SagaTrigger.FAIL, self.saga_id)
        self.timers.pop("", None)
        if self.state is SagaState.COMPENSATING:
            self._unwind("", None)
        else:
            self.halted[""] = self.cause
            self._draft.append(c.Halt("", self.cause))

    def _end(self, command: c.Complete) -> None:
        """Lets go of everything that only a living saga needs."""
        self._root = None
        self.timers.clear()
        self._draft.append(command)

    # --- steps and their undoing, for the body ----------------------------------------------------------------

    def _call_step(self, fiber: Fiber, path: str, step: Step[..., Any], arguments: bytes) -> None:
        """Schedules a step."""
        entry = Entry(path, step.name, step, arguments, self.at)
        entry.fiber = fiber
        fiber.waits_for = entry
        self.steps[path] = entry
        self._run_step(entry)

    def _run_step(self, entry: Entry) -> None:
        """Asks for attempts of a step."""
        command = c.RunStep(
            entry.path, entry.name, entry.step, entry.arguments, entry.scheduled_at, entry.tried, entry.doubt,
            pivot=entry.pivot, undoable=entry.has_undo,
        )  # fmt: skip
        self.open[entry.path] = command
        self._draft.append(command)

    def _run_undo(self, entry: Entry) -> None:
        """Asks for attempts of a compensator."""
        command = c.RunUndo(entry.path, entry.name, entry.step, entry.arguments, entry.result, entry.tried, entry.span)
        self.open[entry.path] = command
        self._draft.append(command)

    def _unwind(self, place: str, fiber: Fiber | None, *, value: object = None, error: Exception | None = None) -> bool:
        """Undoes what ran at a place, and lets a fiber go on afterwards (``None``: ends the saga).

        Returns:
            Whether there is anything to undo; if not, nobody is woken.
        """
        return self._unwind_entries([x for x in self.steps.values() if is_within(x.path, place)], fiber, value, error)

    def _unwind_entries(
        self, entries: Iterable[Entry], fiber: Fiber | None, value: object, error: Exception | None
    ) -> bool:
        """Undoes those of some steps that need it."""
        paths = [entry.path for entry in entries if entry.undoable]
        unwinding = Unwinding(UndoOrder(paths), fiber, value, error)
        if not paths:
            if fiber is None:
                self._unwound(unwinding)
            return False
        if fiber is not None:
            fiber.waits_for = unwinding
        for path in unwinding.order.first():
            self._start_undo(self.steps[path], unwinding)
        return True

    def _start_undo(self, entry: Entry, unwinding: Unwinding) -> None:
        """Undoes one step."""
        entry.move(StepTrigger.UNDO)
        entry.unwinding = unwinding
        entry.tried = 0
        self._run_undo(entry)

    def _unwind_losers(self, group: Group, value: object, error: Exception | None) -> bool:
        """Undoes what the losers of a race did."""
        losers = [f"{group.path}:{index}" for index in group.fibers if index != group.winner]
        entries = [x for x in self.steps.values() if any(is_within(x.path, loser) for loser in losers)]
        return self._unwind_entries(entries, group.owner, value, error)

    def _give_up(self, entry: Entry) -> None:
        """Ends a step that has no attempt in flight, because its branch was stopped."""
        entry.move(StepTrigger.DOUBT if entry.doubt else StepTrigger.REJECT)
        self.timers.pop(entry.path, None)
        if entry.path in self.halted:
            self._release(entry.path)
        fiber, entry.fiber = entry.fiber, None
        if fiber is not None:
            self._wake(fiber)
        self._stop_if_due()

    def _stop_step(self, entry: Entry) -> None:
        """Stops waiting for a step, unless its outcome is needed.

        It is needed while an attempt is in flight, and of a pivot in doubt that no compensator could take back.
        """
        needed = entry.doubt and entry.irrevocable
        if entry.state in (StepState.BACKING_OFF, StepState.PARKED) and not needed:
            self._give_up(entry)

    def _root_ended(self, value: object, error: Exception | None, *, stopped: bool) -> None:
        """Ends the saga, or starts its rollback."""
        if stopped:
            self._unwind("", None)
        elif error is not None:
            self._body_failed(error)
        else:
            self._body_returned(value)


_REACTIONS: dict[type[e.Event], Callable[[Execution, Any], None]] = {
    e.SagaStarted: Execution._started,
    e.StepSucceeded: Execution._step_succeeded,
    e.StepRejected: Execution._step_ended,
    e.StepInDoubt: Execution._step_ended,
    e.StepBackedOff: Execution._step_backed_off,
    e.StepRetried: Execution._step_retried,
    e.StepSkipped: Execution._step_skipped,
    e.Recorded: Execution._recorded,
    e.TimerFired: Execution._timer_fired,
    e.SignalReceived: Execution._signal_received,
    e.CancelRequested: Execution._cancel_requested,
    e.UndoSucceeded: Execution._undo_succeeded,
    e.UndoBackedOff: Execution._undo_backed_off,
    e.UndoFailed: Execution._undo_failed,
    e.UndoRetried: Execution._undo_retried,
    e.UndoSkipped: Execution._undo_skipped,
    e.SagaTakenOver: Execution._taken_over,
    e.SagaResumed: Execution._taken_over,
    e.SagaParked: Execution._parked,
}
