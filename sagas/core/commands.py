"""What a saga wants done: derived from its events, carried out by a host, never stored as truth.

A journal record also notes which commands its event led to. That makes a changed body visible on replay, and
keeps the arguments of every step that may have acted, so that a rollback works without the body.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

from sagas.core.events import ErrorInfo

if TYPE_CHECKING:
    from collections.abc import Callable

    from sagas.core.definitions import Step
    from sagas.core.schema import ValueSchema

__all__ = [
    "Command",
    "Complete",
    "Emit",
    "FreeLock",
    "Halt",
    "MarkVersion",
    "RunLocal",
    "RunStep",
    "RunUndo",
    "StartTimer",
    "TakeLock",
]


# Nobody changes one. But it is made for every step that runs or is replayed, and ``frozen`` makes that four times as
# slow, since then each field is set by a call.
@dataclass(slots=True, unsafe_hash=True)
class RunStep:
    """Attempt a step until it has an outcome.

    Attributes:
        path: Its place, and with the saga's key its idempotency key.
        name: Of the step.
        step: Its definition; ``None`` if the code at hand has none.
        arguments: As one JSON object.
        scheduled_at: POSIX time at which the body asked for it, or an operator granted it a new budget.
        tried: Attempts that were used up before.
        doubt: Whether one of them may have acted.
        redelivered: Whether this command was given out before, by a process that may have died since.
        pivot: Whether the step is a pivot; kept in the journal, for a rollback without its definition.
        undoable: Whether it has a compensator; kept in the journal, so that it shows if that is gone later.
    """

    path: str
    name: str
    step: Step[..., Any] | None
    arguments: bytes
    scheduled_at: float
    tried: int = 0
    doubt: bool = False
    redelivered: bool = False
    pivot: bool = False
    undoable: bool = False


@dataclass(frozen=True, slots=True)
class RunUndo:
    """Attempt a compensator until the step is undone.

    Attributes:
        path: Of the step.
        name: Of the step.
        step: Its definition; ``None`` if the code at hand has none.
        arguments: Of the step, as one JSON object.
        result: Of the step, as JSON; ``None`` if it is in doubt.
        tried: Attempts that were used up before.
        span: Span id of the step's last attempt, if it was traced.
    """

    path: str
    name: str
    step: Step[..., Any] | None
    arguments: bytes
    result: bytes | None
    tried: int = 0
    span: str = ""


@dataclass(frozen=True, slots=True)
class RunLocal:
    """Compute a local value."""

    path: str
    make: Callable[[], object]
    schema: ValueSchema[object]


@dataclass(frozen=True, slots=True)
class StartTimer:
    """Say so when it is ``until`` (POSIX time)."""

    path: str
    until: float


@dataclass(frozen=True, slots=True)
class TakeLock:
    """Stand in line for a lock, and say so when the saga holds it, or never will.

    Attributes:
        path: Where it was asked for, which names the ticket.
        name: Of the lock, among all sagas.
    """

    path: str
    name: str


@dataclass(frozen=True, slots=True)
class FreeLock:
    """Release a lock, or leave the line: the ticket that ``TakeLock`` asked for at the same path."""

    path: str
    name: str


@dataclass(frozen=True, slots=True)
class Emit:
    """Send an event, once this is durable.

    Attributes:
        path: Where it was emitted, and with the saga's key its id.
        type: What has happened.
        subject: What it is about; ``""`` if nobody said.
        data: As JSON.
    """

    path: str
    type: str
    subject: str
    data: bytes


@dataclass(frozen=True, slots=True)
class MarkVersion:
    """Remember that this saga runs with a change."""

    change_id: str


@dataclass(frozen=True, slots=True)
class Complete:
    """The saga ended: with a result, or compensated for a cause. Release every lock that it has left."""

    result: bytes | None
    cause: ErrorInfo | None = None


@dataclass(frozen=True, slots=True)
class Halt:
    """The saga cannot go on without an operator.

    Attributes:
        path: The step that halts it; ``""`` for the body itself.
        error: Why.
    """

    path: str
    error: ErrorInfo


Command: TypeAlias = (
    RunStep | RunUndo | RunLocal | StartTimer | TakeLock | FreeLock | Emit | MarkVersion | Complete | Halt
)
