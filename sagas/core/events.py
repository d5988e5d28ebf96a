"""What happened: the facts that a journal holds, and all that a saga ever reacts to."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple, TypeAlias

__all__ = [
    "Attempt",
    "CancelRequested",
    "ErrorInfo",
    "Event",
    "LockGranted",
    "LockRefused",
    "Recorded",
    "SagaParked",
    "SagaResumed",
    "SagaStarted",
    "SagaSubmitted",
    "SagaTakenOver",
    "SignalReceived",
    "StepBackedOff",
    "StepInDoubt",
    "StepRejected",
    "StepRetried",
    "StepSkipped",
    "StepSucceeded",
    "TimerFired",
    "UndoBackedOff",
    "UndoFailed",
    "UndoRetried",
    "UndoSkipped",
    "UndoSucceeded",
]


@dataclass(frozen=True, slots=True)
class ErrorInfo:
    """An exception as the journal keeps it.

    Attributes:
        type: ``module:qualname``.
        message: Its text.
        fields: For a declared rejection, its arguments and attributes as JSON; else ``None``.
        traceback: Where it was raised, innermost frames last, for people; may be empty.
    """

    type: str
    message: str
    fields: bytes | None = None
    traceback: str = ""


class Attempt(NamedTuple):
    """One try of a step or a compensator.

    Attributes:
        started: POSIX time, in seconds.
        seconds: How long it took, to the microsecond.
        error: What it raised, as ``Type: message``; ``None`` if it returned.
        span: Its span id in hexadecimal, if it was traced.
    """

    started: float
    seconds: float
    error: str | None
    span: str = ""


@dataclass(frozen=True, slots=True)
class SagaStarted:
    """The first record of a journal.

    Attributes:
        name: Of the saga.
        version: Of the saga.
        input: Its arguments, as one JSON object.
        key: What idempotency keys and random values of this saga are derived from.
        trace: W3C ``traceparent`` of the saga's root span; empty when it is not traced.
        parent: W3C ``traceparent`` of the caller's own span; empty when there was none.
        state: The caller's W3C ``tracestate``.
        baggage: The caller's W3C ``baggage``, which its steps get.
    """

    name: str
    version: str
    input: bytes
    key: str
    trace: str = ""
    parent: str = ""
    state: str = ""
    baggage: str = ""


@dataclass(frozen=True, slots=True)
class SagaSubmitted:
    """The first record of a saga that whoever asked for it does not run: the body starts with ``SagaTakenOver``.

    Fields as in ``SagaStarted``.
    """

    name: str
    version: str
    input: bytes
    key: str
    trace: str = ""
    parent: str = ""
    state: str = ""
    baggage: str = ""


@dataclass(frozen=True, slots=True)
class StepSucceeded:
    """A step acted, and this is its result."""

    path: str
    result: bytes
    attempts: tuple[Attempt, ...] = ()


@dataclass(frozen=True, slots=True)
class StepRejected:
    """A step definitely did not act."""

    path: str
    error: ErrorInfo
    attempts: tuple[Attempt, ...] = ()


@dataclass(frozen=True, slots=True)
class StepInDoubt:
    """Nobody knows whether a step acted."""

    path: str
    error: ErrorInfo
    attempts: tuple[Attempt, ...] = ()


@dataclass(frozen=True, slots=True)
class StepBackedOff:
    """A step waits a long while before its next attempt.

    Attributes:
        path: The step.
        tried: Attempts used up so far.
        until: POSIX time of the next one.
        doubt: Whether one of them may have acted.
        error: What the last one raised.
        attempts: Those since the record before.
    """

    path: str
    tried: int
    until: float
    doubt: bool
    error: ErrorInfo
    attempts: tuple[Attempt, ...] = ()


@dataclass(frozen=True, slots=True)
class StepRetried:
    """An operator granted a parked step a new budget of attempts."""

    path: str
    by: str = ""
    reason: str = ""


@dataclass(frozen=True, slots=True)
class StepSkipped:
    """An operator vouches that a parked step did not act; its failure goes to the body."""

    path: str
    reason: str
    by: str = ""


@dataclass(frozen=True, slots=True)
class Recorded:
    """A local value was computed."""

    path: str
    result: bytes


@dataclass(frozen=True, slots=True)
class TimerFired:
    """A pause or a timeout ended; the path ``""`` is the timeout of the whole saga."""

    path: str


@dataclass(frozen=True, slots=True)
class SignalReceived:
    """A signal came from outside; ``by`` and ``reason`` are for people."""

    name: str
    payload: bytes
    by: str = ""
    reason: str = ""


@dataclass(frozen=True, slots=True)
class LockGranted:
    """The saga holds the lock that it asked for at a path."""

    path: str


@dataclass(frozen=True, slots=True)
class LockRefused:
    """The saga does not get the lock that it asked for at a path: waiting for it would never end."""

    path: str
    reason: str


@dataclass(frozen=True, slots=True)
class CancelRequested:
    """Somebody wants the saga undone."""

    reason: str
    by: str = ""


@dataclass(frozen=True, slots=True)
class UndoSucceeded:
    """A step is undone."""

    path: str
    attempts: tuple[Attempt, ...] = ()


@dataclass(frozen=True, slots=True)
class UndoBackedOff:
    """A compensator waits a long while before its next attempt; fields as in ``StepBackedOff``."""

    path: str
    tried: int
    until: float
    error: ErrorInfo
    attempts: tuple[Attempt, ...] = ()


@dataclass(frozen=True, slots=True)
class UndoFailed:
    """A compensator used up its budget: the saga is stuck."""

    path: str
    error: ErrorInfo
    attempts: tuple[Attempt, ...] = ()


@dataclass(frozen=True, slots=True)
class UndoRetried:
    """An operator granted a failed compensator a new budget."""

    path: str
    by: str = ""
    reason: str = ""


@dataclass(frozen=True, slots=True)
class UndoSkipped:
    """An operator vouches that a step needs no undo (any more)."""

    path: str
    reason: str
    by: str = ""


@dataclass(frozen=True, slots=True)
class SagaTakenOver:
    """Another coordinator goes on with the saga; the first that takes over a submitted one starts its body."""

    owner: str


@dataclass(frozen=True, slots=True)
class SagaParked:
    """The journal does not fit the code at hand; an operator has to act."""

    error: ErrorInfo


@dataclass(frozen=True, slots=True)
class SagaResumed:
    """An operator wants the saga to go on with the code at hand."""

    by: str = ""
    reason: str = ""


Event: TypeAlias = (
    SagaStarted
    | SagaSubmitted
    | StepSucceeded
    | StepRejected
    | StepInDoubt
    | StepBackedOff
    | StepRetried
    | StepSkipped
    | Recorded
    | TimerFired
    | SignalReceived
    | LockGranted
    | LockRefused
    | CancelRequested
    | UndoSucceeded
    | UndoBackedOff
    | UndoFailed
    | UndoRetried
    | UndoSkipped
    | SagaTakenOver
    | SagaParked
    | SagaResumed
)
