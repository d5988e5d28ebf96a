"""Ends a process at each of its crash points in turn, lets another one recover, and audits.

Each process is forked from this one, which starts no threads of its own, so that a life takes milliseconds.
"""

from __future__ import annotations

import os
import signal
import traceback
from collections.abc import Callable
from functools import partial
from typing import Protocol

__all__ = ["CrashPoints", "Scene", "die", "fork", "go_through"]

_MOST = 500


class Scene(Protocol):
    """What is done at each point."""

    def prepare(self, point: int) -> None:
        """Makes a place of its own for it; called in this process."""
        ...

    def live(self, point: int) -> None:
        """Runs until the point is reached, or to the end; called in a process of its own."""
        ...

    def recover(self, point: int) -> None:
        """Runs what was left to its end; called in a process of its own."""
        ...

    def audit(self, point: int) -> None:
        """Raises ``AssertionError`` if a law is broken; called in this process."""
        ...


def die() -> None:
    """Ends this process as nobody could keep it from."""
    os.kill(os.getpid(), signal.SIGKILL)


class CrashPoints:
    """Counts the points that a process passes, and ends it at one of them.

    Args:
        fatal: The number of that one, from 1.
        strike: What to do instead of ending it.

    Attributes:
        armed: Whether points are counted.
    """

    def __init__(self, fatal: int, strike: Callable[[], None] = die) -> None:
        self._fatal = fatal
        self._strike = strike
        self._passed = 0
        self.armed = True

    @property
    def struck(self) -> bool:
        """Whether it was reached."""
        return self._passed >= self._fatal

    def passes(self) -> bool:
        """Called at each point; says whether it was the one."""
        if not self.armed:
            return False
        self._passed += 1
        if self._passed == self._fatal:
            self._strike()
        return self._passed == self._fatal


def fork(work: Callable[[], None]) -> int:
    """Runs something in a process of its own, and gives how it ended."""
    pid = os.fork()
    if pid == 0:
        try:
            work()
        except BaseException:
            traceback.print_exc()
            os._exit(1)
        os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def go_through(scene: Scene) -> int:
    """Goes through the points until there is none left to crash at; gives how many there were.

    Raises:
        AssertionError: A law was broken at one of them, or a process failed.
    """
    for point in range(1, _MOST):
        scene.prepare(point)
        status = fork(partial(scene.live, point))
        assert status in (0, -signal.SIGKILL), f"point {point}: the process ended with {status}"
        assert fork(partial(scene.recover, point)) == 0, f"point {point}: it did not recover"
        try:
            scene.audit(point)
        except AssertionError as error:
            raise AssertionError(f"point {point}: {error}") from error
        if status == 0:
            return point - 1
    raise AssertionError(f"it has not come to its end after {_MOST} points")
