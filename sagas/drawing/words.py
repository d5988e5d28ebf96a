"""What is written into drawings: names, signs, states and durations, safe in XML whatever they hold."""

from __future__ import annotations

import re
import unicodedata
from typing import TYPE_CHECKING, NamedTuple
from xml.sax.saxutils import escape, quoteattr

if TYPE_CHECKING:
    from sagas.coordinator.views import SagaView, StepView

__all__ = [
    "Look",
    "attribute",
    "awaited",
    "cells",
    "duration",
    "heading",
    "look_of",
    "own_words",
    "place",
    "plain",
    "shorten",
    "stands",
    "told",
    "took",
    "undo_look_of",
    "words",
]

_BREAKS = re.compile(r"\s+")
_MINUTE, _HOUR, _DAY = 60.0, 3600.0, 86_400.0
_PRECISE_BELOW = 10
_SHORTEST = 0.00005
_MOST_TOLD = 40
_UNITS = (
    (_HOUR, _MINUTE, 1.0, "min", "s"),
    (_DAY, _HOUR, _MINUTE, "h", "min"),
    (float("inf"), _DAY, _HOUR, "d", "h"),
)


class Look(NamedTuple):
    """How a step in some state looks.

    Attributes:
        kind: ``good``, ``open``, ``bad``, ``doubt``, ``undo`` or ``plain``.
        sign: Says the same without a colour.
        ascii: A sign for terminals that have no others.
        now: Whether the saga stands there.
    """

    kind: str
    sign: str
    ascii: str
    now: bool = False


_LOOKS = {
    "scheduled": Look("open", "●", "*", now=True),
    "backing off": Look("open", "…", ".", now=True),
    "succeeded": Look("good", "✓", "+"),
    "rejected": Look("bad", "✗", "x"),
    "in doubt": Look("doubt", "?", "?"),
    "parked": Look("bad", "!", "!", now=True),
}
_NO_LOOK = Look("plain", "·", "-")
_UNDO_LOOKS = {
    "undoing": Look("undo", "●", "*", now=True),
    "undo backing off": Look("undo", "…", ".", now=True),
    "undo failed": Look("bad", "!", "!", now=True),
    "undone": Look("undo", "↩", "<"),
    "undo skipped": Look("undo", "↷", ">"),
}


def own_words(step: StepView) -> str:
    """Says what became of a step itself, whatever became of its undo."""
    if step.state not in _UNDO_LOOKS:
        return step.state
    return step.outcome or "in doubt"


def look_of(step: StepView) -> Look:
    """Says how a step looks, whatever became of its undo."""
    return _LOOKS.get(own_words(step), _NO_LOOK)


def undo_look_of(step: StepView) -> Look | None:
    """Says how the undo of a step looks, if its turn has come."""
    return _UNDO_LOOKS.get(step.state)


def stands(step: StepView) -> bool:
    """Says whether a saga stands at a step, or its undo."""
    return _LOOKS.get(step.state, _UNDO_LOOKS.get(step.state, _NO_LOOK)).now


def words(text: str) -> str:
    """Writes a text into XML, on one line."""
    return escape(plain(text))


def attribute(text: str) -> str:
    """Writes a text as the value of an attribute, with its quotes."""
    return quoteattr(plain(text))


def plain(text: str) -> str:
    """Puts a text on one line, without what moves a terminal, turns letters around, or has no place in XML."""
    return "".join(x if x.isprintable() else "\ufffd" for x in _BREAKS.sub(" ", text).strip())


def cells(text: str) -> int:
    """Says how wide a text is, in letters."""
    return sum(2 if unicodedata.east_asian_width(x) in "WF" else 1 for x in text)


def shorten(text: str, most: int) -> str:
    """Keeps a text on one line, and to so many letters."""
    line = plain(text)
    if cells(line) <= most:
        return line
    kept = ""
    for letter in line:
        if cells(kept + letter) >= most:
            break
        kept += letter
    return kept + "…"


def place(step: StepView) -> str:
    """Names a step and where it stands in the body."""
    return plain(f"{step.name} ({step.path})")


def took(step: StepView, *, undo: bool = False) -> str:
    """Says how long the attempts of a step or its compensator took, and how many there were."""
    attempts = step.undo_attempts if undo else step.attempts
    if not attempts:
        return ""
    seconds = duration(sum(x.seconds for x in attempts))
    return f"{seconds} in {len(attempts)} attempts" if len(attempts) > 1 else seconds


def duration(seconds: float) -> str:
    """Writes a duration for people: ``3.2 ms``, ``350 ms``, ``2.50 s``, ``3 min 20 s``, ``2 h 5 min``, ``4 d 3 h``.

    What took some time is never said to have taken none: ``<0.1 ms``.
    """
    if 0 < seconds < _SHORTEST:
        return "<0.1 ms"
    if seconds < _MINUTE:
        milliseconds = seconds * 1000
        if seconds >= 1:
            return f"{seconds:.2f} s"
        return f"{milliseconds:.1f} ms" if 0 < milliseconds < _PRECISE_BELOW else f"{milliseconds:.0f} ms"
    _, big, small, big_unit, small_unit = next(unit for unit in _UNITS if seconds < unit[0])
    return f"{seconds // big:.0f} {big_unit} {seconds % big // small:.0f} {small_unit}"


def heading(view: SagaView) -> str:
    """Names a saga and says how it stands."""
    return f"{view.name} {view.id}, {view.status}"


def awaited(view: SagaView) -> list[str]:
    """Names the locks and signals that a saga waits for."""
    locks = [f"lock {lock.name}" for lock in view.locks if not lock.held]
    return [*locks, *(f"signal {signal.name}" for signal in view.signals)]


def told(view: SagaView) -> str:
    """Tells a drawing to who cannot see it."""
    steps = [f"{place(step)}: {_told(step)}" for step in view.steps[:_MOST_TOLD]]
    if len(view.steps) > _MOST_TOLD:
        steps.append(f"and {len(view.steps) - _MOST_TOLD} more steps")
    now = [place(step) for step in view.steps if stands(step)][:_MOST_TOLD]
    standing = [f"It stands at {', '.join(now)}"] if now and view.ended_at is None else []
    return ". ".join([f"{heading(view)}{f' for {view.cause}' if view.cause else ''}", "; ".join(steps), *standing])


def _told(step: StepView) -> str:
    """Tells a step."""
    own, undo = own_words(step), step.state
    return own if undo == own else f"{own}, {undo}"
