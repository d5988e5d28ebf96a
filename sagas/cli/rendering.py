"""How sagas look on a terminal."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

from pydantic_core import to_json
from rich.console import Console
from rich.markup import escape
from rich.table import Table
from rich.text import Text

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from datetime import datetime

    from sagas.coordinator.views import AttemptView, Happening, SagaSummary, SagaView, StepView

__all__ = ["console", "duration", "print_json", "render_list", "render_saga"]

_STATUS_STYLE = {
    "completed": "green",
    "compensated": "yellow",
    "stuck": "bold red",
    "running": "cyan",
    "compensating": "magenta",
}
# What a line's first words say at a glance: a sign, and its colour.
_SIGNS = {
    "saga started": ("▶", "bold"),
    "saga completed": ("■", "green"),
    "saga compensated": ("■", "yellow"),
    "saga stuck": ("!", "bold red"),
    "saga parked": ("!", "bold red"),
    "saga resumed": ("▶", "cyan"),
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
    "cancel requested": ("⏹", "red"),
}
# Steps in these states are under way: no line of the timeline tells about them yet.
_OPEN = ("scheduled", "backing off", "undoing", "undo backing off", "parked", "undo failed")
_LONGEST_DETAIL = 160
_PIPE_WIDTH = 120
_MINUTE, _HOUR, _DAY = 60.0, 3600.0, 86_400.0


def console() -> Console:
    """Makes a console on stdout; into a pipe it writes plain lines of a fixed width."""
    piped = not sys.stdout.isatty() and "COLUMNS" not in os.environ
    return Console(width=_PIPE_WIDTH if piped else None, highlight=False)


def print_json(value: object) -> None:
    """Writes a value as JSON, and nothing else, to stdout."""
    sys.stdout.write(to_json(value, indent=2).decode() + "\n")
    sys.stdout.flush()


def duration(seconds: float) -> str:
    """Writes a duration for people: ``350 ms``, ``2.50 s``, ``3 min 20 s``, ``2 h 5 min``, ``4 d 3 h``."""
    if seconds < 1:
        return f"{seconds * 1000:.0f} ms" if seconds >= 0.01 or seconds == 0 else f"{seconds * 1000:.1f} ms"
    if seconds < _MINUTE:
        return f"{seconds:.2f} s"
    for unit, big, small in ((_MINUTE, "min", "s"), (_HOUR, "h", "min"), (_DAY, "d", "h")):
        if unit is _DAY or seconds < (_HOUR if unit is _MINUTE else _DAY):
            part = {_MINUTE: 1.0, _HOUR: _MINUTE, _DAY: _HOUR}[unit]
            return f"{seconds // unit:.0f} {big} {seconds % unit // part:.0f} {small}"
    raise AssertionError("the last unit takes everything")


def render_list(rows: Iterable[SagaSummary]) -> Table:
    """Makes a table of sagas."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in ("ID", "SAGA", "STATUS", "STARTED", "TOOK", "WHY"):
        table.add_column(name, overflow="fold", no_wrap=name in ("STATUS", "STARTED", "TOOK"))
    for row in rows:
        table.add_row(
            escape(row.id),
            escape(f"{row.name} {row.version}"),
            _status(row),
            _when(row.created_at),
            "" if row.ended_at is None else duration((row.ended_at - row.created_at).total_seconds()),
            escape(row.error or ""),
        )
    return table


def _status(row: SagaSummary) -> Text:
    """Writes a status in its colour, and whether the saga waits."""
    text = Text(row.status, _STATUS_STYLE.get(row.status, ""))
    if row.status in ("running", "compensating") and row.waiting:
        text.append(", waiting")
    return text


def _when(at: datetime) -> str:
    """Writes a time for people, in their own zone."""
    return at.astimezone().strftime("%Y-%m-%d %H:%M:%S")


def render_saga(view: SagaView) -> Iterator[Text | Table]:
    """Tells a saga's story: how it stands, every record, and what is under way."""
    yield _heading(view)
    for label, value in _facts(view):
        yield Text.assemble("  ", (f"{label:<8}", "dim"), value)
    yield _timeline(view)


def _heading(view: SagaView) -> Text:
    """Names a saga and says how it stands."""
    text = Text.assemble((view.id, "bold"), f"  {view.name} {view.version}  ", _status(view))
    if view.ended_at is not None:
        text.append(f" in {duration((view.ended_at - view.created_at).total_seconds())}")
    return text


def _facts(view: SagaView) -> Iterator[tuple[str, str]]:
    """Lists what is worth a line above the timeline."""
    yield "started", _when(view.created_at)
    yield "input", _short(to_json(view.input).decode())
    if view.status == "completed":
        yield "result", _short(to_json(view.result).decode())
    elif view.cause or view.error:
        yield "cause", view.cause or view.error or ""
    if view.wake_at is not None and view.ended_at is None:
        yield "waits", f"until {_when(view.wake_at)}"


def _timeline(view: SagaView) -> Table:
    """Makes the table of a saga's records."""
    table = Table(box=None, pad_edge=False, show_header=False, padding=(0, 1))
    table.add_column(justify="right", no_wrap=True, style="dim")
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    table.add_column(justify="right", no_wrap=True)
    table.add_column(overflow="fold", ratio=1)
    for line in view.timeline:
        sign, style = _SIGNS.get(line.what, ("·", "dim"))
        table.add_row(
            f"+{(line.at - view.created_at).total_seconds():.3f} s",
            Text(f"{sign} {line.what}", style),
            Text(_place(line.step, line.path)),
            "" if line.seconds is None else duration(line.seconds),
            Text(_detail(line)),
        )
        for attempt in _attempts(line.attempts, ended_well=line.what.endswith("succeeded")):
            table.add_row("", "", "", "", Text(attempt, "dim"))
    if view.ended_at is None:
        for step in view.steps:
            if step.state in _OPEN:
                table.add_row(
                    "now", Text(f"● {step.state}", "cyan"), Text(_place(step.name, step.path)), "", _now(step)
                )
    return table


def _place(name: str, path: str) -> str:
    """Writes a step and where it stands in the body."""
    return f"{name} ({path})" if name else f"({path})" if path else ""


def _detail(line: Happening) -> str:
    """Says what a record adds; the input and the result stand above the timeline already."""
    if line.what in ("saga started", "saga completed"):
        return ""
    if line.what == "step succeeded" and not line.attempts:
        return _short(f"found done by its probe: {line.detail}")
    return "" if line.detail == "null" else _short(line.detail)


def _attempts(attempts: tuple[AttemptView, ...], *, ended_well: bool) -> Iterator[str]:
    """Tells each attempt, if there is more to tell than the record's own line does."""
    if len(attempts) < 2:
        return
    for number, attempt in enumerate(attempts, 1):
        how = attempt.error or ("it returned" if ended_well else "no error")
        yield _short(f"attempt {number}, {duration(attempt.seconds)}: {how}")


def _now(step: StepView) -> str:
    """Says why a step is still under way."""
    return escape(_short(step.error or ""))


def _short(text: str) -> str:
    """Keeps a text on one line of bearable length; ``--json`` has all of it."""
    line = " ".join(text.split())
    return line if len(line) <= _LONGEST_DETAIL else f"{line[: _LONGEST_DETAIL - 1]}…"
