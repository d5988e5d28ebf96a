"""Wakes sagas in time."""

from __future__ import annotations

import heapq
from itertools import count
from typing import TYPE_CHECKING

import anyio

from sagas.coordinator.bells import bells

if TYPE_CHECKING:
    from collections.abc import Callable

    from sagas.coordinator.bells import Bell
    from sagas.coordinator.clock import Clock

__all__ = ["Timers"]


_LONGEST_WAIT = 30.0
_SIFT_FROM = 1000


class Timers:
    """Fires each timer once its time has come.

    Args:
        clock: Whose time.
        fire: Called with the saga's id and the path; it checks whether the timer still matters.
        matters: Says so beforehand, for the timers of sagas that ended long before their time.

    Attributes:
        longest_wait: Seconds between two looks at the clock at most, since it may be set meanwhile.
    """

    def __init__(
        self, clock: Clock, fire: Callable[[str, str], None], matters: Callable[[str, str, float], bool]
    ) -> None:
        self._clock = clock
        self._fire = fire
        self._matters = matters
        self._sift_at = _SIFT_FROM
        self._heap: list[tuple[float, int, str, str]] = []
        self._numbers = count()
        self._wake: Bell | None = None
        self.longest_wait = _LONGEST_WAIT

    def add(self, until: float, saga_id: str, path: str) -> None:
        """Sets a timer, at a POSIX time."""
        heapq.heappush(self._heap, (until, next(self._numbers), saga_id, path))
        if len(self._heap) >= self._sift_at:
            self._heap = [x for x in self._heap if self._matters(x[2], x[3], x[0])]
            heapq.heapify(self._heap)
            self._sift_at = max(_SIFT_FROM, 2 * len(self._heap))
        if self._wake is not None and self._heap[0][0] >= until:
            self._wake.set()

    @property
    def due(self) -> float | None:
        """When the next one fires, at a POSIX time; ``None`` if there is none."""
        return self._heap[0][0] if self._heap else None

    def clear(self) -> None:
        """Forgets every timer."""
        if self._heap:
            self._heap.clear()
            self.look()

    def look(self) -> None:
        """Looks at the clock at once."""
        if self._wake is not None:
            self._wake.set()

    async def run(self) -> None:
        """Fires timers, for ever."""
        bell = bells()
        while True:
            now = self._clock.now()
            while self._heap and self._heap[0][0] <= now:
                _, _, saga_id, path = heapq.heappop(self._heap)
                self._fire(saga_id, path)
            self._wake = bell()
            if self._heap:
                with anyio.move_on_after(min(self.longest_wait, self._heap[0][0] - self._clock.now())):
                    await self._wake.wait()
            else:
                await self._wake.wait()
            self._wake = None
