"""Run as a program: a coordinator with a schedule; ``python -m tests.coordinator.ticking URL FILE MISSED DIE``.

Writes a line with the due time to the file whenever the saga's step runs. With ``DIE``, kills itself with SIGKILL at
the fourth due time that it comes to: ``make`` before that time's saga is started, ``start`` while it is being written,
``note`` once it is durable but before the schedule is moved on.
"""

from __future__ import annotations

import os
import signal
import sys
from datetime import datetime
from pathlib import Path
from typing import Any

import anyio

from sagas import Coordinator, SagaCall, Schedule, saga, step
from sagas.stores import store_for
from sagas.stores.keeping import ScheduleRow
from sagas.stores.port import Store

__all__ = ["EVERY"]

EVERY = 0.2
_FATAL = 4


class Fate:
    """Ends this process at a place, when it comes there for the due time that is fatal.

    Args:
        where: The place, or nowhere.
    """

    def __init__(self, where: str) -> None:
        self._where = where
        self._made: list[datetime] = []

    def comes_to(self, where: str) -> None:
        """Says where the process is."""
        if where == self._where and len(self._made) >= _FATAL:
            os.kill(os.getpid(), signal.SIGKILL)

    def made(self, due: datetime) -> None:
        """Says that a due time is about to be started."""
        self._made.append(due)
        self.comes_to("make")


def _watched(store: Any, fate: Fate) -> Store:
    """Lets a store meet its fate between the call and what it does."""
    commit, move = store.commit, store.move_schedule

    def fatal_commit(*arguments: Any, **options: Any) -> Any:
        fate.comes_to("start")
        return commit(*arguments, **options)

    def fatal_move(seen: ScheduleRow, spec: str, due_at: float) -> Any:
        fate.comes_to("note")
        return move(seen, spec, due_at)

    store.commit, store.move_schedule = fatal_commit, fatal_move
    found: Store = store
    return found


async def _run(arguments: list[str]) -> None:
    url, file, missed, die = arguments
    fate = Fate(die)

    @step
    def write(due: str) -> None:
        with Path(file).open("a", encoding="utf-8") as lines:  # one short write at the end of the file
            lines.write(f"{due}\n")

    @saga
    async def tick(due: str) -> None:
        await write(due)

    def make(due: datetime) -> SagaCall[None]:
        fate.made(due)
        return tick(due.isoformat())

    schedule = Schedule("tick", make, every=EVERY, missed="skip" if missed == "skip" else "all")
    store = _watched(store_for(url), fate)
    async with Coordinator(store, sagas=[tick], schedules=[schedule], poll=0.05, lease=1.0):
        print("ready", flush=True)  # noqa: T201 - tells the parent
        await anyio.to_thread.run_sync(sys.stdin.readline)


if __name__ == "__main__":
    anyio.run(_run, sys.argv[1:])
