"""Puts together from a journal what became of each step."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from pydantic_core import from_json

from sagas.coordinator.views import AttemptView, Decision, LockView, SignalView
from sagas.core import commands as c
from sagas.core import events as e
from sagas.core.failures import one_line
from sagas.core.operations import utc

if TYPE_CHECKING:
    from collections.abc import Mapping

    from sagas.core.records import Record
    from sagas.core.secrets import Mask

__all__ = ["Story", "attempt_of", "decision_of"]


class Story:
    """Collects what the records say about each step.

    Args:
        name: Of the saga.
        mask: What is not shown.

    Attributes:
        begins: Whether the last record is the first takeover of a saga that was only submitted: nobody had it before.
    """

    def __init__(self, name: str, mask: Mask) -> None:
        self.name = name
        self._mask = mask
        self.steps: dict[str, dict[str, object]] = {}
        self.names: dict[str, str] = {}
        self.locks: dict[str, LockView] = {}
        self.signals: dict[str, SignalView] = {}
        self.cause: e.ErrorInfo | None = None
        self.result: object = None
        self.decisions: list[Decision] = []
        self.begins = False
        self._submitted = False

    def take(self, record: Record) -> None:
        """Takes one record into account."""
        event = record.event
        self.begins = self._submitted and isinstance(event, e.SagaTakenOver)
        self._submitted = isinstance(event, e.SagaSubmitted) or (self._submitted and not self.begins)
        step = self.steps.get(getattr(event, "path", ""))
        decision = decision_of(record, self.names)
        if decision is not None:
            self.decisions.append(decision)
        if step is not None:
            self._take_outcome(step, event, record.at)
            step["decision"] = decision or step["decision"]
        elif isinstance(event, (e.LockGranted, e.LockRefused)):
            self._take_answer(event, record.at)
        for command in record.commands:
            self._take_command(command, record.at)
        if record.awaits is not None:
            self._take_awaits(record)

    def _take_awaits(self, record: Record) -> None:
        """Takes which signals the body waits for from here on; one that it has waited for is known already."""
        timers = {x.path: utc(x.until) for x in record.commands if isinstance(x, c.StartTimer)}
        before = self.signals
        self.signals = {
            path: before.get(path)
            or SignalView(name=name, path=path, since=utc(record.at), type=kind, until=timers.get(path))
            for path, (name, kind) in (record.awaits or {}).items()
        }

    def _take_answer(self, event: e.LockGranted | e.LockRefused, at: float) -> None:
        """Takes an event about a lock."""
        lock = self.locks.pop(self.names.get(event.path, ""), None)
        if lock is not None and isinstance(event, e.LockGranted):
            self.locks[lock.name] = replace(lock, held=True, since=utc(at))

    def _take_outcome(self, step: dict[str, object], event: e.Event, at: float) -> None:
        """Takes an event about a step."""
        step["state"] = _STATES.get(type(event), step["state"])
        attempts = tuple(attempt_of(x) for x in getattr(event, "attempts", ()))
        undoing = type(event).__name__.startswith("Undo")
        key = "undo_attempts" if undoing else "attempts"
        step[key] = (*step[key], *attempts)  # type: ignore[misc]  # always a tuple
        if isinstance(event, e.StepSucceeded):
            step["result"] = self._mask.result(str(step["name"]), from_json(event.result))
        if isinstance(event, (e.StepSucceeded, e.StepRejected, e.StepInDoubt, e.StepSkipped)):
            step["ended_at"] = utc(at)
            step["outcome"] = _STATES[type(event)]
        if isinstance(event, (e.UndoSucceeded, e.UndoSkipped)):
            step["undo_ended_at"] = utc(at)
        until = getattr(event, "until", None)
        step["retry_at"] = None if until is None else utc(until)
        error = getattr(event, "error", None)
        if isinstance(error, e.ErrorInfo):
            step["error"] = one_line(error)

    def _take_command(self, command: c.Command, at: float) -> None:
        """Takes a command into account."""
        match command:
            case c.RunStep():
                self.names[command.path] = command.name
                again = self.steps.get(command.path)
                if again is not None:
                    again["state"] = "scheduled"
                    return
                self.steps[command.path] = {
                    "path": command.path, "name": command.name, "state": "scheduled",
                    "arguments": self._mask.value(from_json(command.arguments)), "result": None,
                    "scheduled_at": utc(at), "ended_at": None, "attempts": (), "undo_attempts": (), "error": None,
                    "outcome": None, "pivot": command.pivot, "undoable": command.undoable, "undo_started_at": None,
                    "undo_ended_at": None, "retry_at": None, "decision": None,
                }  # fmt: skip
            case c.RunUndo():
                undone = self.steps[command.path]
                undone["state"] = "undoing"
                undone["undo_started_at"] = undone["undo_started_at"] or utc(at)
            case c.TakeLock():
                self.names[command.path] = command.name
                self.locks[command.name] = LockView(name=command.name, path=command.path, held=False, since=utc(at))
            case c.FreeLock():
                self.locks.pop(command.name, None)
            case c.Complete():
                self.locks.clear()
                self.signals.clear()
                self.cause = command.cause
                if command.result is not None:
                    self.result = self._mask.result(self.name, from_json(command.result))
            case c.Halt():
                self.cause = command.error
                if command.path in self.steps:
                    parked = self.steps[command.path]
                    parked["state"] = "undo failed" if parked["state"] == "undo failed" else "parked"
            case _:
                pass


_STATES: dict[type[e.Event], str] = {
    e.StepSucceeded: "succeeded",
    e.StepRejected: "rejected",
    e.StepInDoubt: "in doubt",
    e.StepBackedOff: "backing off",
    e.StepRetried: "scheduled",
    e.StepSkipped: "rejected",
    e.UndoSucceeded: "undone",
    e.UndoBackedOff: "undo backing off",
    e.UndoFailed: "undo failed",
    e.UndoRetried: "undoing",
    e.UndoSkipped: "undo skipped",
}


def attempt_of(attempt: e.Attempt) -> AttemptView:
    """Describes an attempt."""
    return AttemptView(started_at=utc(attempt.started), seconds=attempt.seconds, error=attempt.error)


def decision_of(record: Record, names: Mapping[str, str]) -> Decision | None:
    """Says what somebody had done, if a record is about that."""
    event, path = record.event, getattr(record.event, "path", "")
    what = f"signalled {event.name}" if isinstance(event, e.SignalReceived) else _DECISIONS.get(type(event))
    if what is None:
        return None
    by, reason = getattr(event, "by", ""), getattr(event, "reason", "")
    return Decision(
        what=what, by=by, reason=reason, at=utc(record.at), seq=record.seq, path=path, step=names.get(path, "")
    )


_DECISIONS: dict[type[e.Event], str] = {
    e.CancelRequested: "cancelled",
    e.StepRetried: "retried",
    e.UndoRetried: "retried",
    e.StepSkipped: "skipped",
    e.UndoSkipped: "skipped",
    e.SagaResumed: "resumed",
}
