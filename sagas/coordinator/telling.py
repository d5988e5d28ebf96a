"""Tells a saga from its journal alone, so that no code of the saga is needed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pydantic_core import from_json, to_json

from sagas.coordinator.blame import blamed
from sagas.coordinator.story import Story, attempt_of, decision_of
from sagas.coordinator.views import Happening, RecordView, SagaSummary, SagaView, StepView
from sagas.core import commands as c
from sagas.core import events as e
from sagas.core.failures import one_line
from sagas.core.operations import utc
from sagas.core.secrets import Mask
from sagas.errors import JournalCorrupted
from sagas.stores.port import PayloadContext

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from sagas.coordinator.fleet import Fleet
    from sagas.coordinator.loading import History
    from sagas.core.records import Record
    from sagas.stores.port import Codec, JournalRow, SagaRow

__all__ = ["records_of", "summary_of", "view_of"]

_NOTHING_HIDDEN = Mask()


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
        "created_at": _moment(row, row.created_at),
        "ended_at": None if row.ended_at is None else _moment(row, row.ended_at),
        "wake_at": None if row.wake_at is None else _moment(row, row.wake_at),
        "error": row.error,
        "waits_for": fleet.waits_for(row),
        "step": blamed(row.error).step,
    }


def _moment(row: SagaRow, at: float) -> datetime:
    """Turns a time of a row into a datetime.

    Raises:
        JournalCorrupted: It is none.
    """
    try:
        return utc(at)
    except JournalCorrupted as error:
        raise JournalCorrupted(f"saga {row.id}: {error}") from None


def view_of(row: SagaRow, history: History, fleet: Fleet, mask: Mask = _NOTHING_HIDDEN) -> SagaView:
    """Describes a saga.

    Args:
        row: As it was read.
        history: As it was read after the row, so that it is at least as long.
        fleet: Who is alive.
        mask: What is not shown.

    Raises:
        JournalCorrupted: The saga has ended and its journal has not: its last records were removed.
    """
    if row.ended_at is not None and not any(isinstance(x, c.Complete) for r in history.records for x in r.commands):
        raise JournalCorrupted(
            f"saga {row.id}: it has ended ({row.status}), but the end of its journal is missing. Restore the journal "
            "from a backup"
        )
    story = Story(row.name, mask)
    lines: list[Happening] = []
    for record in history.records:
        story.take(record)
        lines.extend(_lines(record, story, mask))
    cause = story.cause
    return SagaView(
        **_common(row, fleet),  # type: ignore[arg-type]  # the fields of the base class
        input=mask.value(from_json(history.start.input)),
        result=story.result,
        cause=None if cause is None else one_line(cause),
        traceback="" if cause is None else cause.traceback,
        steps=tuple(StepView(**step) for step in story.steps.values()),  # type: ignore[arg-type]  # built above
        locks=tuple(story.locks.values()),
        timeline=tuple(lines),
        trace=history.start.trace,
        parent=history.start.parent,
        revision=history.revision,
        owner=row.owner,
        decisions=tuple(story.decisions),
        signals=tuple(story.signals.values()),
    )


def records_of(rows: Sequence[JournalRow], codec: Codec | None, name: str, mask: Mask) -> list[RecordView]:
    """Describes the records of a journal that was checked, one by one.

    Args:
        rows: As they were read.
        codec: What they were written through.
        name: Of the saga.
        mask: What is not shown.
    """
    steps: dict[str, str] = {}
    return [_record(row, codec, name, steps, mask) for row in rows]


def _record(row: JournalRow, codec: Codec | None, name: str, steps: dict[str, str], mask: Mask) -> RecordView:
    """Describes one record, and notes the steps that it calls."""
    data = bytes(row.data)
    if codec is not None:
        data = codec.decode(data, PayloadContext(row.saga_id, row.path, row.kind))
    fields: dict[str, Any] = from_json(data)
    shown: dict[str, Any] = {key: mask.value(value) for key, value in fields.items()}
    if row.kind == e.StepSucceeded.__name__:
        shown["result"] = mask.result(steps.get(row.path, ""), fields["result"])
    elif row.kind == e.SignalReceived.__name__:
        shown["payload"] = mask.payload(fields["name"], fields["payload"])
    for command in shown.get("then", ()):
        if command[0] == "step":
            steps[command[1]] = command[2]
        elif command[0] == "completed":
            command[1] = mask.result(name, command[1])
    return RecordView(
        seq=row.seq, at=utc(row.at), kind=row.kind, path=row.path, data=shown, digest=bytes(row.digest).hex()
    )


def _lines(record: Record, story: Story, mask: Mask) -> list[Happening]:
    """Tells one record: its event, and how the saga ended if it did."""
    event, names = record.event, story.names
    path = getattr(event, "path", "")
    attempts = tuple(attempt_of(x) for x in getattr(event, "attempts", ()))
    lines = [
        Happening(
            seq=record.seq,
            at=utc(record.at),
            what="saga begun" if story.begins else _words(type(event).__name__, path),
            path=path,
            step=names.get(path, ""),
            seconds=sum(x.seconds for x in attempts) if attempts else None,
            attempts=attempts,
            detail=_detail(event, names.get(path, ""), mask),
            decision=decision_of(record, names),
        )
    ]
    for command in record.commands:
        ending = _ending(command, story.name, mask)
        if ending is not None:
            what, where, detail = ending
            lines.append(
                Happening(
                    seq=record.seq, at=utc(record.at), what=what, path=where, step=names.get(where, ""), seconds=None,
                    attempts=(), detail=detail,
                )
            )  # fmt: skip
    return lines


def _ending(command: c.Command, name: str, mask: Mask) -> tuple[str, str, str] | None:
    """Tells how a saga ended or halted."""
    match command:
        case c.Complete(result=None):
            return "saga compensated", "", "" if command.cause is None else one_line(command.cause)
        case c.Complete():
            return "saga completed", "", _text(command.result or b"", mask, name)
        case c.Halt():
            return "saga stuck", command.path, one_line(command.error)
        case _:
            return None


def _words(name: str, path: str) -> str:
    """Turns ``StepBackedOff`` into ``step backed off``."""
    if name == "TimerFired" and not path:
        return "saga timed out"
    return "".join(f" {letter.lower()}" if letter.isupper() else letter for letter in name).strip()


def _text(payload: bytes, mask: Mask, name: str = "") -> str:
    """Writes a payload on one line; the result of what has a name."""
    if not mask or not payload:
        return payload.decode()
    value = from_json(payload)
    return to_json(mask.result(name, value) if name else mask.value(value)).decode()


def _signal(event: e.SignalReceived, mask: Mask) -> str:
    """Writes what a signal carries on one line."""
    if not mask:
        return event.payload.decode()
    return to_json(mask.payload(event.name, from_json(event.payload))).decode()


def _by(by: str, reason: str = "") -> str:
    """Writes who had it done, and why."""
    return reason + (f" (by {by})" if reason and by else f"by {by}" if by else "")


def _detail(event: e.Event, step: str, mask: Mask) -> str:
    """Picks what is worth a line."""
    match event:
        case e.SagaStarted() | e.SagaSubmitted():
            return _text(event.input, mask)
        case e.StepSucceeded():
            return _text(event.result, mask, step)
        case e.Recorded():
            return _text(event.result, mask)
        case e.SignalReceived():
            told = f" ({_by(event.by, event.reason)})" if event.by or event.reason else ""
            return f"{event.name} {_signal(event, mask)}{told}"
        case e.LockRefused():
            return event.reason
        case e.CancelRequested() | e.StepSkipped() | e.UndoSkipped():
            return _by(event.by, event.reason)
        case e.StepRetried() | e.UndoRetried() | e.SagaResumed():
            return _by(event.by, event.reason)
        case e.SagaTakenOver():
            return f"by coordinator {event.owner}"
        case (
            e.StepRejected() | e.StepInDoubt() | e.StepBackedOff() | e.UndoBackedOff() | e.UndoFailed() | e.SagaParked()
        ):
            return one_line(event.error)
        case _:
            return ""
