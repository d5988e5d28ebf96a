"""Draws the way that one saga took for a terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from sagas.drawing.tree import Fan, Fold, Leaf, Row, tree_of
from sagas.drawing.words import (
    Look,
    awaited,
    cells,
    heading,
    look_of,
    own_words,
    place,
    shorten,
    stands,
    took,
    undo_look_of,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sagas.coordinator.views import SagaView, StepView
    from sagas.drawing.tree import Block

__all__ = ["Drawn", "as_text"]

_LONGEST = 100


class Drawn(NamedTuple):
    """A line of the drawing.

    Attributes:
        rails: What leads to the step.
        text: The step with what became of it.
        kind: How it looks: as ``Look.kind``.
        now: Whether the saga stands there.
    """

    rails: str
    text: str
    kind: str
    now: bool = False

    def __str__(self) -> str:
        return (self.rails + self.text).rstrip()


class _Rails(NamedTuple):
    """What lines are made of: down, to one of several, to the last of them, and nothing."""

    down: str
    branch: str
    last: str
    none: str
    here: str
    undo: str


_FINE = _Rails("│ ", "├─", "└─", "  ", " ◀ now", "↩")
_PLAIN = _Rails("| ", "+-", "`-", "  ", " <== now", "<-")
_ENDS = {"completed": Look("good", "■", "="), "compensated": Look("undo", "■", "=")}


def as_text(view: SagaView, *, unicode: bool = True) -> list[Drawn]:
    """Draws a saga: steps in their order, what runs side by side below each other on rails of its own.

    Args:
        view: As ``Client.get`` gives it.
        unicode: Whether more than ASCII can be shown.

    Returns:
        Its lines.
    """
    rails = _FINE if unicode else _PLAIN
    artist = _Artist(rails, unicode=unicode)
    lines = [Drawn("", ("▶ " if unicode else "> ") + artist.own(heading(view)), "plain")]
    lines += artist.draw(tree_of(view), "")
    return [*_aligned(lines, rails), *artist.end(view)]


class _Artist:
    """Draws the parts."""

    def __init__(self, rails: _Rails, *, unicode: bool) -> None:
        self._rails = rails
        self._unicode = unicode

    def own(self, text: str) -> str:
        """Keeps a text on one line, and to what the terminal can show."""
        line = shorten(text, _LONGEST)
        return line if self._unicode else _ascii(line)

    def draw(self, block: Block, lead: str) -> Iterator[Drawn]:
        """Draws a block."""
        if isinstance(block, Row):
            for inner in block.blocks:
                yield from self.draw(inner, lead)
        elif isinstance(block, Fan):
            for number, inner in enumerate(block.blocks):
                yield from self._branch(inner, lead, last=number == len(block.blocks) - 1)
        elif isinstance(block, Fold):
            yield Drawn(lead, self.own(f"… {block.steps} steps"), "plain")
        else:
            yield self._step(block, lead)

    def _branch(self, block: Block, lead: str, *, last: bool) -> Iterator[Drawn]:
        """Draws one of several things that are side by side."""
        for number, line in enumerate(self.draw(block, "")):
            own = (self._rails.last if last else self._rails.branch) if not number else None
            rail = own or (self._rails.none if last else self._rails.down)
            yield line._replace(rails=lead + rail + line.rails)

    def _step(self, leaf: Leaf, lead: str) -> Drawn:
        """Draws a step."""
        step = leaf.step
        look, undo = look_of(step), undo_look_of(step)
        told = [own_words(step), took(step)]
        kind = look.kind
        if undo is not None:
            told += [f"{self._rails.undo} {step.state}", took(step, undo=True)]
            kind = undo.kind
        why = _why(step)
        text = f"{self._sign(look)} {place(step)}\t{', '.join(x for x in told if x)}{f': {why}' if why else ''}"
        return Drawn(lead, text, kind, stands(step))

    def _sign(self, look: Look) -> str:
        """Gives a sign."""
        return look.sign if self._unicode else look.ascii

    def end(self, view: SagaView) -> Iterator[Drawn]:
        """Draws how the saga ended, or for what it waits."""
        look = _ENDS.get(view.status)
        if look is not None:
            yield Drawn("", self.own(f"{self._sign(look)} {view.status}{_for(view)}"), look.kind)
            return
        if any(stands(step) for step in view.steps):
            return
        waits = "waits" if view.waiting else view.status
        what = "stuck" + _for(view) if view.status == "stuck" else waits + _until(view)
        sign = ("!" if view.status == "stuck" else "●") if self._unicode else "*"
        text = self.own(f"{sign} {what}") + self._rails.here
        yield Drawn("", text, "bad" if view.status == "stuck" else "open", now=True)


def _for(view: SagaView) -> str:
    """Says why."""
    why = view.cause or view.error
    return f": {why}" if why else ""


def _until(view: SagaView) -> str:
    """Says for what a saga waits."""
    if waited := awaited(view):
        return f" for {', '.join(waited)}"
    return "" if view.wake_at is None else f" until {view.wake_at.astimezone():%Y-%m-%d %H:%M:%S}"


def _why(step: StepView) -> str:
    """Says why a step or its undo failed, or what somebody decided about it."""
    if step.decision is not None:
        return str(step.decision)
    return "" if step.state in ("succeeded", "undone") else step.error or ""


def _aligned(lines: list[Drawn], rails: _Rails) -> Iterator[Drawn]:
    """Puts what became of the steps below each other, and marks where the saga stands."""
    parts = [(line, *line.text.partition("\t")[::2]) for line in lines]
    width = max((cells(line.rails + name) for line, name, told in parts if told), default=0)
    ascii_only = rails is _PLAIN
    for line, name, told in parts:
        padding = " " * (width - cells(line.rails + name) + 2) if told else ""
        text = name + padding + shorten(told, _LONGEST) + (rails.here if line.now else "")
        yield line._replace(text=_ascii(text) if ascii_only else text)


def _ascii(text: str) -> str:
    """Makes do with ASCII."""
    return text.replace("…", "...").encode("ascii", "replace").decode()
