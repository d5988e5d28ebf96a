"""Requests that are at work in a worker: each runs to its end, whoever waits for it."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

import anyio

from sagas.core.failures import describe
from sagas.errors import KeyReused, TransportClosed
from sagas.transport.port import StepReply

if TYPE_CHECKING:
    from anyio.abc import TaskGroup

    from sagas.coordinator.clock import Clock
    from sagas.transport.port import Beat, StepRequest
    from sagas.worker.guarding import Guarding
    from sagas.worker.performing import Performing

__all__ = ["Job", "Jobs"]

logger = logging.getLogger("sagas.worker")

# How often a step's signs of life are passed on at most, in seconds.
_BEAT = 1.0


class Job:
    """A request that is at work here.

    Args:
        performing: What performs it.

    Attributes:
        request: Which.
        performing: See above.
        ended: When it is over.
        reply: How it went then.
        error: What is raised instead of a reply.
    """

    __slots__ = ("ended", "error", "performing", "reply", "request")

    def __init__(self, performing: Performing) -> None:
        self.request = performing.request
        self.performing = performing
        self.ended = anyio.Event()
        self.reply: StepReply | None = None
        self.error: Exception | None = None

    def outcome(self) -> StepReply:
        """Gives the reply, or raises what is raised instead."""
        if self.error is not None:
            raise self.error
        assert self.reply is not None, "it has ended"
        return self.reply


class Jobs:
    """What is at work here: no two requests side by side that concern the same action.

    Args:
        guarding: Performs requests behind the barrier.
        clock: For deadlines.
    """

    def __init__(self, guarding: Guarding, clock: Clock) -> None:
        self._guarding = guarding
        self._clock = clock
        self._at_work: dict[str, Job] = {}  # by idempotency key of the action
        self._idle = anyio.Event()
        self._group: TaskGroup | None = None

    # --- as long as the worker is open --------------------------------------------------------------------------

    def open(self, group: TaskGroup) -> None:
        """Takes requests from now on, to be performed in this group."""
        self._group = group

    async def drain(self, seconds: float) -> None:
        """Takes nothing new, and gives what is at work so many seconds to end."""
        self._group = None
        with anyio.move_on_after(seconds):
            while self._at_work:
                self._idle = anyio.Event()
                await self._idle.wait()

    @property
    def is_open(self) -> bool:
        """Whether requests are taken."""
        return self._group is not None

    def check_open(self, request: StepRequest) -> None:
        """Refuses a request when nothing new is taken.

        Raises:
            TransportClosed: That is so.
        """
        if self._group is None:
            raise TransportClosed(f"step {request.step} was not begun: the worker takes nothing new")

    # --- requests -----------------------------------------------------------------------------------------------

    def has(self, key: str) -> bool:
        """Says whether something is at work that concerns the action with this idempotency key."""
        return key in self._at_work

    async def perform(self, performing: Performing, beat: Beat | None) -> StepReply:
        """Performs a request, unless the same one is at work here; whatever else concerns its action comes first.

        Raises:
            KeyReused: Its key came with another request.
            TransportClosed: The worker takes nothing new, or was left meanwhile.
        """
        request = performing.request
        while (job := self._at_work.get(request.action_key)) is not None:
            same = job.request.kind == request.kind and job.request.fingerprint() == request.fingerprint()
            if job.performing.admitted and job.request.kind == request.kind and not same:
                raise KeyReused(request.idempotency_key, request.step)
            if not await self._wait(job, request, beat):
                return StepReply.running()
            if same:
                return job.outcome()
        if request.deadline is not None and request.deadline <= self._clock.now():
            late = f"its deadline had passed {self._clock.now() - request.deadline:.3g} s before it could be begun"
            wrong = TimeoutError(f"{late}; the clocks of both sides have to agree")
            return await self._guarding.not_begun(request, wrong)
        job = self._begin(performing)
        if not await self._wait(job, request, beat):
            return StepReply.running()
        return job.outcome()

    def _begin(self, performing: Performing) -> Job:
        """Puts a request to work."""
        self.check_open(performing.request)
        assert self._group is not None, "it is open"
        job = self._at_work[performing.request.action_key] = Job(performing)
        self._group.start_soon(self._run, job)
        return job

    async def _wait(self, job: Job, request: StepRequest, beat: Beat | None) -> bool:
        """Waits for a job to end; not beyond a request's deadline. Passes on signs of life meanwhile."""
        left = None if request.deadline is None else request.deadline - self._clock.now()
        with anyio.move_on_after(left):
            if beat is None:
                await job.ended.wait()
            last = float("-inf")
            while not job.ended.is_set():
                with anyio.move_on_after(_BEAT):
                    await job.ended.wait()
                if beat is not None and job.performing.pulse.at > last:
                    last = job.performing.pulse.at
                    beat()
        return job.ended.is_set()

    async def _run(self, job: Job) -> None:
        """Performs a request to its end, whoever waits for it."""
        try:
            job.reply = await self._guarding.perform(job.performing)
        except (KeyReused, TransportClosed) as error:
            job.error = error
        except Exception as error:
            logger.exception("saga %s: step %s failed in the worker itself", job.request.saga_id, job.request.step)
            job.reply = StepReply.in_doubt(describe(error))
        finally:
            if job.reply is None and job.error is None:
                job.error = TransportClosed(f"the worker was left while step {job.request.step} ran")
            del self._at_work[job.request.action_key]
            job.ended.set()
            if not self._at_work:
                self._idle.set()
