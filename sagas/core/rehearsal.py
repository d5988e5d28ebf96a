"""Tries, without acting, whether some code can go on with a journal, and whether it can undo what was done."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from sagas.core import commands as c
from sagas.core import events as e
from sagas.core.failures import one_line
from sagas.core.replay import abandon, replay
from sagas.core.transitions import SagaState, StepState
from sagas.errors import PayloadError, ReplayDiverged

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from sagas.core.definitions import Saga, Step
    from sagas.core.execution import Execution
    from sagas.core.fibers import Entry
    from sagas.core.records import Record

__all__ = ["Objection", "Rehearsal", "rehearse"]

_KEEP = "Keep it until these sagas have ended, or pass it in Coordinator(…, steps=[…])"
_ACCEPT = "Accept what was recorded: keep the names and types of parameters and results, give new ones a default"
_FIT = "Deploy code that fits its journal, or give the body a new version and keep the old one"
_STRICT = "If they must not, guard the change with `if await sagas.version(…)`"
_REHEARSED = e.ErrorInfo("rehearsal", "")


class Objection(NamedTuple):
    """Why a saga would not work out with some code.

    Attributes:
        when: ``forward`` or ``rollback``.
        operation: The first that is concerned; ``""`` if it is none.
        reason: What is wrong.
        remedy: What to do.
    """

    when: str
    operation: str
    reason: str
    remedy: str


class Rehearsal(NamedTuple):
    """What came of trying.

    Attributes:
        objections: Why the saga would not go on, or not be undone; empty if it would.
        notes: What is different, but does not stop it.
        halted: Why it waits for better code all the same; ``None`` if it does not.
    """

    objections: tuple[Objection, ...]
    notes: tuple[Objection, ...]
    halted: str | None


def rehearse(
    saga: Saga[..., Any] | None, saga_id: str, steps: Mapping[str, Step[..., Any]], records: Sequence[Record]
) -> Rehearsal:
    """Replays a journal to its end, undoes it from there, and undoes it from the journal alone; nothing is called.

    Args:
        saga: Its definition. Not needed for a saga that was cancelled while parked.
        saga_id: Its id.
        steps: Step definitions by name.
        records: The whole journal, in order.
    """
    execution, found = _replayed(saga, saga_id, steps, records)
    notes = [one for one in found if execution is not None]
    objections = [] if notes else found
    halted: str | None = None
    known = dict(steps)
    if execution is not None:
        # A body may call steps that it sees only through another name, as in `shop.ship(…)`.
        known = {entry.name: entry.step for entry in execution.steps.values() if entry.step is not None} | known
        halted = one_line(execution.halted[""]) if "" in execution.halted else None
        objections += _objections_to_steps(execution)
        objections += _rolled_back(execution)
        execution.close()
    objections += _rolled_back(abandon(saga_id, known, records))
    return Rehearsal(tuple(dict.fromkeys(objections)), tuple(notes), halted)


def _replayed(
    saga: Saga[..., Any] | None, saga_id: str, steps: Mapping[str, Step[..., Any]], records: Sequence[Record]
) -> tuple[Execution | None, list[Objection]]:
    """Replays a journal: strictly, or else with the arguments that it has; and says what differs."""
    try:
        return replay(saga, saga_id, steps, records, strict=True), []
    except Exception as strict:
        try:
            execution = replay(saga, saga_id, steps, records)
        except Exception as error:
            return None, [_diverged(error)]
        return execution, [_other_arguments(strict, records)]


def _diverged(error: Exception) -> Objection:
    """Explains why a replay failed; a changed body may raise anything."""
    if isinstance(error, ReplayDiverged):
        return Objection("forward", error.path, error.reason, error.advice or _FIT)
    if isinstance(error, PayloadError):
        return Objection("forward", "", str(error), _ACCEPT)
    return Objection("forward", "", one_line(error), _FIT)


def _other_arguments(strict: Exception, records: Sequence[Record]) -> Objection:
    """Explains that a body calls a step otherwise than it did, without the values, which differ for every saga."""
    path = getattr(strict, "path", "")
    names = {x.path: x.name for record in records for x in record.commands if isinstance(x, c.RunStep)}
    told = f"the body now calls {names.get(path, 'a step')} with other arguments; the recorded ones hold"
    return Objection("forward", path, told, _STRICT)


def _objections_to_steps(execution: Execution) -> list[Objection]:
    """Says which steps that are under way could not be attempted again."""
    if execution.stopping:
        return []
    again = (StepState.SCHEDULED, StepState.BACKING_OFF, StepState.PARKED)
    return [
        objection
        for entry in execution.steps.values()
        if entry.state in again and (objection := _objection_to_step(entry)) is not None
    ]


def _objection_to_step(entry: Entry) -> Objection | None:
    """Says why a step could not be attempted again."""
    if entry.step is None:
        return Objection("forward", entry.path, f"the code has no step {entry.name}, which is under way", _KEEP)
    try:
        entry.step.arguments_schema.decode(entry.arguments)
    except PayloadError as error:
        return Objection("forward", entry.path, str(error), _ACCEPT)
    return None


def _rolled_back(execution: Execution) -> list[Objection]:
    """Undoes a saga, and says which steps could not be undone; of one past its pivot, only what is being undone."""
    if execution.can_cancel():
        execution.apply(e.CancelRequested("rehearsal"), execution.at)
    final = execution.state in (SagaState.PIVOTED, SagaState.PIVOTED_STUCK)
    undos = [x for x in execution.open.values() if isinstance(x, c.RunUndo)] if final else _undos(execution)
    found = [objection for undo in undos if (objection := _objection_to_undo(undo)) is not None]
    execution.close()
    return found


def _objection_to_undo(command: c.RunUndo) -> Objection | None:
    """Says why a step could not be undone."""
    step, path = command.step, command.path
    if step is None:
        return Objection("rollback", path, f"the code has no step {command.name}, which would be undone", _KEEP)
    if step.undo is None:
        return Objection("rollback", path, f"step {command.name} has no compensator any more", _KEEP)
    try:
        step.arguments_schema.decode(command.arguments)
        if step.undo.wants_result and command.result is not None:
            step.result_schema.decode(command.result)
    except PayloadError as error:
        return Objection("rollback", path, str(error), _ACCEPT)
    return None


def _undos(execution: Execution) -> Iterator[c.RunUndo]:
    """Plays a rollback to its end: nobody knows whether what is in flight acted, and every undo works."""
    while not execution.state.ended:
        event = _next(execution)
        if event is None:
            return
        command = execution.open.get(getattr(event, "path", ""))
        if isinstance(command, c.RunUndo):
            yield command
        execution.apply(event, execution.at)


def _next(execution: Execution) -> e.Event | None:
    """Makes up what happens next in a rollback; ``None`` if nothing can."""
    # Pivots first: the body is stopped only when it is known that none of them acted.
    for entry in sorted(execution.steps.values(), key=lambda x: not x.pivot):
        event = _outcome(entry)
        if event is not None:
            return event
    return next((e.StepRejected(path, _REHEARSED) for path in execution.open), None)  # a local value


def _outcome(entry: Entry) -> e.Event | None:
    """Makes up what becomes of a step, or of its undo; ``None`` if nothing is under way."""
    match entry.state, entry.pivot:
        case StepState.SCHEDULED, False:
            return e.StepInDoubt(entry.path, _REHEARSED)
        case StepState.SCHEDULED, True:
            return e.StepRejected(entry.path, _REHEARSED)
        case (StepState.BACKING_OFF, True) | (StepState.UNDO_BACKING_OFF, _):
            return e.TimerFired(entry.path)
        case StepState.PARKED, True:
            return e.StepSkipped(entry.path, "rehearsal", "")
        case StepState.UNDOING, _:
            return e.UndoSucceeded(entry.path)
        case StepState.UNDO_FAILED, _:
            return e.UndoRetried(entry.path, "")
        case _:
            return None
