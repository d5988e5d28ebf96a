"""Lists the schedules of a journal, and pauses or resumes one."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from sagas.cli.problems import Problem, printable
from sagas.cli.rendering import columns, when
from sagas.coordinator.schedule_desk import refuse_unknown, views_of_schedules

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from rich.text import Text

    from sagas.coordinator import ScheduleView
    from sagas.stores import Store

__all__ = ["change", "render", "schedules"]


def schedules(store: Store) -> list[ScheduleView]:
    """Reads the schedules of all coordinators, by name."""
    return views_of_schedules(store.schedules())


def change(store: Store, *, pause: str | None, resume: str | None) -> None:
    """Pauses a schedule, and resumes one, if so asked.

    Raises:
        Problem: It is to do both to the same.
        RequestError: There is no such schedule; nothing was changed then.
    """
    if pause is not None and pause == resume:
        raise Problem(f"pause or resume {pause!r}? Pass one of --pause and --resume")
    wanted = [(name, paused) for name, paused in ((pause, True), (resume, False)) if name is not None]
    for name, _ in wanted:
        refuse_unknown(name, store.schedules())
    for name, paused in wanted:
        store.pause_schedule(name, time.time(), paused=paused)


def render(rows: Iterable[ScheduleView]) -> Iterator[Text]:
    """Makes a line a schedule."""
    cells = [("NAME", "DUE", "STATE", "TIMES")]
    cells += [(printable(x.name), when(x.due_at), "paused" if x.paused else "runs", printable(x.spec)) for x in rows]
    yield from columns(cells)
