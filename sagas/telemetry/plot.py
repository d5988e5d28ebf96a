"""What a saga's journal tells that its trace shows."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

from sagas.core import commands as c
from sagas.core import events as e
from sagas.core.failures import one_line

if TYPE_CHECKING:
    from collections.abc import Sequence

    from opentelemetry.util.types import AttributeValue

__all__ = ["Asked", "Details", "Lost", "Plot"]

# So many events are told of one saga; as many as OpenTelemetry keeps of a span.
_MOST_MOMENTS = 128

Details = dict[str, "AttributeValue"]


class Asked(NamedTuple):
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


class Lost(NamedTuple):
    """An attempt that was perhaps under way when its coordinator ended.

    Attributes:
        epoch: How many had taken the saga over before that one.
        asked: What was to be attempted.
        path: Of the step.
        attempt: Which attempt it was, from 1.
        until: POSIX time at which another coordinator went on.
    """

    epoch: int
    asked: Asked
    path: str
    attempt: int
    until: float


class Plot:
    """See the module; takes the records one by one."""

    __slots__ = (
        "_asked", "_at", "_end", "_epoch", "_lost", "_moments", "_name", "_places", "_started", "_submitted", "_tried",
        "_version",
    )  # fmt: skip

    def __init__(self) -> None:
        self._name = self._version = ""
        self._started = self._at = 0.0
        self._submitted = False
        self._epoch = 0
        self._end: c.Complete | None = None
        self._asked: dict[str, Asked] = {}
        self._tried: dict[tuple[str, bool], int] = {}
        self._lost: list[Lost] = []
        self._moments: list[tuple[str, float, Details]] = []
        self._places: dict[str, list[float]] = {}

    @property
    def ended(self) -> bool:
        """Whether the saga has."""
        return self._end is not None

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
        self._asked[command.path] = Asked(seq, self._at, command.name, undo)
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
            self._lost.append(Lost(self._epoch, asked, path, number, self._at))
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

    def _note(self, moment: str, details: Details) -> None:
        """Keeps an event for the root span."""
        if len(self._moments) < _MOST_MOMENTS:
            self._moments.append((moment, self._at, details))


def _places(path: str) -> list[str]:
    """Gives the child sagas, scopes and branches that a path lies in, from the outermost one."""
    return [path[:position] for position, sign in enumerate(path) if sign == "."]


_REACTIONS: dict[type, Callable[[Plot, Any], None]] = {
    e.SagaStarted: Plot._begin,  # noqa: SLF001 - as the others, of this module
    e.SagaSubmitted: Plot._begin,  # noqa: SLF001
    e.StepSucceeded: Plot._answered,  # noqa: SLF001
    e.StepRejected: Plot._answered,  # noqa: SLF001
    e.StepInDoubt: Plot._answered,  # noqa: SLF001
    e.UndoSucceeded: Plot._answered,  # noqa: SLF001
    e.UndoFailed: Plot._answered,  # noqa: SLF001
    e.StepBackedOff: Plot._backed_off,  # noqa: SLF001
    e.UndoBackedOff: Plot._backed_off,  # noqa: SLF001
    e.StepRetried: Plot._granted,  # noqa: SLF001
    e.UndoRetried: Plot._granted,  # noqa: SLF001
    e.SagaTakenOver: Plot._taken_over,  # noqa: SLF001
    e.SagaParked: Plot._parked,  # noqa: SLF001
    e.SignalReceived: Plot._signalled,  # noqa: SLF001
    e.CancelRequested: Plot._cancelled,  # noqa: SLF001
}
