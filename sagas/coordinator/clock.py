"""Where a coordinator takes time and chance from."""

from __future__ import annotations

import random
import time
from typing import Protocol

import anyio

__all__ = ["Clock", "SystemClock"]

# A wall clock may be set while we sleep, so no sleep is longer than this, in seconds.
_LONGEST_SLEEP = 30.0


class Clock(Protocol):
    """Time and chance."""

    def now(self) -> float:
        """Gives the POSIX time, in seconds."""
        ...

    def chance(self) -> float:
        """Gives a random number in [0, 1), for jitter."""
        ...

    async def sleep(self, seconds: float) -> None:
        """Waits, perhaps shorter than asked."""
        ...


class SystemClock:
    """The machine's own time and chance."""

    def now(self) -> float:
        """See ``Clock.now``."""
        return time.time()

    def chance(self) -> float:
        """See ``Clock.chance``."""
        return random.random()  # noqa: S311 - jitter is no secret

    async def sleep(self, seconds: float) -> None:
        """See ``Clock.sleep``."""
        await anyio.sleep(min(max(seconds, 0.0), _LONGEST_SLEEP))
