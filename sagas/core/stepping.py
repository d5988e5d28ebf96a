"""The steps that a body calls: their outcomes, and how they are undone."""

from __future__ import annotations

from abc import abstractmethod
from typing import TYPE_CHECKING, Any

from sagas.core import commands as c
from sagas.core import events as e
from sagas.core.attempts import last_span
from sagas.core.driver import Driver
from sagas.core.failures import revive
from sagas.core.fibers import Entry, Fiber, Group, Unwinding
from sagas.core.paths import is_within
from sagas.core.rollback import UndoOrder
from sagas.core.transitions import SagaState, StepState, StepTrigger
from sagas.errors import IllegalTransition

if TYPE_CHECKING:
    from collections.abc import Iterable

    from sagas.core.definitions import Step

__all__ = ["Stepping"]


class Stepping(Driver):
    """A body with the steps that it called.

    Attributes:
        state: Where the saga stands.
        steps: The steps it called, by path, in the order of the calls.
        halted: Why it needs an operator, by path (``""``: the body itself).
    """

    __slots__ = ("halted", "state", "steps")

    def __init__(self) -> None:
        super().__init__()
        self.state = SagaState.RUNNING
        self.steps: dict[str, Entry] = {}
        self.halted: dict[str, e.ErrorInfo] = {}

    # --- what steps tell the saga -------------------------------------------------------------------------------

    @abstractmethod
    def _pivot(self, pivot: Entry) -> None: ...

    @abstractmethod
    def _halt(self, path: str, error: e.ErrorInfo) -> None: ...

    @abstractmethod
    def _release(self, path: str) -> None: ...

    @abstractmethod
    def _stop_if_due(self) -> None: ...

    @abstractmethod
    def _rolled_back(self) -> None: ...

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
        entry = self.steps.get(event.path) or self._entry(event.path, "StepSucceeded")
        entry.move(StepTrigger.SUCCEED)
        del self.open[event.path]
        entry.result = event.result
        entry.doubt = False
        entry.span = last_span(event.attempts) or entry.span
        if entry.pivot:
            self._pivot(entry)
        fiber, entry.fiber = entry.fiber, None
        if fiber is not None:
            self._deliver(fiber, entry.step.result_schema if entry.step else None, event.result)

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
        entry.span = last_span(event.attempts) or entry.span
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
        entry.span = last_span(event.attempts) or entry.span
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
        if unwinding.fiber is None:
            self._rolled_back()
        else:
            self._wake(unwinding.fiber, unwinding.value, unwinding.error)

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

    def _pause_ended(self, entry: Entry) -> None:
        """Asks for the next attempt of a step, or of its compensator."""
        if entry.state is StepState.BACKING_OFF:
            entry.move(StepTrigger.WAKE)
            self._run_step(entry)
        else:
            entry.move(StepTrigger.UNDO_WAKE)
            self._run_undo(entry)

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
