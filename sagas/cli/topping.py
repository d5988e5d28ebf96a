"""What goes on now, on one screen: what runs, what waits, what is stuck, and how fast."""

from __future__ import annotations

import os
import select
import sys
import time
from collections.abc import Generator, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from rich.console import Group
from rich.live import Live
from rich.text import Text

from sagas.cli.problems import printable
from sagas.cli.rendering import columns, console
from sagas.coordinator.fleet import coordinators, fleet_for
from sagas.coordinator.surveys import Rate, SagaCounts, SagaFilter, SagaRates, StuckSagas
from sagas.coordinator.telling import summary_of
from sagas.drawing.words import duration, shorten
from sagas.errors import StoreUnavailable

if TYPE_CHECKING:
    from rich.console import RenderableType

    from sagas.coordinator.fleet import CoordinatorView
    from sagas.coordinator.views import SagaSummary
    from sagas.stores import Store

__all__ = ["Top", "frame", "look", "watch"]

_MINUTES = 5.0
_MOST_STUCK, _MOST_OPEN, _MOST_LOCKS = 1_000, 200, 1_000
_STATUS_COLUMN = 2
_WIDE = 60
_HEADING = ("SAGA", "RUNNING", "COMPENSATING", "STUCK", "STARTED/MIN", "COMPLETED/MIN", "COMPENSATED/MIN")
_STILL = Rate(name="", started=0.0, completed=0.0, compensated=0.0)
# Lines that are always there, and how many groups and names there are room for at least.
_FIXED, _LEAST = 12, 3
_QUIT = (b"q", b"Q", b"\x04")


@dataclass(frozen=True, slots=True, kw_only=True)
class Top:
    """What goes on now.

    Attributes:
        at: When this was read.
        store: Where.
        coordinators: Those that are alive.
        counts: How many sagas there are.
        rates: What began and ended in the last five minutes.
        stuck: What is stuck, by its cause.
        open: The newest sagas that have not ended.
        locks: The locks that sagas wait for, by their ids, as far as they were read.
    """

    at: datetime
    store: str
    coordinators: tuple[CoordinatorView, ...]
    counts: SagaCounts
    rates: SagaRates
    stuck: StuckSagas
    open: tuple[SagaSummary, ...]
    locks: Mapping[str, str]


def look(store: Store) -> Top:
    """Reads what goes on now."""
    now = store.time(time.time())
    stuck = store.search(SagaFilter(status="stuck").wanted(), limit=_MOST_STUCK)
    going = store.search(SagaFilter(status="open").wanted(), limit=_MOST_OPEN).rows
    fleet = fleet_for(store, (*stuck.rows, *going), now)
    return Top(
        at=datetime.fromtimestamp(now, UTC),
        store=store.url,
        coordinators=tuple(coordinators(store.leases(now))),
        counts=SagaCounts.of(store.count_by_status(), store.count_open()),
        rates=SagaRates.of(store.tally(now - _MINUTES * 60), now),
        stuck=StuckSagas.of((summary_of(row, fleet) for row in stuck.rows), complete=stuck.before is None),
        open=tuple(summary_of(row, fleet) for row in going),
        locks={row.saga_id: row.name for row in reversed(store.lines(_MOST_LOCKS)) if not row.held},
    )


def watch(store: Store, every: float) -> None:
    """Shows what goes on until somebody has seen enough: q, or Ctrl-C.

    Args:
        store: Which journal.
        every: Seconds between two looks.
    """
    out = console()
    with (
        suppress(KeyboardInterrupt),
        _keys() as wants_to_quit,
        Live(console=out, screen=True, auto_refresh=False) as live,
    ):
        while True:
            live.update(_next(store, out.height), refresh=True)
            if wants_to_quit(every):
                return


def _next(store: Store, height: int) -> RenderableType:
    """Draws the next frame; while the database is away, why there is none."""
    try:
        return Group(*frame(look(store), height))
    except StoreUnavailable as error:
        return Text(f"{error}; trying again. Quit with q")


@contextmanager
def _keys() -> Generator[_Waits]:
    """Reads keys one by one, if there is a keyboard; gives what waits for one that quits."""
    try:
        import termios
        import tty
    except ImportError:  # not on Windows
        yield _Waits(keyboard=False)
        return
    if not sys.stdin.isatty():
        yield _Waits(keyboard=False)
        return
    before = termios.tcgetattr(sys.stdin)
    try:
        tty.setcbreak(sys.stdin)
        yield _Waits(keyboard=True)
    finally:
        termios.tcsetattr(sys.stdin, termios.TCSADRAIN, before)


class _Waits:
    """Waits for a key that quits.

    Args:
        keyboard: Whether there is one.
    """

    def __init__(self, *, keyboard: bool) -> None:
        self._keyboard = keyboard

    def __call__(self, seconds: float) -> bool:
        """Waits at most so long; says whether it was pressed."""
        until = time.monotonic() + seconds
        while self._keyboard and select.select([sys.stdin], [], [], max(until - time.monotonic(), 0.0))[0]:
            keys = os.read(sys.stdin.fileno(), 64)  # not what Python buffers, which `select` knows nothing of
            if not keys or any(key in keys for key in _QUIT):
                return True
        time.sleep(max(until - time.monotonic(), 0.0))
        return False


def frame(top: Top, height: int | None = None) -> Iterator[Text]:
    """Draws one frame, of so many lines at most."""
    room = 10_000 if height is None else height - _FIXED
    yield Text.assemble(
        ("sagas top", "bold"),
        f"  {printable(top.store)}  {top.at.astimezone():%H:%M:%S}  ",
        (_alive(top), "" if top.coordinators else "bold red"),
    )
    yield _counts(top)
    yield Text()
    names = _names(top)
    shown = names[: max(room // 4, _LEAST) + 1]
    yield from columns(shown)
    groups = list(_groups(top))[: max(room // 3, _LEAST) + 1]
    if len(groups) > 1:
        yield Text()
        yield from columns(groups)
    left = room - len(shown) - len(groups)
    going = list(_open(top))[: max(left, _LEAST) + 1]
    if len(going) > 1:
        yield Text()
        yield from columns(going, _STATUS_COLUMN)


def _alive(top: Top) -> str:
    """Says how many coordinators there are."""
    number = len(top.coordinators)
    return f"{number or 'no'} coordinator{'s' if number != 1 else ''} alive"


def _counts(top: Top) -> Text:
    """Writes how many sagas there are."""
    text = Text()
    for status, count in top.counts.statuses.items():
        style = "bold red" if status == "stuck" and count.number else ""
        text.append(f"{status} ", "dim").append(str(count), style).append("   ")
    text.rstrip()
    return text


def _names(top: Top) -> list[tuple[str, ...]]:
    """Lists the sagas by name: how many are open, and what happens to them in a minute."""
    number = {(x.name, x.status): x.number for x in top.counts.open}
    rates = {x.name: x for x in top.rates.by_name}
    names = list(dict.fromkeys([*rates, *(x.name for x in top.counts.open)]))
    lines: list[tuple[str, ...]] = [_HEADING]
    for name in names:
        standing = tuple(str(number.get((name, x), 0)) for x in ("running", "compensating", "stuck"))
        rate = rates.get(name, _STILL)
        speeds = tuple(map(_speed, (rate.started, rate.completed, rate.compensated)))
        lines.append((printable(name), *standing, *speeds))
    return lines


def _speed(rate: float) -> str:
    """Writes a rate."""
    return f"{rate:,.0f}" if rate >= 10 or not rate else f"{rate:.1f}"  # noqa: PLR2004 - two figures


def _groups(top: Top) -> Iterator[tuple[str, ...]]:
    """Lists what is stuck, by its cause."""
    yield ("STUCK", "SAGA", "AT", "CAUSE", "SUCH AS")
    for group in top.stuck.groups:
        cause = shorten(printable(group.cause), _WIDE)
        yield (str(len(group.sagas)), printable(group.name), printable(group.step or ""), cause, group.sagas[0].id)


def _open(top: Top) -> Iterator[tuple[str, ...]]:
    """Lists the newest sagas that have not ended."""
    yield ("OPEN", "SAGA", "STATUS", "AGE", "WHY")
    for saga in top.open:
        status = f"{saga.status}, waiting" if saga.waiting and saga.status != "stuck" else saga.status
        age = duration(max((top.at - saga.created_at).total_seconds(), 0.0))
        yield (saga.id, printable(f"{saga.name} {saga.version}"), status, age, shorten(_why(saga, top), _WIDE))


def _why(saga: SagaSummary, top: Top) -> str:
    """Says what a saga waits for, or why it is stuck."""
    if saga.error is not None:
        return printable(saga.error)
    if saga.waits_for is not None:
        return f"waits for {printable(saga.waits_for)}"
    if saga.id in top.locks:
        return f"waits for lock {printable(top.locks[saga.id])}"
    if saga.wake_at is not None:
        return f"wakes up in {duration(max((saga.wake_at - top.at).total_seconds(), 0.0))}"
    return "waits for a signal" if saga.waiting else ""  # there is nothing else that has no time
