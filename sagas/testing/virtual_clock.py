"""A clock that a test sets by hand, so that a real coordinator's sagas sleep for a day without anybody waiting."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Protocol

import anyio
from anyio.lowlevel import checkpoint

from sagas.coordinator.clock import SystemClock
from sagas.errors import RequestError

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["BEGINNING", "Sleeper", "VirtualClock"]

# A Tuesday at noon, as in simulated runs.
BEGINNING = 1_704_801_600.0
# Nothing tells when the last of a coordinator's tasks has come to rest, so it is looked at so often, in seconds.
_LOOK = 0.002
_TURNS = 5


class Sleeper(Protocol):
    """A coordinator that lives by a virtual clock."""

    def look(self) -> None:
        """Looks at the clock."""
        ...

    def due(self) -> float | None:
        """Says when its next timer is due."""
        ...

    def busy(self) -> str:
        """Says what it is doing; nothing if it just waits."""
        ...


class VirtualClock(SystemClock):
    """A clock that stands still until it is told to go on: see ``sagas.coordinator.clock.Clock``.

    Timers of sagas, timeouts of ``receive``, pauses before retries, schedules and retention go by it. What really takes
    time does not: the timeouts and heartbeats of steps, leases, and polls of a database.

    Args:
        now: POSIX time, in seconds.
    """

    def __init__(self, now: float = BEGINNING) -> None:
        super().__init__()
        self._now = now
        self._sleeping: list[tuple[float, anyio.Event]] = []
        self._hosts: list[Sleeper] = []

    def now(self) -> float:
        """Gives its time."""
        return self._now

    def chance(self) -> float:
        """Gives the middle, so that pauses before retries are the same every time."""
        return 0.5

    async def sleep(self, seconds: float) -> None:
        """Waits until it was told to go on so far."""
        if seconds <= 0:
            await checkpoint()
            return
        event = anyio.Event()
        entry = (self._now + seconds, event)
        self._sleeping.append(entry)
        try:
            await event.wait()
        finally:
            if entry in self._sleeping:
                self._sleeping.remove(entry)

    # --- what a test calls --------------------------------------------------------------------------------------

    def advance(self, seconds: float) -> None:
        """Sets it ahead at once; whatever is due by then wakes up now.

        Call it where the coordinators run, and not from another thread.

        Args:
            seconds: Not negative.

        Raises:
            RequestError: They are negative, or no number.
        """
        if not (0 <= seconds < math.inf):
            raise RequestError(f"a clock goes ahead by a number of seconds, not by {seconds!r}")
        self._now += seconds
        due = [entry for entry in self._sleeping if entry[0] <= self._now]
        self._sleeping = [entry for entry in self._sleeping if entry[0] > self._now]
        for _, event in due:
            event.set()
        for host in self._hosts:
            host.look()

    async def settled(self, *, within: float = 10.0) -> None:
        """Waits until all that the coordinators do is wait: for this clock, for a signal, or for a lock.

        Args:
            within: Seconds, of real time.

        Raises:
            TimeoutError: They are still at work by then.
        """
        quiet = 0
        with anyio.move_on_after(within):
            while quiet < _TURNS:
                quiet = 0 if self._busy() else quiet + 1
                await anyio.sleep(_LOOK)
            return
        raise TimeoutError(f"after {within} s there is still work under way: {self._busy() or 'time is too short'}")

    async def pass_time(self, seconds: float, *, within: float = 10.0) -> None:
        """Lets time pass: stops at every moment at which something is due, and waits until it is done.

        Args:
            seconds: How much; as for ``advance``.
            within: Seconds of real time, for each stop.

        Raises:
            RequestError: See ``advance``.
            TimeoutError: See ``settled``.
        """
        if not (0 <= seconds < math.inf):
            raise RequestError(f"a clock goes ahead by a number of seconds, not by {seconds!r}")
        end = self._now + seconds
        await self.settled(within=within)
        while True:
            due = min(self._due(), default=math.inf)
            self.advance(max(0.0, min(due, end) - self._now))
            await self.settled(within=within)
            if due > end or self._now >= end:
                return

    # --- what coordinators call ---------------------------------------------------------------------------------

    def attach(self, host: Sleeper) -> None:
        """Tells a coordinator from now on when it is set."""
        self._hosts.append(host)

    def detach(self, host: Sleeper) -> None:
        """Tells it no more."""
        self._hosts.remove(host)

    def _due(self) -> Iterator[float]:
        """Lists when something is due."""
        yield from (until for until, _ in self._sleeping)
        yield from (due for due in (host.due() for host in self._hosts) if due is not None)

    def _busy(self) -> str:
        """Says what is under way."""
        return ", ".join(filter(None, (host.busy() for host in self._hosts)))
