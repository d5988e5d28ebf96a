"""The clock of a simulated process."""

from __future__ import annotations

from typing import TYPE_CHECKING

import anyio

if TYPE_CHECKING:
    from sagas.testing.simulation.loop import ProcessLoop, Time

__all__ = ["ProcessClock", "Tokens"]


class Tokens:
    """What is drawn by chance in a real fleet, and here is the same in every run of a plan.

    But for the names of processes, which may live longer than a run.
    """

    __slots__ = ("_next", "_processes")

    def __init__(self) -> None:
        self._next = self._processes = 0

    def token(self, size: int) -> str:
        """Gives that many bytes, in hexadecimal, that nobody else is given."""
        self._next += 1
        return f"{self._next:0{2 * size}x}"

    def begin_again(self) -> None:
        """Starts from the first one, for another run."""
        self._next = 0

    def owner(self) -> str:
        """Gives the name of a process."""
        self._processes += 1
        return f"process-{self._processes}"


class ProcessClock:
    """See ``sagas.coordinator.clock.Clock``.

    Args:
        time: Of the fleet.
        loop: Whose steady time counts for pauses.
        tokens: Of the fleet.

    Attributes:
        ahead: Seconds by which its wall clock is wrong.
    """

    def __init__(self, time: Time, loop: ProcessLoop, tokens: Tokens) -> None:
        self._time = time
        self._loop = loop
        self.token = tokens.token
        self.ahead = 0.0

    def now(self) -> float:
        """See ``Clock.now``."""
        return self._time.now + self.ahead

    def steady(self) -> float:
        """See ``Clock.steady``."""
        return self._loop.time()

    def chance(self) -> float:
        """Gives the middle: jitter decides nothing."""
        return 0.5

    async def sleep(self, seconds: float) -> None:
        """See ``Clock.sleep``."""
        await anyio.sleep(max(seconds, 0.0))
