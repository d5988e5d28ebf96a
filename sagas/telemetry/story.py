"""What a saga's trace tells, drawn from its journal: the same whether told live, or by whoever goes on with it."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import contextmanager
from typing import TYPE_CHECKING, Protocol

from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.trace import SpanKind, Status, StatusCode

from sagas.core import commands as c
from sagas.core import events as e
from sagas.core.failures import one_line
from sagas.telemetry.marking import mark, type_name, within
from sagas.telemetry.plot import Plot
from sagas.telemetry.tracing import Held, Origin, nanoseconds, read_parent, span_id, surroundings

if TYPE_CHECKING:
    from collections.abc import Generator, Mapping, Sequence

    from opentelemetry.trace import Span, SpanContext
    from opentelemetry.util.types import AttributeValue

    from sagas.core.records import Record
    from sagas.telemetry.plot import Asked, Details, Lost
    from sagas.telemetry.tracing import Tracing

__all__ = ["Story", "Waiting", "find_story"]

_WAITS = {"sleep": "sleep", "receive": "receive", "lock": "wait for lock"}
_LOST = "its coordinator ended, or was cut off, before it was known whether the attempt was made, or what came of it"


class Waiting(Protocol):
    """What a body waits for; see ``core.fibers.Wait``."""

    @property
    def kind(self) -> str:
        """``sleep``, ``receive`` or ``lock``; others are not told."""
        ...

    @property
    def path(self) -> str:
        """Its place."""
        ...

    @property
    def since(self) -> float:
        """POSIX time at which it began."""
        ...

    @property
    def signal(self) -> str:
        """Name of the signal, if it is one."""
        ...


class Story(Plot):
    """One saga's: its plot, told in spans.

    Args:
        tracing: Makes the spans.
        origin: Where the trace begins.
        saga_id: The saga.

    Attributes:
        root: Context of the root span.
    """

    __slots__ = ("_around", "_origin", "_saga_id", "_tracing", "root")

    def __init__(self, tracing: Tracing, origin: Origin, root: SpanContext, saga_id: str) -> None:
        super().__init__()
        self.root = root
        self._around = surroundings(root, origin.baggage)
        self._tracing = tracing
        self._origin = origin
        self._saga_id = saga_id

    # --- spans --------------------------------------------------------------------------------------------------

    def _id(self, what: str) -> int:
        """Derives the id of a span."""
        return span_id(self._origin.trace, what)

    def _attempt_id(self, epoch: int, path: str, asked: Asked, number: int) -> int:
        """Derives the id of an attempt's span."""
        return self._id(f"attempt {epoch} {asked.seq} {path} {number}")

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
        details: Details = {"saga.step": command.name, "saga.path": command.path, "saga.attempt": number}
        if undo:
            details["saga.compensation"] = True
        known = asked is not None and role != "probe"
        span = self._make(
            f"{role} {command.name}", now(), details, path="" if undo else command.path, kind=kind,
            id=self._attempt_id(self._epoch, command.path, asked, number) if known and asked is not None else 0,
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
        lost = [x for x in self._lost if x.path == path and not x.asked.undo]
        return f"{self._lost_id(lost[-1]):016x}" if lost else ""

    def _lost_id(self, lost: Lost) -> int:
        """Derives the id of the span of an attempt that was lost."""
        return self._attempt_id(lost.epoch, lost.path, lost.asked, lost.attempt)

    def waited(self, before: Sequence[Waiting], after: Mapping[str, Waiting], event: e.Event) -> list[Held]:
        """Gives the spans of what is not waited for any more, after an event; and notes what is."""
        for path in after:
            self._enter(path, self._at)
        return [self._wait(wait, event) for wait in before if wait.kind in _WAITS and after.get(wait.path) is not wait]

    def _wait(self, wait: Waiting, event: e.Event) -> Held:
        """Makes the span of a wait that is over."""
        self._enter(wait.path, self._at)
        details: Details = {"saga.path": wait.path}
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

    def retell(
        self, path: str, attempts: Sequence[e.Attempt], acted: str, error: e.ErrorInfo | None = None
    ) -> list[Held]:
        """Makes the spans of attempts once more from what the journal has, before the record that they are in is taken.

        Args:
            path: Of the step.
            attempts: Of the step, or of its undo.
            acted: Span id of the step's last attempt.
            error: What the last one of these raised, if the record has more of it than a line.
        """
        asked = self._asked.get(path)
        if asked is None:
            return []
        first = self._tried.get((path, asked.undo), 0) + 1
        undoes = (acted or self._lost_at(path)) if asked.undo else ""
        numbered = enumerate(attempts, first)
        told = [self._retold(path, asked, number, attempt, undoes) for number, attempt in numbered if attempt.span]
        if told and error is not None and attempts[-1].span and attempts[-1].error == one_line(error):
            mark(told[-1].span, error, at=told[-1].at)
        return told

    def _retold(self, path: str, asked: Asked, number: int, attempt: e.Attempt, undoes: str) -> Held:
        """Makes the span of an attempt that the journal has."""
        role = "compensate" if asked.undo else "step"
        details: Details = {"saga.step": asked.name, "saga.path": path, "saga.attempt": number, "saga.retold": True}
        if asked.undo:
            details["saga.compensation"] = True
        span = self._make(
            f"{role} {asked.name}", attempt.started, details, path="" if asked.undo else path,
            id=int(attempt.span, 16), undoes=undoes,
        )  # fmt: skip
        if attempt.error is not None:
            span.set_status(Status(StatusCode.ERROR, attempt.error))
        return Held(span, attempt.started + attempt.seconds)

    def _make_lost(self, lost: Lost) -> Held:
        """Makes the span of an attempt of which nobody knows more."""
        asked = lost.asked
        details: Details = {
            "saga.step": asked.name, "saga.path": lost.path, "saga.attempt": lost.attempt, "saga.lost": True,
        }  # fmt: skip
        if asked.undo:
            details["saga.compensation"] = True
        role = "compensate" if asked.undo else "step"
        path = "" if asked.undo else lost.path
        span = self._make(f"{role} {asked.name}", asked.at, details, path=path, id=self._lost_id(lost))
        span.add_event("lost", {"reason": _LOST}, nanoseconds(lost.until))
        return Held(span, lost.until)

    def _make_root(self) -> Held:
        """Makes the root."""
        cause = None if self._end is None else self._end.cause
        outcome = "compensated" if self._end is None or self._end.result is None else "completed"
        details: Details = {
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


def _is_branch(place: str) -> bool:
    """Tells one of several branches from a sequence of its own."""
    return place.rfind(":") > place.rfind(".")
