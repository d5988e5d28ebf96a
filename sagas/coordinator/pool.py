"""Tasks that run steps: reused, since starting one costs more than most of what a coordinator does for a step."""

from __future__ import annotations

from collections import deque
from contextvars import copy_context
from typing import TYPE_CHECKING, Generic, TypeVar

import anyio
from anyio.lowlevel import checkpoint

from sagas.coordinator.bells import bells

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from sagas.coordinator.bells import Bell

__all__ = ["Pool"]

J = TypeVar("J")

# After so many jobs in a row the worker lets other tasks have a turn, so that commits overlap with steps.
_TURN = 32
_IDLE_WORKERS = 64


class Pool(Generic[J]):
    """Runs jobs side by side, each in a task, as many as there are.

    Args:
        run: What to do with a job. It must not raise.
    """

    def __init__(self, run: Callable[[J], Awaitable[None]]) -> None:
        self._run = run
        self._jobs: deque[J] = deque()
        self._wanted: Bell | None = None
        self._idle: list[Bell] = []
        self._waking = False
        self._closed = self._dismissing = False
        self.running = 0
        self._settled: anyio.Event | None = None

    async def run(self) -> None:
        """Starts a worker, and others when they are needed, for ever.

        Here and nowhere else, so that no worker inherits the context variables of a step or of a user's request.
        """
        bell = bells()
        async with anyio.create_task_group() as group:
            group.start_soon(self._work)
            while True:
                if self._waking and not self._idle:
                    group.start_soon(self._work)
                self._wanted = bell()
                await self._wanted.wait()

    def submit(self, job: J) -> None:
        """Runs a job soon."""
        self._dismissing = False
        self._jobs.append(job)
        if not self._waking and not self._closed:
            self._wake_one()

    def close(self) -> None:
        """Starts nothing any more; jobs that wait are dropped."""
        self._closed = True
        self._jobs.clear()

    def dismiss(self) -> None:
        """Lets idle workers go, but one, so that the next job finds the pool as the first one did."""
        self._dismissing = True
        idle, self._idle = self._idle[1:], self._idle[:1]
        for rings in idle:
            rings.set()
        if not self._idle:
            self._wake_one()

    async def settled(self) -> None:
        """Waits until no job is running."""
        while self.running:
            self._settled = anyio.Event()
            await self._settled.wait()

    def _wake_one(self) -> None:
        """Gets one more worker going."""
        self._waking = True
        if self._idle:
            self._idle.pop().set()
        elif self._wanted is not None:
            self._wanted.set()

    async def _work(self) -> None:
        """Runs jobs, one after the other."""
        pristine, bell = copy_context(), bells()
        turn = 0
        while True:
            self._waking = False
            while self._jobs:
                job = self._jobs.popleft()
                if self._jobs and not self._waking:
                    # In case this job waits for something, another worker goes on with the next.
                    self._wake_one()
                self.running += 1
                try:
                    await self._run(job)
                finally:
                    self.running -= 1
                    if self._settled is not None and not self.running:
                        self._settled.set()
                if copy_context() != pristine:
                    # The step set context variables; they must not leak into the next one.
                    if self._jobs and not self._waking:
                        self._wake_one()
                    return
                turn += 1
                if turn % _TURN == 0:
                    await checkpoint()
            if self._closed or len(self._idle) >= _IDLE_WORKERS:
                return
            self._waking = False  # whoever was to be woken for jobs that are done by now is not needed any more
            rings = bell()
            self._idle.append(rings)
            await rings.wait()
            if self._dismissing:
                return
            turn = 0
