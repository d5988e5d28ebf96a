"""What a saga's trace tells, drawn from its journal: the same whether told live, or by whoever goes on with it."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, NamedTuple

from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.trace import SpanKind, Status, StatusCode

from sagas.core import commands as c
from sagas.core import events as e
from sagas.core.failures import one_line
from sagas.telemetry.marking import type_name, within
from sagas.telemetry.tracing import Held, Origin, nanoseconds, read_parent, span_id, surroundings

if TYPE_CHECKING:
    from collections.abc import Generator, Mapping, Sequence

    from opentelemetry.trace import Span, SpanContext
    from opentelemetry.util.types import AttributeValue

    from sagas.core.fibers import Wait
    from sagas.core.records import Record
    from sagas.telemetry.tracing import Tracing

__all__ = ["Story", "find_story"]

# So many events are told of one saga; as many as OpenTelemetry keeps of a span.
_MOST_MOMENTS = 128
_WAITS = {"sleep": "sleep", "receive": "receive", "lock": "wait for lock"}
_LOST = "its coordinator ended, or was cut off, before it was known whether the attempt was made, or what came of it"

_Details = dict[str, "AttributeValue"]


class _Asked(NamedTuple):
    """A step or an undo that is to be attempted.

    Attributes:
        seq: Number of the record that asks for it.
        at: POSIX time of that.
        name: Of the step.
        undo: Whether it is an undo.
    """

    seq: int
    at: float
    name: str
    undo: bool


class _Lost(NamedTuple):
    """An attempt that was perhaps under way when its coordinator ended."""

    id: int
    asked: _Asked
    path: str
    attempt: int
    until: float


class Story:
    """One saga's.

    Args:
        tracing: Makes the spans.
        origin: Where the trace begins.
        saga_id: The saga.

    Attributes:
        root: Context of the root span.
    """

    __slots__ = (
        "_around", "_asked", "_at", "_end", "_epoch", "_lost", "_moments", "_name", "_origin", "_places", "_saga_id",
        "_started", "_submitted", "_tracing", "_tried", "_version", "root",
    )  # fmt: skip

    def __init__(self, tracing: Tracing, origin: Origin, root: SpanContext, saga_id: str) -> None:
        self.root = root
        self._around = surroundings(root, origin.baggage)
        self._tracing = tracing
        self._origin = origin
        self._saga_id = saga_id
        self._name = self._version = ""
        self._started = self._at = 0.0
        self._submitted = False
        self._epoch = 0
        self._end: c.Complete | None = None
        self._asked: dict[str, _Asked] = {}
        self._tried: dict[tuple[str, bool], int] = {}
        self._lost: list[_Lost] = []
        self._moments: list[tuple[str, float, _Details]] = []
        self._places: dict[str, list[float]] = {}

    # --- what the journal tells ---------------------------------------------------------------------------------

    def take(self, seq: int, at: float, event: e.Event, commands: Sequence[c.Command]) -> None:
        """Takes the next record."""
        self._at = at
        react = _REACTIONS.get(type(event))
        if react is not None:
            react(self, event)
        for command in commands:
            if isinstance(command, (c.RunStep, c.RunUndo)):
                self._ask(seq, command)
            elif isinstance(command, c.Halt):
                self._note("stuck", {"saga.path": command.path, "error.message": one_line(command.error)})
            elif isinstance(command, c.Complete):
                self._end = command

    def _begin(self, event: e.SagaStarted | e.SagaSubmitted) -> None:
        """Takes the first record."""
        self._started, self._name, self._version = self._at, event.name, event.version
        self._submitted = isinstance(event, e.SagaSubmitted)

    def _ask(self, seq: int, command: c.RunStep | c.RunUndo) -> None:
        """Takes it that something is to be attempted."""
        undo = isinstance(command, c.RunUndo)
        self._asked[command.path] = _Asked(seq, self._at, command.name, undo)
        if not undo:
            self._enter(command.path, self._at)

    def _answered(
        self, event: e.StepSucceeded | e.StepRejected | e.StepInDoubt | e.UndoSucceeded | e.UndoFailed
    ) -> None:
        """Takes an outcome."""
        asked = self._asked.pop(event.path, None)
        if asked is not None:
            self._tried.pop((event.path, asked.undo), None)
            if not asked.undo:
                self._enter(event.path, self._at)

    def _backed_off(self, event: e.StepBackedOff | e.UndoBackedOff) -> None:
        """Takes a long pause."""
        self._asked.pop(event.path, None)
        self._tried[event.path, isinstance(event, e.UndoBackedOff)] = event.tried

    def _granted(self, event: e.StepRetried | e.UndoRetried) -> None:
        """Takes a new budget."""
        self._tried.pop((event.path, isinstance(event, e.UndoRetried)), None)

    def _taken_over(self, event: e.SagaTakenOver) -> None:
        """Takes it that another coordinator goes on: what was under way in the one before is lost."""
        for path, asked in self._asked.items():
            number = self._tried.get((path, asked.undo), 0) + 1
            self._lost.append(_Lost(self._attempt_id(path, asked, number), asked, path, number, self._at))
        self._epoch += 1
        if self._submitted:
            self._submitted = False  # the first to take it over is who begins it
        else:
            self._note("taken over", {"owner": event.owner})

    def _parked(self, event: e.SagaParked) -> None:
        """Takes it that the code at hand does not fit."""
        self._note("stuck", {"error.message": one_line(event.error)})

    def _signalled(self, event: e.SignalReceived) -> None:
        """Takes a signal."""
        self._note("signal", {"saga.signal": event.name})

    def _cancelled(self, event: e.CancelRequested) -> None:
        """Takes the wish that all is undone."""
        self._note("cancelled", {"reason": event.reason, "by": event.by})

    def _enter(self, path: str, at: float) -> None:
        """Notes that something goes on in a child saga, a scope or a branch."""
        for place in _places(path):
            found = self._places.setdefault(place, [at, at])
            found[1] = max(found[1], at)

    def _note(self, moment: str, details: _Details) -> None:
        """Keeps an event for the root span."""
        if len(self._moments) < _MOST_MOMENTS:
            self._moments.append((moment, self._at, details))

    # --- spans --------------------------------------------------------------------------------------------------

    def _id(self, what: str) -> int:
        """Derives the id of a span."""
        return span_id(self._origin.trace, what)

    def _attempt_id(self, path: str, asked: _Asked, number: int) -> int:
        """Derives the id of an attempt's span."""
        return self._id(f"attempt {self._epoch} {asked.seq} {path} {number}")

    def _above(self, path: str) -> Context:
        """Gives the context of the span that a path's own hangs from, with the baggage of the saga."""
        place = path.rpartition(".")[0]
        if not place:
            return self._around
        root, id = self.root, self._id(f"place {place}")  # noqa: A001 - a span's
        above = trace.SpanContext(
            root.trace_id, id, is_remote=True, trace_flags=root.trace_flags, trace_state=root.trace_state
        )
        return surroundings(above, self._origin.baggage)

    def _make(
        self, name: str, at: float, details: Mapping[str, AttributeValue], *, path: str = "", id: int = 0,  # noqa: A002 - a span's
        kind: SpanKind = SpanKind.INTERNAL, undoes: str = "",
    ) -> Span:  # fmt: skip
        """Begins a span below the root."""
        attributes = {"saga.id": self._saga_id, "saga.name": self._name, **details}
        return self._tracing.begin(
            name, self._above(path), at, attributes, trace_id=self.root.trace_id, span_id=id, kind=kind, undoes=undoes
        )

    @contextmanager
    def attempt(
        self, role: str, command: c.RunStep | c.RunUndo, number: int, now: Callable[[], float], *,
        first: bool, kind: SpanKind, held: list[Held],
    ) -> Generator[Held]:  # fmt: skip
        """Traces an attempt, or a question to a probe; what runs inside nests in it.

        Args:
            role: ``step``, ``compensate`` or ``probe``.
            command: What is attempted.
            number: Of the attempt, from 1.
            now: Gives POSIX time.
            first: Whether it is the first one of this command, so that whoever takes over knows of it.
            kind: Of the span.
            held: The spans that wait for the same record; is added to.
        """
        asked = self._asked.get(command.path)
        undo = isinstance(command, c.RunUndo)
        details: _Details = {"saga.step": command.name, "saga.path": command.path, "saga.attempt": number}
        if undo:
            details["saga.compensation"] = True
        known = asked is not None and role != "probe"
        span = self._make(
            f"{role} {command.name}", now(), details, path="" if undo else command.path, kind=kind,
            id=self._attempt_id(command.path, asked, number) if known and asked is not None else 0,
            undoes=self._undone(command) if isinstance(command, c.RunUndo) else "",
        )  # fmt: skip
        this = Held(span, derived=first and known)
        if held and held[-1].id == this.id:
            del held[-1]  # it was not even sent, and counts for nothing
        held.append(this)
        with within(trace.set_span_in_context(span, self._around)):
            yield this
        this.at = this.at or now()

    def _undone(self, command: c.RunUndo) -> str:
        """Gives the span id of what is undone; perhaps of an attempt that nobody has seen the end of."""
        return command.span or self._lost_at(command.path)

    def _lost_at(self, path: str) -> str:
        """Gives the span id of the last attempt of a step that was lost; ``""`` if none was."""
        lost = [x.id for x in self._lost if x.path == path and not x.asked.undo]
        return f"{lost[-1]:016x}" if lost else ""

    def waited(self, before: Sequence[Wait], after: Mapping[str, Wait], event: e.Event) -> list[Held]:
        """Gives the spans of what is not waited for any more, after an event; and notes what is."""
        for path in after:
            self._enter(path, self._at)
        return [self._wait(wait, event) for wait in before if wait.kind in _WAITS and after.get(wait.path) is not wait]

    def _wait(self, wait: Wait, event: e.Event) -> Held:
        """Makes the span of a wait that is over."""
        self._enter(wait.path, self._at)
        details: _Details = {"saga.path": wait.path}
        if wait.kind == "receive":
            details["saga.signal"] = wait.signal
        elif wait.kind == "lock":
            details["saga.lock"] = str(getattr(wait, "name", ""))
        if wait.kind != "sleep":
            details["saga.timed_out"] = isinstance(event, e.TimerFired) and event.path == wait.path
        name = _WAITS[wait.kind]
        id = self._id(f"wait {wait.path} {self._at!r}")  # noqa: A001 - a span's
        return Held(self._make(name, wait.since, details, path=wait.path, id=id), self._at, derived=True)

    # --- the end ------------------------------------------------------------------------------------------------

    @property
    def ended(self) -> bool:
        """Whether the saga has."""
        return self._end is not None

    def end(self, children: Mapping[str, str]) -> None:
        """Shows what only the end can show: the root, the places in it, and the attempts that were lost.

        Args:
            children: Names of the child sagas, by path.
        """
        for held in self.endings(children):
            held.show()

    def endings(self, children: Mapping[str, str]) -> list[Held]:
        """Gives the spans that ``end`` shows."""
        lost = [self._make_lost(x) for x in self._lost]
        places = [self._make_place(place, children) for place in self._places]
        return [*lost, *places, self._make_root()]

    def _make_place(self, place: str, children: Mapping[str, str]) -> Held:
        """Makes the span of a child saga, a scope or a branch."""
        since, until = self._places[place]
        name = f"saga {children[place]}" if place in children else ("branch" if _is_branch(place) else "scope")
        return Held(self._make(name, since, {"saga.path": place}, path=place, id=self._id(f"place {place}")), until)

    def retell(self, path: str, attempts: Sequence[e.Attempt], acted: str) -> list[Held]:
        """Makes the spans of attempts once more from what the journal has, before the record that they are in is taken.

        Args:
            path: Of the step.
            attempts: Of the step, or of its undo.
            acted: Span id of the step's last attempt.
        """
        asked = self._asked.get(path)
        if asked is None:
            return []
        first = self._tried.get((path, asked.undo), 0) + 1
        undoes = (acted or self._lost_at(path)) if asked.undo else ""
        numbered = enumerate(attempts, first)
        return [self._retold(path, asked, number, attempt, undoes) for number, attempt in numbered if attempt.span]

    def _retold(self, path: str, asked: _Asked, number: int, attempt: e.Attempt, undoes: str) -> Held:
        """Makes the span of an attempt that the journal has."""
        role = "compensate" if asked.undo else "step"
        details: _Details = {"saga.step": asked.name, "saga.path": path, "saga.attempt": number, "saga.retold": True}
        if asked.undo:
            details["saga.compensation"] = True
        span = self._make(
            f"{role} {asked.name}", attempt.started, details, path="" if asked.undo else path,
            id=int(attempt.span, 16), undoes=undoes,
        )  # fmt: skip
        if attempt.error is not None:
            span.set_status(Status(StatusCode.ERROR, attempt.error))
        return Held(span, attempt.started + attempt.seconds)

    def _make_lost(self, lost: _Lost) -> Held:
        """Makes the span of an attempt of which nobody knows more."""
        asked = lost.asked
        details: _Details = {
            "saga.step": asked.name, "saga.path": lost.path, "saga.attempt": lost.attempt, "saga.lost": True,
        }  # fmt: skip
        if asked.undo:
            details["saga.compensation"] = True
        role = "compensate" if asked.undo else "step"
        path = "" if asked.undo else lost.path
        span = self._make(f"{role} {asked.name}", asked.at, details, path=path, id=lost.id)
        span.add_event("lost", {"reason": _LOST}, nanoseconds(lost.until))
        return Held(span, lost.until)

    def _make_root(self) -> Held:
        """Makes the root."""
        cause = None if self._end is None else self._end.cause
        outcome = "compensated" if self._end is None or self._end.result is None else "completed"
        details: _Details = {
            "saga.id": self._saga_id, "saga.name": self._name, "saga.version": self._version, "saga.outcome": outcome,
        }  # fmt: skip
        if cause is not None:
            details["error.type"] = type_name(cause.type)
        parent = read_parent(self._origin.parent, self._origin.state)
        above = Context() if parent is None else surroundings(parent, self._origin.baggage)
        span = self._tracing.begin(
            f"saga {self._name}", above, self._started, details, trace_id=self.root.trace_id,
            span_id=self.root.span_id,
        )  # fmt: skip
        for moment, at, found in self._moments:
            span.add_event(moment, found, nanoseconds(at))
        if cause is not None:
            span.set_status(Status(StatusCode.ERROR, one_line(cause)))
        return Held(span, self._at)


def find_story(tracing: Tracing | None, origin: Origin, saga_id: str, records: Sequence[Record] = ()) -> Story | None:
    """Begins the story of a saga, with the records that it has; ``None`` if nobody is to hear it."""
    if tracing is None or not origin.trace:
        return None
    root = read_parent(origin.trace, origin.state)
    if root is None or not root.trace_flags.sampled:
        return None
    story = Story(tracing, origin, root, saga_id)
    for record in records:
        story.take(record.seq, record.at, record.event, record.commands)
    return story


def _places(path: str) -> list[str]:
    """Gives the child sagas, scopes and branches that a path lies in, from the outermost one."""
    return [path[:position] for position, sign in enumerate(path) if sign == "."]


def _is_branch(place: str) -> bool:
    """Tells one of several branches from a sequence of its own."""
    return place.rfind(":") > place.rfind(".")


_REACTIONS: dict[type, Callable[[Story, Any], None]] = {
    e.SagaStarted: Story._begin,  # noqa: SLF001 - as the others, of this module
    e.SagaSubmitted: Story._begin,  # noqa: SLF001
    e.StepSucceeded: Story._answered,  # noqa: SLF001
    e.StepRejected: Story._answered,  # noqa: SLF001
    e.StepInDoubt: Story._answered,  # noqa: SLF001
    e.UndoSucceeded: Story._answered,  # noqa: SLF001
    e.UndoFailed: Story._answered,  # noqa: SLF001
    e.StepBackedOff: Story._backed_off,  # noqa: SLF001
    e.UndoBackedOff: Story._backed_off,  # noqa: SLF001
    e.StepRetried: Story._granted,  # noqa: SLF001
    e.UndoRetried: Story._granted,  # noqa: SLF001
    e.SagaTakenOver: Story._taken_over,  # noqa: SLF001
    e.SagaParked: Story._parked,  # noqa: SLF001
    e.SignalReceived: Story._signalled,  # noqa: SLF001
    e.CancelRequested: Story._cancelled,  # noqa: SLF001
}
