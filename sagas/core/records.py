"""A journal record: an event, the commands it led to, and a digest that chains it to the record before."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import orjson
from pydantic_core import from_json, to_json

from sagas.core import commands as c
from sagas.core import events as e
from sagas.errors import PayloadError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from sagas.core.strands import Awaits

__all__ = ["Record", "chain", "decode", "encode", "is_noted"]

_NOTHING = hashlib.blake2b(digest_size=16)


@dataclass(frozen=True, slots=True)
class Record:
    """One record of a journal.

    Attributes:
        seq: Its number in the saga, from 0, without gaps.
        at: POSIX time of the event.
        event: What happened.
        commands: What it led to, as far as the journal notes it. Steps carry no definitions here.
        awaits: The signals that the body waits for from then on, each a name and a type for people, by the places at
            which it does; ``None`` if that is as before. For people: a replay finds it out by itself.
    """

    seq: int
    at: float
    event: e.Event
    commands: tuple[c.Command, ...]
    awaits: Awaits | None = None


def chain(previous: bytes, seq: int, at: float, kind: str, path: str, data: bytes) -> bytes:  # noqa: PLR0917 - a row's columns, in their order
    """Computes the digest of a record, so that an altered, dropped or reordered one shows.

    Args:
        previous: Digest of the record before; for the first, the saga's id.
        seq: Its number.
        at: POSIX time of its event.
        kind: Name of its event.
        path: The operation it is about.
        data: The rest, as stored.

    Returns:
        16 bytes of BLAKE2b (RFC 7693).
    """
    digest = _NOTHING.copy()  # which takes less time than to make a new one
    digest.update(previous + f"{seq}|{at!r}|{kind}|{path}|".encode() + data)
    return digest.digest()


def encode(event: e.Event, commands: Sequence[c.Command], awaits: Awaits | None = None) -> tuple[str, str, bytes]:
    """Writes a record, of which ``Record`` tells more.

    Returns:
        The name of the event, the path it is about (or ``""``), and the rest as JSON.
    """
    kind = type(event)
    fields = _WRITERS[kind](event)
    if commands:
        _write_commands(fields, commands)
    if awaits is not None:
        fields["awaits"] = awaits
    # A copy, because what orjson gives holds on to a buffer of several KB, however short the text.
    return kind.__name__, getattr(event, "path", ""), bytes(memoryview(orjson.dumps(fields)))


def decode(seq: int, at: float, kind: str, path: str, data: bytes) -> Record:
    """Reads a record.

    Raises:
        PayloadError: It is no record of this library's format.
    """
    try:
        # pydantic's parser, because orjson's reads integers beyond 64 bits as floats.
        fields: dict[str, Any] = from_json(data)
        commands, awaits = _read_commands(fields), fields.pop("awaits", None)
        told = None if awaits is None else {place: (name, about) for place, (name, about) in awaits.items()}
        return Record(seq, at, _READERS[kind](path, fields), commands, told)
    except (ValueError, KeyError, TypeError, IndexError, AttributeError) as error:
        raise PayloadError(f"record {seq} ({kind}) cannot be read: {type(error).__name__}: {error}") from error


def _attempts(attempts: Sequence[e.Attempt]) -> list[list[object]]:
    """Writes attempts; orjson knows no named tuples."""
    return [list(attempt) if attempt.span else list(attempt[:3]) for attempt in attempts]


def _error(error: e.ErrorInfo) -> list[Any]:
    """Writes an exception."""
    fields = None if error.fields is None else orjson.Fragment(error.fields)
    return [error.type, error.message, fields, error.traceback]


def _read_error(data: list[Any]) -> e.ErrorInfo:
    """Reads an exception."""
    return e.ErrorInfo(data[0], data[1], None if data[2] is None else to_json(data[2]), data[3])


def _write_commands(fields: dict[str, Any], commands: Sequence[c.Command]) -> None:
    """Writes commands, and which of them call a step that has a compensator.

    Those are apart, because releases that do not know about it take no longer commands, but leave fields alone.
    """
    then: list[tuple[Any, ...]] = []
    undo: list[int] = []
    for command in commands:
        noted = _note(command)
        if noted is not None:
            if type(command) is c.RunStep and command.undoable:
                undo.append(len(then))
            then.append(noted)
    if then:
        fields["then"] = then
    if undo:
        fields["undo"] = undo


def _read_commands(fields: dict[str, Any]) -> tuple[c.Command, ...]:
    """Reads commands."""
    undo = fields.pop("undo", ())
    return tuple([_unnote(noted, number in undo) for number, noted in enumerate(fields.pop("then", ()))])


def _note(command: c.Command) -> tuple[Any, ...] | None:
    """Writes a command, if the journal notes its kind."""
    write = _NOTES.get(type(command))
    return None if write is None else write(command)


def is_noted(commands: Sequence[c.Command], noted: Sequence[c.Command]) -> bool:
    """Says whether commands are those that a record notes, letter by letter; others may still be written the same."""
    if len(commands) == len(noted) == 1 and type(commands[0]) in _NOTES:
        return _is_same(commands[0], noted[0])
    kept = [x for x in commands if type(x) in _NOTES]
    return len(kept) == len(noted) and all(map(_is_same, kept, noted))


def _is_same(command: c.Command, noted: c.Command) -> bool:
    """Says whether two commands would be noted in the same way."""
    if type(command) is c.RunStep and type(noted) is c.RunStep:
        return (command.path, command.name, command.arguments, command.pivot, command.undoable) == (
            noted.path, noted.name, noted.arguments, noted.pivot, noted.undoable
        )  # fmt: skip
    if type(command) is c.RunUndo and type(noted) is c.RunUndo:
        return (command.path, command.name) == (noted.path, noted.name)
    return command == noted


def _note_end(command: c.Complete) -> tuple[Any, ...]:
    """Writes how a saga ended."""
    if command.result is None:
        return ("compensated", None if command.cause is None else _error(command.cause))
    return ("completed", orjson.Fragment(command.result or b"null"))


# What is not in here is local to the process.
_NOTES: dict[type[c.Command], Callable[[Any], tuple[Any, ...]]] = {
    c.RunStep: lambda x: ("step", x.path, x.name, orjson.Fragment(x.arguments), x.pivot),
    c.RunUndo: lambda x: ("undo", x.path, x.name),
    c.StartTimer: lambda x: ("timer", x.path, x.until),
    c.TakeLock: lambda x: ("lock", x.path, x.name),
    c.FreeLock: lambda x: ("unlock", x.path, x.name),
    c.Emit: lambda x: ("emit", x.path, x.type, x.subject, orjson.Fragment(x.data)),
    c.Complete: _note_end,
    c.Halt: lambda x: ("halt", x.path, _error(x.error)),
    c.MarkVersion: lambda x: ("change", x.change_id),
}


def _unnote(noted: list[Any], undoable: bool) -> c.Command:  # noqa: C901, FBT001 - a branch a kind; called for every command there is
    """Reads a command."""
    match noted:
        case ["step", path, name, arguments, pivot]:
            return c.RunStep(path, name, None, to_json(arguments), 0.0, pivot=pivot, undoable=undoable)
        case ["undo", path, name]:
            return c.RunUndo(path, name, None, b"", None)
        case ["timer", path, until]:
            return c.StartTimer(path, until)
        case ["completed", result]:
            return c.Complete(to_json(result))
        case ["compensated", cause]:
            return c.Complete(None, None if cause is None else _read_error(cause))
        case ["halt", path, error]:
            return c.Halt(path, _read_error(error))
        case ["change", change]:
            return c.MarkVersion(change)
        case ["lock", path, name]:
            return c.TakeLock(path, name)
        case ["unlock", path, name]:
            return c.FreeLock(path, name)
        case ["emit", path, kind, subject, data]:
            return c.Emit(path, kind, subject, to_json(data))
        case _:
            raise ValueError(f"unknown command {noted!r}")


def _write_started(event: e.SagaStarted | e.SagaSubmitted) -> dict[str, Any]:
    """Writes the first event of a saga."""
    fields: dict[str, Any] = {
        "name": event.name, "version": event.version, "input": orjson.Fragment(event.input), "key": event.key
    }  # fmt: skip
    if event.trace:
        fields |= {"trace": event.trace, "parent": event.parent}
    if event.state:
        fields["tracestate"] = event.state
    if event.baggage:
        fields["baggage"] = event.baggage
    return fields


def _write_failed(event: e.StepRejected | e.StepInDoubt | e.UndoFailed) -> dict[str, Any]:
    """Writes how a step or a compensator failed."""
    return {"error": _error(event.error), "attempts": _attempts(event.attempts)}


def _write_backed_off(event: e.StepBackedOff | e.UndoBackedOff) -> dict[str, Any]:
    """Writes a long pause."""
    fields = _write_failed_like(event)
    if isinstance(event, e.StepBackedOff):
        fields["doubt"] = event.doubt
    return fields


def _write_failed_like(event: e.StepBackedOff | e.UndoBackedOff) -> dict[str, Any]:
    """Writes what both long pauses have in common."""
    return {
        "tried": event.tried, "until": event.until, "error": _error(event.error), "attempts": _attempts(event.attempts)
    }  # fmt: skip


def _told(**texts: str) -> dict[str, str]:
    """Writes what somebody may have said, so that a record without it is what earlier releases wrote."""
    return {name: text for name, text in texts.items() if text}


_WRITERS: dict[type[e.Event], Callable[[Any], dict[str, Any]]] = {
    e.SagaStarted: _write_started,
    e.SagaSubmitted: _write_started,
    e.StepSucceeded: lambda x: {"result": orjson.Fragment(x.result), "attempts": _attempts(x.attempts)},
    e.StepRejected: _write_failed,
    e.StepInDoubt: _write_failed,
    e.StepBackedOff: _write_backed_off,
    e.StepRetried: lambda x: {"by": x.by, **_told(reason=x.reason)},
    e.StepSkipped: lambda x: {"reason": x.reason, "by": x.by},
    e.Recorded: lambda x: {"result": orjson.Fragment(x.result)},
    e.TimerFired: lambda _: {},
    e.SignalReceived: lambda x: {
        "name": x.name,
        "payload": orjson.Fragment(x.payload),
        **_told(by=x.by, reason=x.reason),
    },
    e.LockGranted: lambda _: {},
    e.LockRefused: lambda x: {"reason": x.reason},
    e.CancelRequested: lambda x: {"reason": x.reason, "by": x.by},
    e.UndoSucceeded: lambda x: {"attempts": _attempts(x.attempts)},
    e.UndoBackedOff: _write_backed_off,
    e.UndoFailed: _write_failed,
    e.UndoRetried: lambda x: {"by": x.by, **_told(reason=x.reason)},
    e.UndoSkipped: lambda x: {"reason": x.reason, "by": x.by},
    e.SagaTakenOver: lambda x: {"owner": x.owner},
    e.SagaParked: lambda x: {"error": _error(x.error)},
    e.SagaResumed: lambda x: {"by": x.by, **_told(reason=x.reason)},
}


def _read_attempts(fields: dict[str, Any]) -> tuple[e.Attempt, ...]:
    """Reads attempts."""
    return tuple([e.Attempt(*attempt) for attempt in fields["attempts"]])


def _failed(kind: Callable[[str, e.ErrorInfo, tuple[e.Attempt, ...]], e.Event]) -> Callable[[str, Any], e.Event]:
    """Makes a reader for one kind of failure."""
    return lambda path, f: kind(path, _read_error(f["error"]), _read_attempts(f))


def _begun(kind: Callable[..., e.Event]) -> Callable[[str, Any], e.Event]:
    """Makes a reader for one kind of beginning."""
    return lambda _, f: kind(
        f["name"], f["version"], to_json(f["input"]), f["key"],
        *(f.get(name, "") for name in ("trace", "parent", "tracestate", "baggage")),
    )  # fmt: skip


_READERS: dict[str, Callable[[str, Any], e.Event]] = {
    "SagaStarted": _begun(e.SagaStarted),
    "SagaSubmitted": _begun(e.SagaSubmitted),
    "StepSucceeded": lambda path, f: e.StepSucceeded(path, to_json(f["result"]), _read_attempts(f)),
    "StepRejected": _failed(e.StepRejected),
    "StepInDoubt": _failed(e.StepInDoubt),
    "StepBackedOff": lambda path, f: e.StepBackedOff(
        path, f["tried"], f["until"], f["doubt"], _read_error(f["error"]), _read_attempts(f)
    ),
    "StepRetried": lambda path, f: e.StepRetried(path, f["by"], f.get("reason", "")),
    "StepSkipped": lambda path, f: e.StepSkipped(path, f["reason"], f["by"]),
    "Recorded": lambda path, f: e.Recorded(path, to_json(f["result"])),
    "TimerFired": lambda path, _: e.TimerFired(path),
    "SignalReceived": lambda _, f: e.SignalReceived(
        f["name"], to_json(f["payload"]), f.get("by", ""), f.get("reason", "")
    ),
    "LockGranted": lambda path, _: e.LockGranted(path),
    "LockRefused": lambda path, f: e.LockRefused(path, f["reason"]),
    "CancelRequested": lambda _, f: e.CancelRequested(f["reason"], f["by"]),
    "UndoSucceeded": lambda path, f: e.UndoSucceeded(path, _read_attempts(f)),
    "UndoBackedOff": lambda path, f: e.UndoBackedOff(
        path, f["tried"], f["until"], _read_error(f["error"]), _read_attempts(f)
    ),
    "UndoFailed": _failed(e.UndoFailed),
    "UndoRetried": lambda path, f: e.UndoRetried(path, f["by"], f.get("reason", "")),
    "UndoSkipped": lambda path, f: e.UndoSkipped(path, f["reason"], f["by"]),
    "SagaTakenOver": lambda _, f: e.SagaTakenOver(f["owner"]),
    "SagaParked": lambda _, f: e.SagaParked(_read_error(f["error"])),
    "SagaResumed": lambda _, f: e.SagaResumed(f["by"], f.get("reason", "")),
}
