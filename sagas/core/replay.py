"""Brings a saga back from its journal: feeds the records to a fresh execution, and checks that they fit."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sagas.core import commands as c
from sagas.core import events as e
from sagas.core.attempts import last_span
from sagas.core.execution import Execution
from sagas.core.failures import one_line
from sagas.core.fibers import Entry
from sagas.core.locks import Lock
from sagas.core.recording import Recording
from sagas.core.transitions import SagaState, StepState
from sagas.errors import IllegalTransition, PayloadError, ReplayDiverged

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from sagas.core.definitions import Saga, Step
    from sagas.core.records import Record

__all__ = ["abandon", "abandoned_at", "parked_by", "replay"]


def replay(
    saga: Saga[..., Any] | None,
    saga_id: str,
    steps: Mapping[str, Step[..., Any]],
    records: Sequence[Record],
    *,
    strict: bool = False,
) -> Execution:
    """Rebuilds a saga.

    Args:
        saga: Its definition. Not needed for a saga that was cancelled while parked.
        saga_id: Its id.
        steps: Step definitions by name, for undoing what the body no longer calls.
        records: The whole journal, in order.
        strict: Whether the arguments of steps must be the recorded ones too.

    Returns:
        The execution as it was after its last record; ``outstanding()`` gives what is left to do.

    Raises:
        ReplayDiverged: The body does not do what the journal says.
        PayloadError: The recorded input does not fit the body.
    """
    abandoned = abandoned_at(records)
    if abandoned is None:
        if saga is None:
            raise ReplayDiverged(f"saga {saga_id}: this process has no definition of it")
        execution = Execution(saga, saga_id, steps)
        rest = records
        execution.recording = Recording(records, strict=strict)
    else:
        execution = abandon(saga_id, steps, records[:abandoned])
        rest = records[abandoned:]
    try:
        for record in rest:
            _feed(execution, record)
    except BaseException:
        # Left to the garbage collector, a body's `finally` would run its steps as plain functions.
        execution.close()
        raise
    execution.recording = None
    return execution


def parked_by(records: Sequence[Record]) -> e.SagaParked | None:
    """Gives the event that parked a saga, if it is parked now."""
    parked: e.SagaParked | None = None
    for record in records:
        if isinstance(record.event, e.SagaParked):
            parked = record.event
        elif isinstance(record.event, (e.SagaResumed, e.CancelRequested)):
            parked = None
    return parked


def abandoned_at(records: Sequence[Record]) -> int | None:
    """Finds where a parked saga was cancelled: from there on its body is not run any more."""
    parked = False
    for position, record in enumerate(records):
        if isinstance(record.event, e.SagaParked):
            parked = True
        elif isinstance(record.event, e.SagaResumed):
            parked = False
        elif isinstance(record.event, e.CancelRequested) and parked:
            return position
    return None


def _feed(execution: Execution, record: Record) -> None:
    """Applies one record, and holds what it leads to against what it led to."""
    recording = execution.recording
    halted = recording is not None and recording.meet(record)
    try:
        given = execution.apply(record.event, record.at)
    except (IllegalTransition, PayloadError) as error:
        raise ReplayDiverged(
            f"record {record.seq} ({type(record.event).__name__}): the code at hand does not allow it: {error}"
        ) from error
    for noted in record.commands:
        if isinstance(noted, c.RunStep) and noted.path in execution.steps:
            execution.steps[noted.path].owed |= noted.undoable
    if recording is not None and recording.free:
        if isinstance(record.event, e.SagaResumed) and not halted:
            given = [*execution.unnoted, *given]
            execution.unnoted = ()
            recording.free = False
        else:
            execution.unnoted += tuple(x for x in given if not recording.knows(x))
            return
    _check(execution, record, given)


def _check(execution: Execution, record: Record, given: Sequence[c.Command]) -> None:
    """Makes sure that everything the record notes was asked for again.

    Raises:
        ReplayDiverged: Something was not.
    """
    for noted in record.commands:
        if isinstance(noted, c.RunStep) and noted.path not in execution.steps:
            raise ReplayDiverged(f"the journal says step {noted.name}, the body no longer calls it", path=noted.path)
    _check_locks(record, given)
    _check_events(record, given)
    _check_undos(execution, record, given)
    ended = any(isinstance(x, c.Complete) for x in record.commands)
    ends = any(isinstance(x, c.Complete) for x in given)
    if ended is not ends:
        what = "no longer ends" if ended else "ends"
        raise ReplayDiverged(f"record {record.seq}: the body now {what} here, after {type(record.event).__name__}")


_LOCKING = (c.TakeLock, c.FreeLock)


def _check_locks(record: Record, given: Sequence[c.Command]) -> None:
    """Makes sure that the same locks are taken and released at the same record, since a replay does neither.

    Raises:
        ReplayDiverged: They are not.
    """
    noted = [x for x in record.commands if isinstance(x, _LOCKING)]
    again = [x for x in given if isinstance(x, _LOCKING)]
    for one in noted:
        if one not in again:
            raise ReplayDiverged(f"{_where(one, record)}, the body no longer does so there")
    for one in again:
        if one not in noted:
            raise ReplayDiverged(f"{_where(one, record)} only in the body as it is now, not in the journal")


def _check_events(record: Record, given: Sequence[c.Command]) -> None:
    """Makes sure that the same events are emitted at the same record, since a replay emits none.

    Raises:
        ReplayDiverged: They are not.
    """
    noted = {x.path: x.type for x in record.commands if isinstance(x, c.Emit)}
    again = {x.path: x.type for x in given if isinstance(x, c.Emit)}
    if noted == again:
        return
    path = min(path for path in noted.keys() | again.keys() if noted.get(path) != again.get(path))
    was, now = (f"event {x!r}" if x is not None else "no event" for x in (noted.get(path), again.get(path)))
    raise ReplayDiverged(f"after record {record.seq}, the journal emits {was}, the body now {now}", path=path)


def _where(command: c.TakeLock | c.FreeLock, record: Record) -> str:
    """Says what a command does to a lock, and when."""
    verb = "taken" if isinstance(command, c.TakeLock) else "released"
    return f"operation {command.path}: lock {command.name!r} is {verb} after record {record.seq}"


def _check_undos(execution: Execution, record: Record, given: Sequence[c.Command]) -> None:
    """Makes sure that a body still fails where it failed, and only there: a replay undoes nothing.

    Raises:
        ReplayDiverged: It does otherwise.
    """
    if execution.recording is None:
        return  # without a body, what is undone depends on nothing but the journal
    noted = {x.path: x.name for x in record.commands if isinstance(x, c.RunUndo)}
    again = {x.path: x.name for x in given if isinstance(x, c.RunUndo)}
    after = f"after record {record.seq} ({type(record.event).__name__})"
    why = f" with {one_line(execution.cause)}" if execution.cause is not None else ""
    for path, step in noted.items():
        if path not in again:
            raise ReplayDiverged(f"the journal undoes step {step} {after}, the body now goes on", path=path)
    for path, step in again.items():
        if path not in noted:
            raise ReplayDiverged(f"the body now fails {after}{why}, so that {step} would be undone", path=path)
    if any(isinstance(x, c.Halt) and not x.path for x in given):
        raise ReplayDiverged(f"the body now fails {after}{why}, beyond its pivot")


_OUTCOMES: dict[type[e.Event], StepState] = {
    e.StepSucceeded: StepState.SUCCEEDED,
    e.StepRejected: StepState.REJECTED,
    e.StepInDoubt: StepState.IN_DOUBT,
    e.StepSkipped: StepState.REJECTED,
    e.UndoSucceeded: StepState.UNDONE,
    e.UndoSkipped: StepState.UNDO_SKIPPED,
}


def abandon(saga_id: str, steps: Mapping[str, Step[..., Any]], records: Sequence[Record]) -> Execution:
    """Rebuilds only what a rollback needs: the steps that may have acted, with arguments and results, and the locks.

    A step without an outcome may have acted, so it counts as in doubt. Apply ``CancelRequested`` to start the
    rollback.
    """
    execution = Execution(None, saga_id, steps)
    tickets: dict[str, Lock] = {}
    for record in records:
        event = record.event
        execution.at = record.at
        if isinstance(event, (e.SagaStarted, e.SagaSubmitted)):
            execution.key = event.key
        _note_outcome(execution, event)
        _note_locks(tickets, record)
        for noted in record.commands:
            if isinstance(noted, c.RunStep) and noted.path not in execution.steps:
                execution.steps[noted.path] = _entry(noted, steps, record.at)
    for entry in execution.steps.values():
        if entry.state is StepState.SCHEDULED:
            entry.state = StepState.IN_DOUBT
    if any(entry.state is StepState.IN_DOUBT and entry.irrevocable for entry in execution.steps.values()):
        # It may have acted, and nothing can take it back; so nothing can be called undone.
        execution.state = SagaState.PIVOTED
    execution.tickets = tickets or None
    return execution


def _note_locks(tickets: dict[str, Lock], record: Record) -> None:
    """Takes from a record which locks the saga holds; what it only waits for is given up with the body."""
    event = record.event
    for name, lock in list(tickets.items()):
        if isinstance(event, e.LockGranted) and lock.path == event.path:
            lock.granted = lock.kept = True
        elif isinstance(event, e.LockRefused) and lock.path == event.path:
            del tickets[name]
    for command in record.commands:
        if isinstance(command, c.TakeLock):
            tickets[command.name] = Lock(command.path)
        elif isinstance(command, c.FreeLock):
            del tickets[command.name]


def _note_outcome(execution: Execution, event: e.Event) -> None:
    """Takes from an event what a rollback needs to know of a step."""
    entry = execution.steps.get(getattr(event, "path", ""))
    state = _OUTCOMES.get(type(event))
    if entry is None or state is None:
        return
    entry.state = state
    if isinstance(event, e.StepSucceeded):
        entry.result = event.result
        entry.span = last_span(event.attempts)
        if entry.pivot:
            execution.state = SagaState.PIVOTED


def _entry(noted: c.RunStep, steps: Mapping[str, Step[..., Any]], at: float) -> Entry:
    """Rebuilds a step from the note of its call."""
    entry = Entry(noted.path, noted.name, steps.get(noted.name), noted.arguments, at)
    entry.pivot, entry.owed = noted.pivot, noted.undoable
    return entry
