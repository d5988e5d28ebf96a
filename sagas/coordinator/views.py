"""A saga as people see it; ``telling`` makes these."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from datetime import datetime

__all__ = [
    "AttemptView",
    "Decision",
    "Happening",
    "LockView",
    "OrderView",
    "RecordView",
    "SagaSummary",
    "SagaView",
    "SignalView",
    "Standing",
    "StepView",
]


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
        step: The step that ``error`` names: where a stuck saga stands, or another one failed. ``None`` if it names
            none, as where an exception of the user's own was raised.
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
    step: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class AttemptView:
    """One try; ``seconds`` is how long it took, ``error`` what it raised, ``span`` its span id if it was traced."""

    started_at: datetime
    seconds: float
    error: str | None
    span: str = ""

    @property
    def ended_at(self) -> datetime:
        """When it returned or raised."""
        return self.started_at + timedelta(seconds=self.seconds)


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """What somebody had done to a saga.

    Attributes:
        what: ``signalled NAME``, ``cancelled``, ``retried``, ``skipped`` or ``resumed``.
        by: Who; empty if nobody said.
        reason: Why; empty if nobody said.
        at: When.
        seq: Number of the record.
        path: Of the step it is about; empty if it is about all of the saga.
        step: Its name.
    """

    what: str
    by: str
    reason: str
    at: datetime
    seq: int
    path: str = ""
    step: str = ""

    def __str__(self) -> str:
        """For people: ``skipped by ana: refunded by hand``."""
        return self.what + (f" by {self.by}" if self.by else "") + (f": {self.reason}" if self.reason else "")


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
        outcome: What became of the step itself, whatever became of its undo: ``succeeded``, ``rejected`` or
            ``in doubt``; ``None`` as long as it has none.
        pivot: Whether nothing before it is undone once it has succeeded.
        undoable: Whether it has a compensator, as far as the journal tells: releases before 0.2 did not write it.
        undo_started_at: When it was its turn to be undone.
        undo_ended_at: When it was undone, or somebody skipped that.
        retry_at: When the next attempt is due, of the step or its compensator, after a long pause.
        decision: What somebody last had done about it.
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
    outcome: str | None = None
    pivot: bool = False
    undoable: bool = False
    undo_started_at: datetime | None = None
    undo_ended_at: datetime | None = None
    retry_at: datetime | None = None
    decision: Decision | None = None


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
class SignalView:
    """A signal that the saga waits for.

    Attributes:
        name: As in ``receive(name, …)``.
        path: The ``receive``.
        since: When it began to wait.
        type: What the signal has to carry, as Python names the type; empty for any JSON.
        until: When it gives up; ``None`` if it waits for as long as it takes.
    """

    name: str
    path: str
    since: datetime
    type: str = ""
    until: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class OrderView:
    """An order that waits for the coordinator that drives the saga.

    Attributes:
        what: ``signal``, ``cancel``, ``retry``, ``skip`` or ``resume``.
        at: When it was posted.
        by: Who asks; empty if nobody said.
        reason: Why; empty if nobody said.
        signal: Name of the signal, if it is one.
    """

    what: str
    at: datetime
    by: str = ""
    reason: str = ""
    signal: str = ""


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
        decision: What somebody had done, and why, if that is it.
    """

    seq: int
    at: datetime
    what: str
    path: str
    step: str
    seconds: float | None
    attempts: tuple[AttemptView, ...]
    detail: str
    decision: Decision | None = None


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
        parent: W3C ``traceparent`` of the span that it was started in; empty when there was none.
        revision: Number of its last record that is no takeover, for ``expected=`` of what is asked of it.
        owner: Id of the coordinator that drives it, or did; empty for nobody.
        decisions: What people had done to it, oldest first.
        signals: Those that it waits for now, as far as its journal says: releases before 0.2 did not write it.
    """

    input: object
    result: object
    cause: str | None
    traceback: str
    steps: tuple[StepView, ...]
    locks: tuple[LockView, ...]
    timeline: tuple[Happening, ...]
    trace: str
    parent: str = ""
    revision: int = 0
    owner: str = ""
    decisions: tuple[Decision, ...] = ()
    signals: tuple[SignalView, ...] = ()

    @property
    def trace_id(self) -> str:
        """The id of its trace in hexadecimal; empty when it is not traced."""
        return self.trace[3:35]  # version-traceid-spanid-flags


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """How a saga stands, in short.

    Attributes:
        revision: Number of its last record that is no takeover.
        since: When that was written: of a stuck saga, when it was last tried, or somebody did something.
    """

    revision: int
    since: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordView:
    """A record of a journal, as it was written.

    Attributes:
        seq: Its number.
        at: When.
        kind: Name of its event.
        path: The operation it is about, or ``""``.
        data: The rest, as JSON's types; what is secret is hidden.
        digest: What chains it to the record before, in hexadecimal.
    """

    seq: int
    at: datetime
    kind: str
    path: str
    data: object
    digest: str
