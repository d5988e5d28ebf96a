"""Where a coordinator takes time and chance from."""

from __future__ import annotations

import os
import random
import time
from typing import Protocol

import anyio

__all__ = ["Clock", "SystemClock"]

# A wall clock may be set while we sleep, so no sleep is longer than this, in seconds.
_LONGEST_SLEEP = 30.0
_BULK = 1024
_BOOTTIME = hasattr(time, "CLOCK_BOOTTIME")


class Clock(Protocol):
    """Time and chance."""

    def now(self) -> float:
        """Gives the POSIX time, in seconds."""
        ...

    def steady(self) -> float:
        """Gives seconds since some moment, by a clock that nobody sets."""
        ...

    def chance(self) -> float:
        """Gives a random number in [0, 1), for jitter."""
        ...

    def token(self, size: int) -> str:
        """Gives that many random bytes, in hexadecimal, that nobody else is given."""
        ...

    async def sleep(self, seconds: float) -> None:
        """Waits, perhaps shorter than asked."""
        ...


class SystemClock:
    """The machine's own time and chance."""

    def __init__(self) -> None:
        # Asking the system for a few bytes costs as much as a step, so they are fetched in bulk.
        self._bytes = b""
        self._process = 0

    def now(self) -> float:
        """See ``Clock.now``."""
        return time.time()

    def steady(self) -> float:
        """See ``Clock.steady``: on Linux, a machine that is suspended meanwhile counts that too."""
        return time.clock_gettime(time.CLOCK_BOOTTIME) if _BOOTTIME else time.monotonic()

    def chance(self) -> float:
        """See ``Clock.chance``."""
        return random.random()  # noqa: S311 - jitter is no secret

    def token(self, size: int) -> str:
        """See ``Clock.token``."""
        if len(self._bytes) < size or self._process != os.getpid():  # a forked process must not give the same
            self._bytes, self._process = os.urandom(_BULK), os.getpid()
        given, self._bytes = self._bytes[:size], self._bytes[size:]
        return given.hex()

    async def sleep(self, seconds: float) -> None:
        """See ``Clock.sleep``."""
        await anyio.sleep(min(max(seconds, 0.0), _LONGEST_SLEEP))
