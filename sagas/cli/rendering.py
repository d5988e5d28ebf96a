"""How sagas look on a terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import typer
from pydantic_core import to_json
from rich.cells import cell_len
from rich.console import Console
from rich.text import Text

from sagas.cli.problems import printable
from sagas.drawing import as_text
from sagas.drawing.words import duration

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from datetime import datetime

    from sagas.coordinator.fleet import CoordinatorView
    from sagas.coordinator.views import AttemptView, Happening, SagaSummary, SagaView, SignalView

__all__ = [
    "Line",
    "align",
    "columns",
    "console",
    "duration",
    "print_json",
    "render_coordinators",
    "render_graph",
    "render_list",
    "render_saga",
    "show",
    "when",
]

_STATUS_STYLE = {
    "completed": "green",
    "compensated": "yellow",
    "stuck": "bold red",
    "running": "cyan",
    "compensating": "magenta",
}
_DRAWN_STYLE = {"good": "green", "open": "cyan", "bad": "red", "doubt": "yellow", "undo": "magenta"}
# What a line's first words say at a glance: a sign, and its colour.
_SIGNS = {
    "saga started": ("▶", "bold"),
    "saga completed": ("■", "green"),
    "saga compensated": ("■", "yellow"),
    "saga stuck": ("!", "bold red"),
    "saga parked": ("!", "bold red"),
    "saga resumed": ("▶", "cyan"),
    "saga begun": ("▶", "bold"),
    "saga taken over": ("»", "bold cyan"),
    "saga timed out": ("⏱", "red"),
    "step succeeded": ("✓", "green"),
    "step rejected": ("✗", "red"),
    "step in doubt": ("?", "red"),
    "step backed off": ("…", "yellow"),
    "undo succeeded": ("↩", "yellow"),
    "undo backed off": ("…", "yellow"),
    "undo failed": ("!", "bold red"),
    "undo skipped": ("↷", "yellow"),
    "step skipped": ("↷", "yellow"),
    "signal received": ("✉", "cyan"),
    "lock granted": ("✓", "cyan"),
    "lock refused": ("✗", "red"),
    "cancel requested": ("⏹", "red"),
}
# Steps in these states are under way: no line of the timeline tells about them yet.
_OPEN = ("scheduled", "backing off", "undoing", "undo backing off", "parked", "undo failed")
_LONGEST_DETAIL = 160
_STATUS_COLUMN = 2


class Line(NamedTuple):
    """A line of a timeline: when, what happened, to which step, for how long, and more; the colour of ``what``."""

    at: str
    what: str
    where: str
    took: str
    detail: str
    style: str


def console() -> Console:
    """Makes a console on stdout."""
    return Console(highlight=False)


def print_json(value: object) -> None:
    """Writes a value as JSON, and nothing else, to stdout."""
    typer.echo(to_json(value, indent=2))  # as bytes, so that it is UTF-8 wherever it goes


def show(*lines: Text | str) -> None:
    """Writes lines to stdout; the terminal wraps them, a pipe gets each whole."""
    out = console()
    for line in lines:
        out.print(line, soft_wrap=True, markup=False)


def render_list(rows: Iterable[SagaSummary]) -> Iterator[Text]:
    """Makes a line a saga."""
    cells = [("ID", "SAGA", "STATUS", "STARTED", "TOOK", "WHY")]
    for row in rows:
        took = "" if row.ended_at is None else duration((row.ended_at - row.created_at).total_seconds())
        name = f"{row.name} {row.version}"
        cells.append((row.id, name, _status(row).plain, when(row.created_at), took, _why(row)))
    yield from columns(cells, _STATUS_COLUMN)


def render_coordinators(rows: Iterable[CoordinatorView]) -> Iterator[Text]:
    """Makes a line a coordinator."""
    cells = [("ID", "NAME", "ALIVE UNTIL", "CODE")]
    cells += [(row.id, printable(row.name), when(row.expires_at), _short(", ".join(row.code))) for row in rows]
    yield from columns(cells)


def columns(cells: Sequence[tuple[str, ...]], styled: int | None = None) -> Iterator[Text]:
    """Puts cells under each other, below their headings; one column may hold statuses, in their colours."""
    widths = [max(cell_len(line[column]) for line in cells) for column in range(len(cells[0]))]
    for number, line in enumerate(cells):
        text = Text()
        for column, (content, width) in enumerate(zip(line, widths, strict=True)):
            status = _STATUS_STYLE.get(content.partition(",")[0], "") if column == styled else ""
            text.append(content, status if number else "bold")
            text.append(" " * (width - cell_len(content) + 2))
        text.rstrip()
        yield text


def _why(row: SagaSummary) -> str:
    """Says why a saga did not complete, or does not go on."""
    if row.error is None and row.waits_for is not None:
        return f"waits for {row.waits_for}"
    return _short(row.error or "")


def _status(row: SagaSummary) -> Text:
    """Writes a status in its colour, and whether the saga waits."""
    text = Text(row.status, _STATUS_STYLE.get(row.status, ""))
    if row.status in ("running", "compensating") and row.waiting:
        text.append(", waiting")
    return text


def when(at: datetime) -> str:
    """Writes a time for people, in their own zone."""
    return at.astimezone().strftime("%Y-%m-%d %H:%M:%S")


def render_saga(view: SagaView) -> Iterator[Text]:
    """Tells a saga's story: how it stands, every record, and what is under way."""
    yield _heading(view)
    for label, value in _facts(view):
        yield Text.assemble("  ", (f"{label:<9}", "dim"), value)
    yield from align([*_timeline(view), *_under_way(view)])


def render_graph(view: SagaView) -> Iterator[Text]:
    """Draws a saga: its steps in order, what runs side by side on rails of its own, and where it stands."""
    yield _heading(view)
    for label, value in _facts(view):
        yield Text.assemble("  ", (f"{label:<9}", "dim"), value)
    unicode = (console().encoding or "").lower().replace("-", "").startswith("utf")
    for line in as_text(view, unicode=unicode)[1:]:
        style = f"{_DRAWN_STYLE.get(line.kind, '')} {'bold' if line.now else ''}".strip()
        yield Text.assemble("  ", (line.rails, "dim"), (line.text, style))


def align(lines: Sequence[Line]) -> Iterator[Text]:
    """Puts lines under each other, without a space at their ends; the first cells and durations to the right."""
    widths = [max((cell_len(line[column]) for line in lines), default=0) for column in range(4)]
    for at, what, where, took, detail, style in lines:
        sides = ((at, "dim"), (what, style), (where, ""), (took, ""))
        text = Text("  ")
        for number, ((content, cell_style), width) in enumerate(zip(sides, widths, strict=True)):
            padding = " " * (width - cell_len(content))
            right = number in (0, 3)
            text.append(padding + content if right else content + padding, cell_style)
            text.append("  ")
        text.append(detail, "dim" if not what else "")
        text.rstrip()
        yield text


def _heading(view: SagaView) -> Text:
    """Names a saga and says how it stands."""
    text = Text.assemble((view.id, "bold"), f"  {view.name}, version {view.version}, ", _status(view))
    if view.ended_at is not None:
        text.append(f" in {duration((view.ended_at - view.created_at).total_seconds())}")
    return text


def _facts(view: SagaView) -> Iterator[tuple[str, str]]:
    """Lists what is worth a line above the timeline."""
    yield "started", when(view.created_at)
    yield "input", _short(to_json(view.input).decode())
    if view.status == "completed":
        yield "result", _short(to_json(view.result).decode())
    elif view.cause or view.error:
        yield "cause", _short(view.cause or view.error or "")
    held = [lock.name for lock in view.locks if lock.held]
    if held:
        yield "locks", ", ".join(held)
    if view.wake_at is not None and view.ended_at is None:
        yield "waits", f"until {when(view.wake_at)}"
    if view.waits_for is not None:
        yield "waits", f"for {view.waits_for}"


def _timeline(view: SagaView) -> Iterator[Line]:
    """Tells every record, and every attempt where there was more than one."""
    for line in view.timeline:
        sign, style = _SIGNS.get(line.what, ("·", "dim"))
        yield Line(
            f"+{(line.at - view.created_at).total_seconds():.3f} s",
            f"{sign} {line.what}",
            _place(line.step, line.path),
            duration(line.seconds) if line.seconds else "",
            _detail(line),
            style,
        )
        yield from _attempts(line.attempts)


def _under_way(view: SagaView) -> Iterator[Line]:
    """Tells what no record tells about yet."""
    if view.ended_at is None:
        for step in view.steps:
            if step.state in _OPEN:
                place = _place(step.name, step.path)
                yield Line("now", f"● {step.state}", place, "", _short(step.error or ""), "cyan")
        for lock in view.locks:
            if not lock.held:
                place = _place(lock.name, lock.path)
                yield Line("now", "● waiting for a lock", place, "", f"since {when(lock.since)}", "cyan")
        for signal in view.signals:
            place = _place(printable(signal.name), signal.path)
            yield Line("now", "● waiting for a signal", place, "", _awaited(signal), "cyan")


def _awaited(signal: SignalView) -> str:
    """Says since when a saga waits for a signal, for how long yet, and what has to be in it."""
    carries = f", to carry {signal.type}" if signal.type else ""
    until = "" if signal.until is None else f", until {when(signal.until)}"
    return _short(f"since {when(signal.since)}{until}{carries}")


def _place(name: str, path: str) -> str:
    """Writes a step and where it stands in the body."""
    return f"{name} ({path})" if name else f"({path})" if path else ""


def _detail(line: Happening) -> str:
    """Says what a record adds; the input and the result stand above the timeline already."""
    if line.what in ("saga started", "saga completed") or line.detail == "null":
        return ""
    if len(line.attempts) == 1 and line.attempts[0].error and line.what == "step succeeded":
        return _short(f"{line.attempts[0].error}: {line.detail}")
    return _short(line.detail)


def _attempts(attempts: tuple[AttemptView, ...]) -> Iterator[Line]:
    """Tells each attempt, unless there was one: that is the record's own line."""
    if len(attempts) > 1:
        for number, attempt in enumerate(attempts, 1):
            how = _short(attempt.error or "returned")
            yield Line("", "", f"  attempt {number}", duration(attempt.seconds), how, "")


def _short(text: str) -> str:
    """Keeps a text on one line of bearable length; ``--json`` has all of it."""
    line = printable(text)
    return line if len(line) <= _LONGEST_DETAIL else f"{line[: _LONGEST_DETAIL - 1]}…"
