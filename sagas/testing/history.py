"""What a journal says about the steps, moment by moment."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from sagas.core import commands as c
from sagas.core import events as e

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from sagas.core.records import Record

__all__ = ["History", "Moment", "read"]

_WHAT: dict[type[e.Event], str] = {
    e.StepSucceeded: "acted",
    e.StepRejected: "rejected",
    e.StepInDoubt: "doubt",
    e.StepBackedOff: "paused",
    e.StepSkipped: "rejected",
    e.UndoSucceeded: "undone",
    e.UndoSkipped: "undone",
}


_PARKING = frozenset({e.SagaParked, e.SagaResumed, e.CancelRequested})


class Moment(NamedTuple):
    """Something that a record says about a step.

    Attributes:
        seq: Number of the record.
        what: ``asked``, ``acted``, ``rejected``, ``doubt``, ``paused``, ``parked``, ``undo`` or ``undone``.
        path: Of the step.
    """

    seq: int
    what: str
    path: str


class History(NamedTuple):
    """See the module.

    Attributes:
        moments: In order.
        asked: What each step was asked for with, by path.
        undoing: Whether anything was undone.
        kinds: Of its events; what concerns none of them need not be looked for.
        ends: Numbers of the records that end the saga.
    """

    moments: list[Moment]
    asked: dict[str, c.RunStep]
    undoing: bool
    kinds: frozenset[type[e.Event]]
    ends: Sequence[int]

    def alive(self) -> Iterator[tuple[Moment, set[str], set[str]]]:
        """Walks the moments, each with the steps that may have acted just after it, and those that are under way.

        What a pivot has made final, and what has no compensator, does not count.
        """
        alive: set[str] = set()
        running: set[str] = set()
        final: set[str] = set()
        for moment in self.moments:
            path = moment.path
            step = self.asked.get(path)
            if moment.what == "asked":
                running.add(path)
            elif moment.what in ("acted", "doubt", "rejected", "parked", "paused"):
                running.discard(path)
            if moment.what in ("acted", "doubt") and step is not None and step.undoable and path not in final:
                alive.add(path)
            elif moment.what in ("rejected", "undone"):
                alive.discard(path)
            if moment.what == "acted" and step is not None and step.pivot:
                final |= set(self.asked_until(moment.seq))
                alive -= final
            yield moment, alive, running

    def asked_until(self, seq: int) -> Iterator[str]:
        """Lists the steps that were asked for up to a record."""
        return (x.path for x in self.moments if x.what == "asked" and x.seq <= seq)


def read(records: Sequence[Record]) -> History:
    """Reads a journal."""
    moments: list[Moment] = []
    asked: dict[str, c.RunStep] = {}
    ends: list[int] = []
    undoing = parked = False
    for record in records:
        kind = type(record.event)
        if kind in _PARKING:
            if parked and kind is e.CancelRequested:
                moments += _abandoned(record, moments)
            parked = kind is e.SagaParked
        if kind in _WHAT:
            moments += _of_event(record, asked)
        for command in record.commands:
            if isinstance(command, c.RunStep):
                asked[command.path] = command
                moments.append(Moment(record.seq, "asked", command.path))
            elif isinstance(command, c.RunUndo):
                undoing = True
                moments.append(Moment(record.seq, "undo", command.path))
            elif isinstance(command, c.Complete):
                ends.append(record.seq)
    return History(moments, asked, undoing, frozenset([type(x.event) for x in records]), ends)


def _abandoned(record: Record, moments: Sequence[Moment]) -> list[Moment]:
    """Reads what the end of a body means whose saga was parked: what was under way may have acted."""
    under_way: dict[str, None] = {}
    for moment in moments:
        if moment.what == "asked":
            under_way[moment.path] = None
        elif moment.what != "paused":
            under_way.pop(moment.path, None)
    return [Moment(record.seq, "doubt", path) for path in under_way]


def _of_event(record: Record, asked: dict[str, c.RunStep]) -> Iterator[Moment]:
    """Reads what the event of a record says."""
    event = record.event
    path = getattr(event, "path", "")
    if path not in asked:
        return
    what = _WHAT[type(event)]
    if isinstance(event, e.StepBackedOff) and event.doubt:
        what = "doubt"
    if any(isinstance(x, c.Halt) and x.path == path for x in record.commands):
        yield Moment(record.seq, "parked", path)
        if what not in ("doubt", "rejected"):
            return
    yield Moment(record.seq, what, path)
