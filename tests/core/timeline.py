"""What a journal says about the steps, by their tags; and how a law that does not hold is reported."""

from __future__ import annotations

from dataclasses import dataclass

import orjson

from sagas.core import commands as c
from sagas.core import events as e
from sagas.core.records import Record

__all__ = ["LawBroken", "Moment", "hold", "timeline"]


class LawBroken(AssertionError):
    """A law of the design does not hold.

    Attributes:
        law: Its name.
    """

    def __init__(self, law: str, what: object = "") -> None:
        super().__init__(f"{law}: {what}")
        self.law = law


def hold(law: str, holds: object, what: object = "") -> None:
    """Raises ``LawBroken`` unless a law holds."""
    if not holds:
        raise LawBroken(law, what)


@dataclass(frozen=True)
class Moment:
    """Something that the journal says about a step: that it was asked for, that it acted, and so on."""

    seq: int
    what: str
    tag: int


_WHAT: dict[type[e.Event], str] = {
    e.StepSucceeded: "acted",
    e.StepRejected: "rejected",
    e.StepInDoubt: "doubt",
    e.StepSkipped: "rejected",
    e.UndoSucceeded: "undone",
    e.UndoSkipped: "undone",
}


def timeline(records: list[Record]) -> list[Moment]:
    """Tells the story of the steps, by tag."""
    tags: dict[str, int] = {}
    moments: list[Moment] = []
    for record in records:
        path = getattr(record.event, "path", "")
        what = _WHAT.get(type(record.event))
        if isinstance(record.event, e.StepBackedOff):
            what = "doubt" if record.event.doubt else "paused"
        if path in tags and what is not None:
            halts = any(isinstance(x, c.Halt) and x.path == path for x in record.commands)
            moments.append(Moment(record.seq, "parked" if halts else what, tags[path]))
            if halts and what in ("doubt", "rejected"):
                moments.append(Moment(record.seq, what, tags[path]))
        for command in record.commands:
            if isinstance(command, c.RunStep):
                tags[command.path] = orjson.loads(command.arguments)["tag"]
                moments.append(Moment(record.seq, "asked", tags[command.path]))
            elif isinstance(command, c.RunUndo):
                moments.append(Moment(record.seq, "undo", tags[command.path]))
    return moments
