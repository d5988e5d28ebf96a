"""Draws when a saga did what: its attempts and undos as bars, what it waited for, and what happened to it."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from sagas.drawing.style import STYLE
from sagas.drawing.tree import Leaf, leaves, tree_of
from sagas.drawing.words import attribute, duration, heading, own_words, place, shorten, stands, told, words

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from datetime import datetime

    from sagas.coordinator.views import AttemptView, Happening, SagaView, StepView

__all__ = ["as_gantt"]

_NAMES, _BARS, _MARGIN, _LETTERS = 210.0, 640.0, 16.0, 28
_LINE, _BAR, _HEADER = 26.0, 14.0, 44.0
_THINNEST = 2.0
_MOST_MARKS = 40
_TICKS = 5
_NICE = (1.0, 2.0, 5.0, 10.0)
_MINUTE, _HOUR, _DAY = 60.0, 3600.0, 86_400.0
# What happened to the saga as a whole, or from outside: by the first words of its line in the timeline.
_MARKS = (
    "signal received", "cancel requested", "saga taken over", "saga parked", "saga resumed", "saga timed out",
    "step retried", "undo retried", "step skipped", "undo skipped", "lock granted", "lock refused", "timer fired",
)  # fmt: skip
_BAD = ("cancel requested", "saga parked", "saga timed out", "lock refused")


class _Bar(NamedTuple):
    """A span of time.

    Attributes:
        begin: Seconds since the saga's start.
        end: See above.
        kind: How it looks.
        text: What it was.
    """

    begin: float
    end: float
    kind: str
    text: str


def as_gantt(view: SagaView, *, now: datetime, style: bool = True, anchor: str = "") -> str:
    """Draws the timeline of a saga; times are seconds since its start.

    Args:
        view: As ``Client.get`` gives it.
        now: What lasts as long as the saga goes on is drawn until then.
        style: As for ``as_graph``.
        anchor: As for ``as_graph``.

    Returns:
        An ``<svg>`` element, which may be a file or stand in a page.
    """
    return "\n".join(_document(view, now, style=style, anchor=anchor)) + "\n"


def _document(view: SagaView, now: datetime, *, style: bool, anchor: str) -> Iterator[str]:
    """Writes the element."""
    clock = _Clock(view, now)
    lines = list(leaves(tree_of(view)))
    bars = [_bars(line.step, clock) if isinstance(line, Leaf) else [] for line in lines]
    marks = [clock.mark(line) for line in view.timeline if line.what in _MARKS][-_MOST_MARKS:]
    standing = list(_standing(view, clock))
    span = max([clock.end, *(bar.end for some in bars for bar in some), *(mark.begin for mark in marks)], default=0.0)
    scale = _Scale(max(span, 1e-6))
    width, height = _NAMES + _BARS + 3 * _MARGIN, _HEADER + _LINE * (len(lines) + len(standing) + 1) + _MARGIN
    name, role = f"timeline of {heading(view)}", "group" if anchor else "img"  # an image has no links
    yield (
        f'<svg xmlns="http://www.w3.org/2000/svg" class="saga-drawing saga-gantt" role="{role}" '
        f'aria-label={attribute(name)} viewBox="0 0 {width:.0f} {height:.0f}" width="{width:.0f}" '
        f'height="{height:.0f}">'
    )
    yield f"<title>{words(name)}</title>"
    yield f"<desc>{words(f'{told(view)}. {_length(view, clock, standing)}')}</desc>"
    if style:
        yield f"<style>{STYLE}</style>"
    yield from _grid(scale, height)
    yield from _event_line(marks, scale)
    for number, (line, some) in enumerate(zip(lines, bars, strict=True), 1):
        y = _HEADER + _LINE * number
        if isinstance(line, Leaf):
            yield from _step_line(line.step, some, scale, y, anchor)
        else:
            yield f'<text class="quiet" x="{_MARGIN:.0f}" y="{y + 15:.1f}">… {line.steps} steps, not drawn</text>'
    for number, stand in enumerate(standing, len(lines) + 1):
        yield from _standing_line(stand, scale, _HEADER + _LINE * number)
    if view.ended_at is None:
        yield from _now(scale.x(clock.end), height)
    yield "</svg>"


class _Clock:
    """Counts seconds from the start of a saga to now, or to its end."""

    def __init__(self, view: SagaView, now: datetime) -> None:
        self._start = view.created_at
        self.end = max(self.at(view.ended_at or now), 0.0)

    def at(self, moment: datetime) -> float:
        """Gives a moment."""
        return (moment - self._start).total_seconds()

    def mark(self, line: Happening) -> _Bar:
        """Gives something that happened."""
        at = self.at(line.at)
        about = f" {line.step}" if line.step else ""
        text = f"{line.what}{about}{f': {line.detail}' if line.detail else ''} ({_ago(at)})"
        return _Bar(at, at, "bad" if line.what in _BAD else "", text)


def _standing(view: SagaView, clock: _Clock) -> Iterator[_Bar]:
    """Lists what a saga stands at that is no step of its own, and since when: it lasts until now."""
    if view.ended_at is not None:
        return
    last = view.timeline[-1].at if view.timeline else view.created_at
    found: list[tuple[str, str, datetime]] = []
    if view.status == "stuck":
        halts = [line.at for line in view.timeline if line.what in ("saga stuck", "saga parked")]
        found.append(("bad wait", "stuck", halts[-1] if halts else last))
    found += [("wait", f"waits for lock {lock.name}", lock.since) for lock in view.locks if not lock.held]
    found += [("wait", f"waits for signal {signal.name}", signal.since) for signal in view.signals]
    if not found and view.waiting and not any(stands(step) for step in view.steps):
        found.append(("wait", "waits", last))
    for kind, text, since in found:
        begin = min(max(clock.at(since), 0.0), clock.end)
        yield _Bar(begin, clock.end, kind, text)


def _length(view: SagaView, clock: _Clock, standing: Sequence[_Bar]) -> str:
    """Says how long it took, or how long what it stands at has lasted."""
    if view.ended_at is not None:
        return f"It took {duration(clock.end)}"
    still = "".join(f"; {bar.text}, {_lasts(bar)}" for bar in standing)
    return f"It has not ended, {duration(clock.end)} after its start{still}"


def _lasts(bar: _Bar) -> str:
    """Says for how long something has lasted."""
    return f"for {duration(bar.end - bar.begin)} now"


def _bars(step: StepView, clock: _Clock) -> list[_Bar]:
    """Lists what a step did, and the times in between."""
    found = _attempts(step, clock, undo=False) + _attempts(step, clock, undo=True)
    waits: list[_Bar] = []
    before = clock.at(step.scheduled_at)
    for bar in found:
        # What an undo waited for began when it was its turn, not when the step had ended.
        if "undo" in bar.kind and step.undo_started_at is not None:
            before = max(before, clock.at(step.undo_started_at))
        if bar.begin > before:
            waits.append(_Bar(before, bar.begin, "wait", f"waited {duration(bar.begin - before)}"))
        before = max(before, bar.end)
    if stands(step) and clock.end > before:
        kind = "wait" if "backing off" in step.state or step.state in ("parked", "undo failed") else "open"
        since = before if step.undo_started_at is None else max(before, clock.at(step.undo_started_at))
        waits.append(_Bar(since, max(clock.end, since), kind, f"{step.state}, for {duration(clock.end - since)} now"))
    return waits + found


def _attempts(step: StepView, clock: _Clock, *, undo: bool) -> list[_Bar]:
    """Lists the attempts of a step, or of its compensator."""
    attempts: Sequence[AttemptView] = step.undo_attempts if undo else step.attempts
    bars: list[_Bar] = []
    for number, attempt in enumerate(attempts, 1):
        kind = "good" if attempt.error is None else "bad"
        what = f"{'undo ' if undo else ''}attempt {number}: {attempt.error or 'returned'}"
        begin = clock.at(attempt.started_at)
        text = f"{what}, {duration(attempt.seconds)} ({_ago(begin)})"
        if undo:
            kind = "undo" if attempt.error is None else "undo bad"
        bars.append(_Bar(begin, begin + attempt.seconds, kind, text))
    return sorted(bars)


class _Scale:
    """Says where a moment is."""

    def __init__(self, span: float) -> None:
        self.step = _nice(span / _TICKS)
        self.span = span

    def x(self, seconds: float) -> float:
        """Gives the place of a moment."""
        return _NAMES + _MARGIN + _BARS * min(max(seconds / self.span, 0.0), 1.0)


def _nice(least: float) -> float:
    """Finds a round number of seconds that is not below another one."""
    for unit in (_DAY, _HOUR, _MINUTE):
        if least >= unit / 2:
            return unit * _nice_decimal(least / unit)
    return _nice_decimal(least)


def _nice_decimal(least: float) -> float:
    """Finds a round number that is not below another one."""
    power = 10.0 ** len(str(int(least))) / 10 if least >= 1 else 1.0
    while least < 1 and power > least:
        power /= 10
    return next((nice * power for nice in _NICE if nice * power >= least), 10 * power)


def _ago(seconds: float) -> str:
    """Writes a moment."""
    return f"+{duration(max(seconds, 0.0))}"


def _grid(scale: _Scale, height: float) -> Iterator[str]:
    """Draws lines at round times."""
    ticks = int(scale.span / scale.step)
    for number in range(ticks + 1):
        x = scale.x(number * scale.step)
        yield f'<path class="grid" d="M{x:.1f} {_HEADER - 14:.1f}V{height - _MARGIN:.1f}"/>'
        text = _ago(number * scale.step) if number else "start"
        yield f'<text class="quiet middle" x="{x:.1f}" y="{_HEADER - 20:.1f}">{words(text)}</text>'


def _event_line(marks: Sequence[_Bar], scale: _Scale) -> Iterator[str]:
    """Draws what happened to the saga as a whole."""
    y = _HEADER + 7
    yield f'<text class="quiet" x="{_MARGIN:.0f}" y="{y + 5:.1f}">what happened</text>'
    for mark in marks:
        x = scale.x(mark.begin)
        yield (
            f'<path class="mark {mark.kind}" d="M{x:.1f} {y - 6:.1f}l6 6-6 6-6-6z">'
            f"<title>{words(mark.text)}</title></path>"
        )


def _step_line(step: StepView, bars: Sequence[_Bar], scale: _Scale, y: float, anchor: str) -> Iterator[str]:
    """Draws a step with what it did."""
    state = own_words(step) if own_words(step) == step.state else f"{own_words(step)}, {step.state}"
    label = f'<text x="{_MARGIN:.0f}" y="{y + 15:.1f}">{words(shorten(place(step), _LETTERS))}</text>'
    href = attribute(f"#{anchor}{step.path}")
    link = f"<a href={href}>{label}</a>" if anchor else label
    yield f"<g><title>{words(f'{place(step)}: {state}')}</title>{link}</g>"
    for bar in bars:
        begin = scale.x(bar.begin)
        wide = max(scale.x(bar.end) - begin, _THINNEST)
        yield (
            f'<rect class="bar {bar.kind}" x="{begin:.1f}" y="{y + (_LINE - _BAR) / 2:.1f}" width="{wide:.1f}" '
            f'height="{_BAR:.0f}" rx="2"><title>{words(bar.text)}</title></rect>'
        )


def _standing_line(bar: _Bar, scale: _Scale, y: float) -> Iterator[str]:
    """Draws what a saga stands at, and says for how long: it is not over where its last step is."""
    begin, end = scale.x(bar.begin), scale.x(bar.end)
    kind = "bad" if "bad" in bar.kind else "open"
    label, lasts = words(shorten(bar.text, _LETTERS)), words(_lasts(bar))
    yield f'<g class="{kind}"><title>{words(bar.text)}, {lasts}</title>'
    yield f'<text class="name" x="{_MARGIN:.0f}" y="{y + 15:.1f}">{label}</text>'
    yield (
        f'<rect class="bar {bar.kind}" x="{begin:.1f}" y="{y + (_LINE - _BAR) / 2:.1f}" '
        f'width="{max(end - begin, _THINNEST):.1f}" height="{_BAR:.0f}" rx="2"/>'
    )
    yield f'<text class="quiet end" x="{end - 4:.1f}" y="{y + 17:.1f}">{lasts}</text></g>'


def _now(x: float, height: float) -> Iterator[str]:
    """Draws where now is."""
    yield f'<path class="grid now" d="M{x:.1f} {_HEADER - 14:.1f}V{height - _MARGIN:.1f}"/>'
    yield f'<text class="quiet end" x="{x:.1f}" y="{height - 4:.1f}">now</text>'
