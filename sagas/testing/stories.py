"""Tells what happened in a run, so that it can be read: on a terminal, in a log, in a report of tests."""

from __future__ import annotations

import dataclasses
import os
import re
import shutil
from collections.abc import Mapping
from textwrap import TextWrapper
from typing import TYPE_CHECKING, Any, cast

from sagas.testing.faults import KINDS

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from sagas.testing.runs import Run
    from sagas.testing.simulation.stage import Entry

__all__ = ["snapshot", "story", "table"]

# Set by whoever knows better than this process how wide a line may be, such as the pytest plugin.
_COLUMNS = "SAGAS_COLUMNS"
_NARROWEST, _WIDEST = 60, 160
_GAP = "  "
_INDENT = "  "
_LEAST_COLUMN = 18
_MOST_CHANGES = 6
_MOST_BROKEN = 5
_FIRST_ENTRIES, _LAST_ENTRIES = 60, 20
# What is repeated is folded if it is no longer than this, is there so often, and so many lines are left out.
_LONGEST_FOLD, _LEAST_TIMES, _LEAST_FOLD = 80, 3, 4
_HOUR = 3600
_DAY = 86_400
_WRITES = re.compile(r"writes (\w+) (\S+)")


# --- what the world holds -------------------------------------------------------------------------------------------


def snapshot(world: object) -> dict[str, str]:
    """Writes down what a world holds, part by part: those of a mapping, a dataclass or a tuple, one level deep.

    Returns:
        Its parts as text, by name, such as ``charged['order-1']``; just one, without a name, if it has none.
    """
    if world is None:
        return {}
    found: dict[str, str] = {}
    for name, value in _parts(world, ""):
        deeper = list(_parts(value, name)) if isinstance(value, Mapping) else []
        found |= {path: repr(one) for path, one in deeper or [(name, value)]}
    return found or {"": repr(world)}


def _parts(value: Any, name: str) -> Iterator[tuple[str, object]]:
    """Lists the parts of a value, by name."""
    dotted = f"{name}." if name else ""
    if isinstance(value, Mapping):
        for key, one in cast("Mapping[object, object]", value).items():
            yield (f"{name}[{key!r}]" if name or not isinstance(key, str) else key), one
    elif dataclasses.is_dataclass(value) and not isinstance(value, type):
        for field in dataclasses.fields(value):
            yield dotted + field.name, getattr(value, field.name)
    elif isinstance(value, tuple):
        values = cast("tuple[object, ...]", value)
        fields = getattr(cast("object", value), "_fields", range(len(values)))
        for key, one in zip(fields, values, strict=True):
            yield (f"{name}[{key}]" if isinstance(key, int) else dotted + key), one


def _changes(before: Mapping[str, str] | None, now: Mapping[str, str]) -> str:
    """Says what has changed; all there is, if that is no longer."""
    whole = ", ".join(f"{path} = {value}" if path else value for path, value in now.items())
    if before is None or before == now:
        return whole if before is None else ""
    changed = [f"{path} = {value}" if path else value for path, value in now.items() if before.get(path) != value]
    changed += [f"{path} is gone" for path in before if path and path not in now and not _is_told(path, now)]
    return whole if len(changed) > _MOST_CHANGES else ", ".join(changed) or whole


def _is_told(path: str, now: Mapping[str, str]) -> bool:
    """Says whether what is left of a part that is gone is told anyhow: a mapping that was filled, or emptied."""
    return path.rpartition("[")[0] in now or any(x.startswith(f"{path}[") for x in now)


# --- the table ------------------------------------------------------------------------------------------------------


def table(entries: Sequence[Entry], names: Mapping[str, str], width: int | None = None) -> list[str]:
    """Draws a table of what happened: when, in which process, what, and what has changed in the world.

    Args:
        entries: What happened, in order.
        names: Of the steps, by their places.
        width: How many letters a line may have; that of the terminal by default.
    """
    rows = [("time", "process", "what happens", "the world")]
    before: Mapping[str, str] | None = None
    for entry in _shortened(_folded(entries)):
        rows.append((_clock(entry.time), entry.process or "-", _named(entry.what, names), _changes(before, entry.view)))
        before = entry.view
    if not any(row[3] for row in rows[1:]):
        rows = [(*row[:3], "") for row in rows]
    widths = _widths(rows, width if width is not None else _width())
    lines = [line for row in rows for line in _lines(row, widths)]
    return [lines[0], _GAP.join("─" * x for x in widths if x), *lines[1:]]


def _folded(entries: Sequence[Entry]) -> list[Entry]:
    """Leaves out what happens again and again in the same way."""
    found: list[Entry] = []
    begin = 0
    while begin < len(entries):
        size, times = _repeated(entries, begin)
        once = entries[begin : begin + size]
        shown = _folded(once) if times > 1 and size > 1 else list(once)
        found += shown
        begin += size * times
        if times > 1:
            what = "like this" if size == 1 else f"times these {len(shown)} lines"
            found.append(entries[begin - 1]._replace(process="", what=f"… {times - 1} more {what} …"))
    return found


def _repeated(entries: Sequence[Entry], begin: int) -> tuple[int, int]:
    """Finds what is repeated most from here on; gives how many lines it has, and how often it is there."""
    best = (1, 1)
    for size in range(1, min(_LONGEST_FOLD, (len(entries) - begin) // _LEAST_TIMES) + 1):
        times = 1
        while _same(entries, begin, begin + times * size, size):
            times += 1
        left_out = size * (times - 1)
        if times >= _LEAST_TIMES and left_out >= _LEAST_FOLD and left_out > best[0] * (best[1] - 1):
            best = (size, times)
    return best


def _same(entries: Sequence[Entry], one: int, other: int, size: int) -> bool:
    """Says whether the same happens twice, but for the time."""
    return len(entries) >= other + size and all(entries[one + x][1:] == entries[other + x][1:] for x in range(size))


def _shortened(entries: Sequence[Entry]) -> Iterator[Entry]:
    """Leaves out the middle of a story that is too long to be read."""
    left_out = entries[_FIRST_ENTRIES:-_LAST_ENTRIES]
    if len(left_out) < _LAST_ENTRIES:
        yield from entries
        return
    yield from entries[:_FIRST_ENTRIES]
    yield left_out[-1]._replace(process="", what=f"… {len(left_out)} more lines …")
    yield from entries[-_LAST_ENTRIES:]


def _widths(rows: Sequence[tuple[str, ...]], width: int) -> list[int]:
    """Shares a line among the columns: what fits stays on one line, and the two last ones share what is missing."""
    widths = [max(len(row[column]) for row in rows) for column in range(4)]
    left = width - sum(widths[:2]) - len(_GAP) * (3 if widths[3] else 2)
    if widths[2] + widths[3] <= left:
        return widths
    if not widths[3]:
        return [*widths[:2], max(left, _LEAST_COLUMN), 0]
    happens = min(widths[2], max(left // 2, left - widths[3], _LEAST_COLUMN))
    return [*widths[:2], happens, min(widths[3], max(left - happens, _LEAST_COLUMN))]


def _lines(row: tuple[str, ...], widths: Sequence[int]) -> Iterator[str]:
    """Writes a row, on as many lines as its texts need."""
    cells = [_wrap(text, size) for text, size in zip(row, widths, strict=True)]
    for number in range(max(len(cell) for cell in cells)):
        texts = [cell[number] if number < len(cell) else "" for cell in cells]
        padded = [texts[0].rjust(widths[0]), *(x.ljust(size) for x, size in zip(texts[1:], widths[1:], strict=True))]
        yield _GAP.join(padded).rstrip()


def _wrap(text: str, width: int) -> list[str]:
    """Breaks a text into lines."""
    if len(text) <= width or not width:
        return [text]
    return TextWrapper(width, subsequent_indent="  ", break_on_hyphens=False).wrap(text)


def _clock(seconds: float) -> str:
    """Writes a time: ``1.500``; ``2d 01:30:00`` when it is more than an hour."""
    if seconds < _HOUR:
        return f"{seconds:.3f}"
    days, rest = divmod(int(seconds), _DAY)
    return (f"{days}d " if days else "") + f"{rest // _HOUR:02}:{rest % _HOUR // 60:02}:{rest % 60:02}"


def _named(what: str, names: Mapping[str, str]) -> str:
    """Names the step that a record is about."""
    match = _WRITES.fullmatch(what)
    name = None if match is None else names.get(match[2])
    return what if match is None or name is None else f"writes {match[1]} of {name} ({match[2]})"


def _width() -> int:
    """Says how many letters a line may have here."""
    told = os.environ.get(_COLUMNS, "")
    return min(max(int(told) if told.isdecimal() else shutil.get_terminal_size().columns, _NARROWEST), _WIDEST)


# --- the story ------------------------------------------------------------------------------------------------------


def story(run: Run, seed: int | None = None) -> str:
    """Tells the story of a run that breaks a law: which, how, after what; what happened; and how to play it again."""
    call, faults, width = run.scenario.call, run.scenario.faults, _width()
    counted = "without any fault" if not faults else f"after {len(faults)} fault{'s' if len(faults) > 1 else ''}"
    lines = [f"saga {call.saga.name}, {counted}: {run.broken[0].law} — is broken", ""]
    for law, how in run.broken[:_MOST_BROKEN]:
        lines += _paragraph(f"{law}: {how}", width)
    lines += ["", *_paragraph(f"input: {call!r}", width)]
    for fault in faults:
        lines += _paragraph(f"fault: {fault!r}: {KINDS[fault.what]}", width)
    lines += ["", *(_INDENT + line for line in run.timeline(width=width - len(_INDENT)).splitlines()), ""]
    lines += ["To play this run again, put this above the test:", "", f"    {run.scenario!r}"]
    if seed is not None:
        lines += ["", f"To draw the same runs again: check(…, seed={seed}), or pytest --sagas-seed={seed}"]
    return "\n".join(lines)


def _paragraph(text: str, width: int) -> list[str]:
    """Breaks a text into lines that hang below the first."""
    wrapper = TextWrapper(
        width, initial_indent=_INDENT, subsequent_indent=_INDENT * 3, break_on_hyphens=False, break_long_words=False
    )
    return wrapper.wrap(text)
