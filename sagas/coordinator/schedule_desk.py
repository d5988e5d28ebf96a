"""What people ask of schedules."""

from __future__ import annotations

from abc import ABC, abstractmethod
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from sagas.coordinator.schedules import ScheduleView
from sagas.errors import RequestError
from sagas.stores.keeping import OWN_ROWS

if TYPE_CHECKING:
    from collections.abc import Iterable

    from sagas.coordinator.link import Link
    from sagas.stores.keeping import ScheduleRow

__all__ = ["ScheduleDesk", "refuse_unknown", "views_of_schedules"]

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class ScheduleDesk(ABC):
    """What a coordinator and a client can be asked about schedules."""

    @abstractmethod
    def _running(self) -> Link:
        """Gives what reaches the store."""

    async def schedules(self) -> list[ScheduleView]:
        """Reads the schedules of all processes on this store, by name."""
        engine = self._running()
        return views_of_schedules(await engine.in_thread(engine.store.schedules))

    async def pause_schedule(self, name: str) -> None:
        """Has a schedule start nothing, durably, in every process.

        Raises:
            RequestError: There is no such schedule.
        """
        await self._pause(name, paused=True)

    async def resume_schedule(self, name: str) -> None:
        """Lets a paused schedule go on, within half a minute. What came due meanwhile is not started.

        Raises:
            RequestError: There is no such schedule.
        """
        await self._pause(name, paused=False)

    async def _pause(self, name: str, *, paused: bool) -> None:
        """Pauses or resumes a schedule."""
        engine = self._running()
        now = engine.clock.now()
        refuse_unknown(name, await engine.in_thread(engine.store.schedules))
        await engine.in_thread(lambda: engine.store.pause_schedule(name, now, paused=paused))


def views_of_schedules(rows: Iterable[ScheduleRow]) -> list[ScheduleView]:
    """Describes schedules, without the library's own rows."""
    return [
        ScheduleView(name=row.name, spec=row.spec, due_at=_EPOCH + timedelta(seconds=row.due_at), paused=row.paused)
        for row in rows
        if not row.name.startswith(OWN_ROWS)
    ]


def refuse_unknown(name: str, rows: Iterable[ScheduleRow]) -> None:
    """Refuses the name of a schedule that nobody has.

    Raises:
        RequestError: It is one.
    """
    if name.startswith(OWN_ROWS) or name not in {row.name for row in rows}:
        raise RequestError(f"there is no schedule {name!r}; one is known once a coordinator that has it was started")
