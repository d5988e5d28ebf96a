"""A saga as people see it: made from its journal alone, so that no code of the saga is needed."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from pydantic_core import from_json

from sagas.core import commands as c
from sagas.core import events as e
from sagas.core.failures import one_line
from sagas.core.operations import utc
from sagas.errors import JournalCorrupted

if TYPE_CHECKING:
    from datetime import datetime

    from sagas.coordinator.fleet import Fleet
    from sagas.coordinator.loading import History
    from sagas.core.records import Record
    from sagas.stores.port import SagaRow

__all__ = ["AttemptView", "Happening", "LockView", "SagaSummary", "SagaView", "StepView", "summary_of", "view_of"]


@dataclass(frozen=True, slots=True, kw_only=True)
class SagaSummary:
    """One line about a saga.

    Attributes:
        id: Its id.
        name: Of its definition.
        version: Of its definition.
        status: ``running``, ``compensating``, ``stuck``, ``completed`` or ``compensated``.
        waiting: Whether it only waits for a timer, a signal or an operator.
        created_at: When it started.
        ended_at: When it ended.
        wake_at: When its next timer fires, if it only waits.
        error: Why it did not complete, or is stuck.
        waits_for: What it lacks, if no coordinator drives it: ``code of place_order version 1``, where none that is
            alive has that, or ``a coordinator``.
    """

    id: str
    name: str
    version: str
    status: str
    waiting: bool
    created_at: datetime
    ended_at: datetime | None
    wake_at: datetime | None
    error: str | None
    waits_for: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class AttemptView:
    """One try; ``seconds`` is how long it took, ``error`` what it raised."""

    started_at: datetime
    seconds: float
    error: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class StepView:
    """A step.

    Attributes:
        path: Its place.
        name: Of its definition.
        state: As in ``StepState``: ``scheduled``, ``succeeded``, ``in doubt``, ``undone``, …
        arguments: As JSON's types.
        result: As JSON's types.
        scheduled_at: When the body called it.
        ended_at: When it had an outcome.
        attempts: Of the step.
        undo_attempts: Of its compensator.
        error: Why it failed, or why its undo did.
    """

    path: str
    name: str
    state: str
    arguments: object
    result: object
    scheduled_at: datetime
    ended_at: datetime | None
    attempts: tuple[AttemptView, ...]
    undo_attempts: tuple[AttemptView, ...]
    error: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class LockView:
    """A lock that the saga holds or waits for.

    Attributes:
        name: Of the lock.
        path: The operation that asked for it.
        held: Whether the saga holds it; if not, it waits.
        since: When it began to hold it, or to wait.
    """

    name: str
    path: str
    held: bool
    since: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Happening:
    """One line of a timeline.

    Attributes:
        seq: Number of the record.
        at: When.
        what: ``step succeeded``, ``undo failed``, ``signal received``, …
        path: The operation it is about.
        step: Its name, or that of the lock.
        seconds: How long it took.
        attempts: How many there were.
        detail: Result, error or reason, on one line.
    """

    seq: int
    at: datetime
    what: str
    path: str
    step: str
    seconds: float | None
    attempts: tuple[AttemptView, ...]
    detail: str


@dataclass(frozen=True, slots=True, kw_only=True)
class SagaView(SagaSummary):
    """Everything about a saga.

    Attributes:
        input: Its arguments, as JSON's types.
        result: What it returned, as JSON's types.
        cause: Why it did not complete: the exception's type and text.
        traceback: Where the cause was raised, for people.
        steps: In the order of their calls.
        locks: Those that it holds or waits for now.
        timeline: Every record.
        trace: W3C ``traceparent`` of its root span; empty when it is not traced.
    """

    input: object
    result: object
    cause: str | None
    traceback: str
    steps: tuple[StepView, ...]
    locks: tuple[LockView, ...]
    timeline: tuple[Happening, ...]
    trace: str


def summary_of(row: SagaRow, fleet: Fleet) -> SagaSummary:
    """Describes a row."""
    return SagaSummary(**_common(row, fleet))  # type: ignore[arg-type]  # the fields of the very same class


def _common(row: SagaRow, fleet: Fleet) -> dict[str, object]:
    """Collects what summaries and views share."""
    return {
        "id": row.id,
        "name": row.name,
        "version": row.version,
        "status": row.status,
        "waiting": row.ended_at is None and not row.active,
        "created_at": utc(row.created_at),
        "ended_at": None if row.ended_at is None else utc(row.ended_at),
        "wake_at": None if row.wake_at is None else utc(row.wake_at),
        "error": row.error,
        "waits_for": fleet.waits_for(row),
    }


class _Story:
    """Collects what the records say about each step."""

    def __init__(self) -> None:
        self.steps: dict[str, dict[str, object]] = {}
        self.names: dict[str, str] = {}
        self.locks: dict[str, LockView] = {}
        self.cause: e.ErrorInfo | None = None
        self.result: object = None

    def take(self, record: Record) -> None:
        """Takes one record into account."""
        event = record.event
        step = self.steps.get(getattr(event, "path", ""))
        if step is not None:
            self._take_outcome(step, event, record.at)
        elif isinstance(event, (e.LockGranted, e.LockRefused)):
            self._take_answer(event, record.at)
        for command in record.commands:
            self._take_command(command, record.at)

    def _take_answer(self, event: e.LockGranted | e.LockRefused, at: float) -> None:
        """Takes an event about a lock."""
        lock = self.locks.pop(self.names.get(event.path, ""), None)
        if lock is not None and isinstance(event, e.LockGranted):
            self.locks[lock.name] = replace(lock, held=True, since=utc(at))

    def _take_outcome(self, step: dict[str, object], event: e.Event, at: float) -> None:
        """Takes an event about a step."""
        step["state"] = _STATES.get(type(event), step["state"])
        attempts = tuple(_attempt(x) for x in getattr(event, "attempts", ()))
        undoing = type(event).__name__.startswith("Undo")
        key = "undo_attempts" if undoing else "attempts"
        step[key] = (*step[key], *attempts)  # type: ignore[misc]  # always a tuple
        if isinstance(event, e.StepSucceeded):
            step["result"] = from_json(event.result)
        if isinstance(event, (e.StepSucceeded, e.StepRejected, e.StepInDoubt)):
            step["ended_at"] = utc(at)
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
                    "arguments": from_json(command.arguments), "result": None, "scheduled_at": utc(at),
                    "ended_at": None, "attempts": (), "undo_attempts": (), "error": None,
                }  # fmt: skip
            case c.RunUndo():
                self.steps[command.path]["state"] = "undoing"
            case c.TakeLock():
                self.names[command.path] = command.name
                self.locks[command.name] = LockView(name=command.name, path=command.path, held=False, since=utc(at))
            case c.FreeLock():
                self.locks.pop(command.name, None)
            case c.Complete():
                self.locks.clear()
                self.cause = command.cause
                self.result = None if command.result is None else from_json(command.result)
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


def _attempt(attempt: e.Attempt) -> AttemptView:
    """Describes an attempt."""
    return AttemptView(started_at=utc(attempt.started), seconds=attempt.seconds, error=attempt.error)


def view_of(row: SagaRow, history: History, fleet: Fleet) -> SagaView:
    """Describes a saga.

    Args:
        row: As it was read.
        history: As it was read after the row, so that it is at least as long.
        fleet: Who is alive.

    Raises:
        JournalCorrupted: The saga has ended and its journal has not: its last records were removed.
    """
    if row.ended_at is not None and not any(isinstance(x, c.Complete) for r in history.records for x in r.commands):
        raise JournalCorrupted(
            f"saga {row.id}: it has ended ({row.status}), but the end of its journal is missing. Restore the journal "
            "from a backup"
        )
    story = _Story()
    lines: list[Happening] = []
    for record in history.records:
        story.take(record)
        lines.extend(_lines(record, story.names))
    cause = story.cause
    return SagaView(
        **_common(row, fleet),  # type: ignore[arg-type]  # the fields of the base class
        input=from_json(history.start.input),
        result=story.result,
        cause=None if cause is None else one_line(cause),
        traceback="" if cause is None else cause.traceback,
        steps=tuple(StepView(**step) for step in story.steps.values()),  # type: ignore[arg-type]  # built above
        locks=tuple(story.locks.values()),
        timeline=tuple(lines),
        trace=history.start.trace,
    )


def _lines(record: Record, names: dict[str, str]) -> list[Happening]:
    """Tells one record: its event, and how the saga ended if it did."""
    event = record.event
    path = getattr(event, "path", "")
    attempts = tuple(_attempt(x) for x in getattr(event, "attempts", ()))
    lines = [
        Happening(
            seq=record.seq,
            at=utc(record.at),
            what=_words(type(event).__name__, path),
            path=path,
            step=names.get(path, ""),
            seconds=sum(x.seconds for x in attempts) if attempts else None,
            attempts=attempts,
            detail=_detail(event),
        )
    ]
    for command in record.commands:
        ending = _ending(command)
        if ending is not None:
            what, where, detail = ending
            lines.append(
                Happening(
                    seq=record.seq, at=utc(record.at), what=what, path=where, step=names.get(where, ""), seconds=None,
                    attempts=(), detail=detail,
                )
            )  # fmt: skip
    return lines


def _ending(command: c.Command) -> tuple[str, str, str] | None:
    """Tells how a saga ended or halted."""
    match command:
        case c.Complete(result=None):
            return "saga compensated", "", "" if command.cause is None else one_line(command.cause)
        case c.Complete():
            return "saga completed", "", (command.result or b"").decode()
        case c.Halt():
            return "saga stuck", command.path, one_line(command.error)
        case _:
            return None


def _words(name: str, path: str) -> str:
    """Turns ``StepBackedOff`` into ``step backed off``."""
    if name == "TimerFired" and not path:
        return "saga timed out"
    return "".join(f" {letter.lower()}" if letter.isupper() else letter for letter in name).strip()


def _detail(event: e.Event) -> str:
    """Picks what is worth a line."""
    match event:
        case e.SagaStarted() | e.SagaSubmitted():
            return event.input.decode()
        case e.StepSucceeded() | e.Recorded():
            return event.result.decode()
        case e.SignalReceived():
            return f"{event.name} {event.payload.decode()}"
        case e.LockRefused():
            return event.reason
        case e.CancelRequested() | e.StepSkipped() | e.UndoSkipped():
            return event.reason + (f" (by {event.by})" if event.by else "")
        case e.StepRetried() | e.UndoRetried() | e.SagaResumed():
            return f"by {event.by}" if event.by else ""
        case e.SagaTakenOver():
            return f"by coordinator {event.owner}"
        case (
            e.StepRejected() | e.StepInDoubt() | e.StepBackedOff() | e.UndoBackedOff() | e.UndoFailed() | e.SagaParked()
        ):
            return one_line(event.error)
        case _:
            return ""
