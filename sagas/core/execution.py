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
from sagas.core.failures import describe
from sagas.core.fibers import Entry, Fiber, Wait
from sagas.core.locks import LockWait
from sagas.core.paths import follows
from sagas.core.stepping import Stepping
from sagas.core.transitions import SagaState, SagaTrigger, StepState, next_saga
from sagas.errors import IllegalTransition, PayloadError, ReceiveTimeout, SagaTimeout

if TYPE_CHECKING:
    from collections.abc import Mapping

    from sagas.core.definitions import Saga, Step

__all__ = ["CANCELLED", "TIMED_OUT", "Execution"]

CANCELLED = "cancelled"
TIMED_OUT = "timed out"

_IN_FLIGHT = (StepState.SCHEDULED, StepState.BACKING_OFF, StepState.PARKED)


class Execution(Stepping):
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
        tickets: The locks that it holds or waits for, by name; what is left when it ends is released by the host.
        halted: Why it needs an operator, by path (``""``: the body itself).
        cause: Why it did not complete.
        result: What it returned, as JSON.
        unnoted: After a replay with mended code, the commands that the journal does not note yet; a host that
            resumes the saga records them with ``SagaResumed``.
    """

    __slots__ = (
        "_pending_stop",
        "_root",
        "_submitted_with",
        "cause",
        "registry",
        "result",
        "saga",
        "saga_id",
        "unnoted",
    )

    def __init__(self, saga: Saga[..., Any] | None, saga_id: str, steps: Mapping[str, Step[..., Any]]) -> None:
        super().__init__()
        self.saga = saga
        self.saga_id = saga_id
        self.registry = steps
        self.cause: e.ErrorInfo | None = None
        self.result: bytes | None = None
        self._root: Fiber | None = None
        self._submitted_with: Mapping[str, object] | None = None
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
        """Whether only a timer, a signal, a lock or an operator can bring it on."""
        return not self.open and not self.state.ended

    @property
    def body(self) -> Fiber | None:
        """The strand of the body itself, for messages; ``None`` when it has ended."""
        return self._root

    @property
    def submitted(self) -> bool:
        """Whether its body waits for the first coordinator that takes it over."""
        return self._submitted_with is not None and not self.stopping

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
        if entry is None:
            return False
        fiber = entry.fiber
        return (fiber is not None and not fiber.stopped) or (entry.doubt and entry.irrevocable)

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

    def awaited_type(self, name: str) -> object:
        """Gives the type of the signal that somebody waits for; ``object`` if there is none."""
        waiter = self._waiter(name)
        return object if waiter is None or waiter.schema is None else waiter.schema.annotation

    def awaited_signals(self) -> list[str]:
        """Lists the names of the signals that the body waits for."""
        return list(self.receives().values())

    def receives(self) -> dict[str, str]:
        """Names the signals that the body waits for, by the places at which it does."""
        return {path: wait.signal for path, wait in self._waits.items() if wait.kind == "receive"}

    @property
    def waits(self) -> Mapping[str, Wait]:
        """What the body waits for other than steps, by path."""
        return self._waits

    def close(self) -> None:
        """Lets go of the body, without letting it start anything."""
        if self._root is not None:
            self._close(self._root)
            self._root = None

    # --- facts about the saga ----------------------------------------------------------------------------------

    def _started(self, event: e.SagaStarted) -> None:
        """Starts the body."""
        self._start_body(self._begin(event))

    def _submitted(self, event: e.SagaSubmitted) -> None:
        """Keeps the input for whoever takes the saga over; its time runs from here."""
        self._submitted_with = self._begin(event)

    def _begin(self, event: e.SagaStarted | e.SagaSubmitted) -> Mapping[str, object]:
        """Takes the first fact of a saga, and gives its arguments."""
        saga = self.saga
        if saga is None or self.key:
            raise IllegalTransition(self.state.value, type(event).__name__, f"saga {self.saga_id}")
        arguments = saga.arguments_schema.decode(event.input)
        self.key = event.key
        if saga.timeout is not None:
            self._start_timer("", self.at + saga.timeout)
        return arguments

    def _start_body(self, arguments: Mapping[str, object]) -> None:
        """Starts the body."""
        assert self.saga is not None, "it has begun with its definition"
        self._root = Fiber(self.saga.function(**arguments), "")
        self._wake(self._root)

    def _cancel_requested(self, event: e.CancelRequested) -> None:
        """Stops the body and undoes everything."""
        self._stop_saga(e.ErrorInfo(CANCELLED, event.reason))

    def _taken_over(self, _: e.SagaTakenOver | e.SagaResumed) -> None:
        """Starts a body that was only submitted; else who drives a saga, and with which code, changes nothing in it."""
        arguments, self._submitted_with = self._submitted_with, None
        if arguments is not None and not self.stopping:
            self._start_body(arguments)

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
            self._pause_ended(entry)

    def _timeout(self) -> float:
        """Gives the saga's own timeout, in seconds."""
        return (self.saga.timeout if self.saga else None) or 0.0

    def _wait_ended(self, wait: Wait) -> None:
        """Goes on after a timer."""
        if wait.kind == "sleep":
            self._wake(wait.fiber)
        elif isinstance(wait, LockWait):
            self._lock_timed_out(wait)
        elif wait.kind == "receive":
            self._wake(wait.fiber, error=ReceiveTimeout(f"no signal {wait.signal!r} came in time"))
        else:
            group = wait.fiber.group
            assert group is not None, "a child's timeout belongs to the group of the child"
            group.error = SagaTimeout(f"child saga at {group.path} took longer than its timeout")
            self._decide(group)

    # --- moving the saga ---------------------------------------------------------------------------------------

    def _pivot(self, pivot: Entry) -> None:
        """Makes a pivot and everything that it follows final: from here the saga only goes forward."""
        self.state = next_saga(self.state, SagaTrigger.PIVOT, self.saga_id)
        for entry in self.steps.values():
            entry.final = entry.final or entry is pivot or follows(pivot.path, entry.path)
        self._pending_stop = None
        self.timers.pop("", None)

    def _rolled_back(self) -> None:
        """Ends the saga."""
        self.state = next_saga(self.state, SagaTrigger.UNDO, self.saga_id)
        self._end(c.Complete(None, self.cause))

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
            self._release_idle()
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
            # The failure went through blocks that hold locks. Better code may still be inside, so all stays as it was.
            self._draft = [x for x in self._draft if not isinstance(x, (c.TakeLock, c.FreeLock))]
            self._draft.append(c.Halt("", self.cause))

    def _end(self, command: c.Complete) -> None:
        """Lets go of everything that only a living saga needs."""
        self._root = None
        self.timers.clear()
        self._draft.append(command)

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
    e.SagaSubmitted: Execution._submitted,
    e.StepSucceeded: Execution._step_succeeded,
    e.StepRejected: Execution._step_ended,
    e.StepInDoubt: Execution._step_ended,
    e.StepBackedOff: Execution._step_backed_off,
    e.StepRetried: Execution._step_retried,
    e.StepSkipped: Execution._step_skipped,
    e.Recorded: Execution._recorded,
    e.TimerFired: Execution._timer_fired,
    e.SignalReceived: Execution._signal_received,
    e.LockGranted: Execution._lock_granted,
    e.LockRefused: Execution._lock_refused,
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
