"""Time that passes when a test says so."""

from __future__ import annotations

import math

import anyio

__all__ = ["VirtualClock"]


class VirtualClock:
    """A clock for queues."""

    def __init__(self) -> None:
        self._now = 0.0
        self._sleepers: dict[anyio.Event, float] = {}

    def now(self) -> float:
        return self._now

    async def sleep(self, seconds: float) -> None:
        event = anyio.Event()
        self._sleepers[event] = self._now + seconds
        try:
            await event.wait()
        finally:
            del self._sleepers[event]

    async def advance(self, seconds: float) -> None:
        """Lets time pass, from one sleeper's end to the next; each has done what it wants before time goes on."""
        end = self._now + seconds
        await anyio.wait_all_tasks_blocked()
        while (first := min(self._sleepers.values(), default=math.inf)) <= end:
            self._now = first
            for event in [event for event, at in self._sleepers.items() if at <= first]:
                event.set()
            await anyio.wait_all_tasks_blocked()
        self._now = end
