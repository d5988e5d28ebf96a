"""Draws the way that one saga took: what it did downwards, what it undid back up, and where it stands now."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sagas.drawing.layout import HEIGHT, WIDTH, Box, Edge, arrange
from sagas.drawing.style import STYLE
from sagas.drawing.tree import tree_of
from sagas.drawing.words import (
    Look,
    attribute,
    awaited,
    heading,
    look_of,
    own_words,
    place,
    shorten,
    stands,
    told,
    took,
    undo_look_of,
    words,
)

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from sagas.coordinator.views import SagaView, StepView
    from sagas.drawing.layout import Layout

__all__ = ["as_graph"]

_MARGIN, _GAP, _LETTERS = 20.0, 34.0, 24
_ENDS = {
    "completed": Look("good", "✓", "+"),
    "compensated": Look("undo", "↩", "<"),
}


def as_graph(view: SagaView, *, style: bool = True, anchor: str = "") -> str:
    """Draws a saga.

    Args:
        view: As ``Client.get`` gives it.
        style: Whether the drawing brings its colours; else ``STYLE`` is to be in the page's own style sheet, as
            strict policies for content want it.
        anchor: What the ids of the page's elements about steps begin with, followed by the path; each step then is a
            link to its own. No links by default.

    Returns:
        An ``<svg>`` element, which may be a file or stand in a page.
    """
    return "\n".join(_document(view, style=style, anchor=anchor)) + "\n"


def _document(view: SagaView, *, style: bool, anchor: str) -> Iterator[str]:
    """Writes the element."""
    start = Box(0.0, _MARGIN)
    layout = arrange(tree_of(view), start.bottom + _GAP)
    end = _end(view, layout, start)
    left = max(-layout.left, WIDTH / 2) + _MARGIN
    right = max(layout.right, WIDTH / 2, *([] if end is None else [end.right])) + _MARGIN
    bottom = max(layout.bottom, start.bottom, *([] if end is None else [end.bottom])) + _MARGIN
    name, role = heading(view), "group" if anchor else "img"  # an image has no links
    yield (
        f'<svg xmlns="http://www.w3.org/2000/svg" class="saga-drawing saga-graph" role="{role}" '
        f'aria-label={attribute(name)} viewBox="0 0 {left + right:.0f} {bottom:.0f}" '
        f'width="{left + right:.0f}" height="{bottom:.0f}">'
    )
    yield f"<title>{words(name)}</title>"
    yield f"<desc>{words(told(view))}</desc>"
    if style:
        yield f"<style>{STYLE}</style>"
    yield from _heads()
    yield f'<g transform="translate({left:.1f} 0)">'
    yield from _edges(layout, start, end)
    yield from _plain(start, "plain", shorten(view.name, _LETTERS), f"version {view.version}")
    for box in layout.boxes:
        yield from _box(box, anchor)
    if end is not None:
        yield from _ending(view, end)
    yield "</g>"
    yield "</svg>"


def _heads() -> Iterator[str]:
    """Writes the heads of arrows."""
    yield "<defs>"
    for kind in ("", "back"):
        yield (
            f'<marker id="saga-head{kind}" viewBox="0 0 10 10" refX="9" refY="5" markerWidth="7" markerHeight="7" '
            f'orient="auto-start-reverse"><path class="head {kind}" d="M0 1 10 5 0 9z"/></marker>'
        )
    yield "</defs>"


def _end(view: SagaView, layout: Layout, start: Box) -> Box | None:
    """Places how the saga ended, or for what it waits beside its steps; ``None`` if its steps tell where it stands."""
    if view.status == "compensated" and layout.last_undos:
        return Box(WIDTH + _GAP, start.y)
    if view.ended_at is None and any(stands(step) for step in view.steps):
        return None
    return Box(0.0, (layout.bottom if layout.boxes else start.bottom) + _GAP)


def _edges(layout: Layout, start: Box, end: Box | None) -> Iterator[str]:
    """Draws all edges."""
    for target in layout.first:
        yield _down(Edge(start, target, start.bottom))
    for edge in layout.forward:
        yield _down(edge)
    for edge in layout.back:
        yield _up(edge.source, edge.target)
    for box in layout.boxes:
        if box.undo:
            yield _undoes(box)
    if end is None:
        return
    if end.y == start.y:
        for source in layout.last_undos:
            yield _up(source, end)
    else:
        for source in layout.last or [start]:
            yield _down(Edge(source, end, layout.bottom if layout.boxes else source.bottom))


def _down(edge: Edge) -> str:
    """Draws an edge from step to step: straight down to the end of its block, then over to the next."""
    source, target, at = edge
    middle = (at + target.y) / 2
    return (
        f'<path class="edge" marker-end="url(#saga-head)" d="M{source.x:.1f} {source.bottom:.1f}V{at:.1f}'
        f'C{source.x:.1f} {middle:.1f} {target.x:.1f} {middle:.1f} {target.x:.1f} {target.y:.1f}"/>'
    )


def _up(source: Box, target: Box) -> str:
    """Draws an edge from undo to undo."""
    middle = (source.y + target.bottom) / 2
    return (
        f'<path class="edge back" marker-end="url(#saga-headback)" d="M{source.x:.1f} {source.y:.1f}'
        f'C{source.x:.1f} {middle:.1f} {target.x:.1f} {middle:.1f} {target.x:.1f} {target.bottom:.1f}"/>'
    )


def _undoes(undo: Box) -> str:
    """Draws what links an undo to the step that it undoes."""
    y = undo.y + HEIGHT / 2
    name = "" if undo.step is None else place(undo.step)
    return (
        f'<path class="edge undoes" marker-start="url(#saga-headback)" d="M{undo.left - _GAP:.1f} {y:.1f}'
        f'H{undo.left:.1f}"><title>undoes {words(name)}</title></path>'
    )


def _box(box: Box, anchor: str) -> Iterator[str]:
    """Draws a step, its undo, or how many steps are left out."""
    step = box.step
    if step is None:
        yield from _plain(box, "plain", f"… {box.folded} steps", "not drawn")
        return
    href = f" href={attribute(f'#{anchor}{step.path}')}" if anchor else ""
    yield f"<a{href}>" if anchor else "<g>"
    look = undo_look_of(step) if box.undo else look_of(step)
    state = step.state if box.undo else own_words(step)
    name = f"undo {step.name}" if box.undo else step.name
    assert look is not None, "an undo is drawn where there is one"
    details = " · ".join(filter(None, (state, took(step, undo=box.undo).replace(" in ", " · "))))
    title = f"{'undo ' if box.undo else ''}{place(step)}: {details}{_why(step, undo=box.undo)}"
    kind = f"{look.kind}{' now' if look.now else ''}"
    yield from _labelled(box, kind, f"{look.sign} {shorten(name, _LETTERS - 2)}", shorten(details, 28), title)
    yield "</a>" if anchor else "</g>"


def _why(step: StepView, *, undo: bool) -> str:
    """Says why a step or its undo failed, and what somebody decided about it."""
    errors: Sequence[str | None] = [x.error for x in (step.undo_attempts if undo else step.attempts)]
    parts = [errors[-1] if errors and errors[-1] else None]
    if step.decision is not None and undo == step.state.startswith("undo"):
        parts.append(str(step.decision))
    if step.pivot and not undo:
        parts.append("pivot")
    return "".join(f"; {part}" for part in parts if part)


def _plain(box: Box, kind: str, name: str, details: str) -> Iterator[str]:
    """Draws a box that is about no step."""
    yield "<g>"
    yield from _labelled(box, kind, name, details, f"{name}, {details}" if details else name)
    yield "</g>"


def _ending(view: SagaView, box: Box) -> Iterator[str]:
    """Draws how a saga ended, or for what it waits."""
    look = _ENDS.get(view.status)
    if look is not None:
        why = shorten(view.cause or "", 28)
        yield from _plain(box, look.kind, f"{look.sign} {view.status}", why)
        return
    waited = awaited(view)
    if view.status == "stuck":
        name, details = "! stuck", view.cause or view.error or ""
    elif waited:
        name, details = "● waits", f"for {', '.join(waited)}"
    else:
        name = "● waits" if view.waiting else f"● {view.status}"
        details = "" if view.wake_at is None else f"until {view.wake_at:%Y-%m-%d %H:%M:%S %Z}"
    kind = "bad now" if view.status == "stuck" else "open now"
    yield "<g>"
    yield from _labelled(box, kind, name, shorten(details, 28), f"now: {name}, {details}")
    yield "</g>"


def _labelled(box: Box, kind: str, name: str, details: str, title: str) -> Iterator[str]:
    """Draws a box with two lines of text."""
    yield f'<g class="{kind}"><title>{words(title)}</title>'
    yield (f'<rect class="box" x="{box.left:.1f}" y="{box.y:.1f}" width="{WIDTH:.0f}" height="{HEIGHT:.0f}" rx="8"/>')
    if not details:
        yield f'<text class="name middle" x="{box.x:.1f}" y="{box.y + 27:.1f}">{words(name)}</text>'
    else:
        yield f'<text class="name middle" x="{box.x:.1f}" y="{box.y + 19:.1f}">{words(name)}</text>'
        yield f'<text class="quiet middle" x="{box.x:.1f}" y="{box.y + 35:.1f}">{words(details)}</text>'
    yield "</g>"
