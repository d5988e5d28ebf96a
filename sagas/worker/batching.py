"""Puts what many tasks want from a database at the same time into one transaction."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any, Generic, TypeVar, cast

import anyio
from anyio import CapacityLimiter, to_thread

from sagas.errors import StoreUnavailable, TransportClosed

if TYPE_CHECKING:
    from collections.abc import Callable

    from sqlalchemy import Connection

    from sagas.stores.sql import SqlStore

__all__ = ["Batcher"]

logger = logging.getLogger("sagas.worker")

T = TypeVar("T")

_MOST = 500


class _Job(Generic[T]):
    """Something to do in a transaction, and what came of it."""

    __slots__ = ("ended", "error", "function", "result")

    def __init__(self, function: Callable[[Connection], T]) -> None:
        self.function = function
        self.ended = anyio.Event()
        self.result: T | None = None
        self.error: Exception | None = None


class Batcher:
    """Group commit for whoever shares a store: while one transaction is on its way to the disk, the next one fills up.

    Args:
        store: Whose transactions.
        harmless: Errors of a function that leave nothing behind, so that the others in its transaction may go on.
    """

    def __init__(self, store: SqlStore, *, harmless: tuple[type[Exception], ...] = ()) -> None:
        self._store = store
        self._harmless = harmless
        self._jobs: list[_Job[Any]] = []
        self._wake = anyio.Event()
        self._thread = CapacityLimiter(1)
        self._seats = CapacityLimiter(max(1, store.parallel))
        self._closed = False

    async def do(self, function: Callable[[Connection], T]) -> T:
        """Has a function run in a transaction with others; durable when this returns. It may run more than once.

        Raises:
            StoreUnavailable: It may or may not have been committed.
            TransportClosed: Nobody commits any more.
        """
        self._check_open()
        job = _Job(function)
        self._jobs.append(job)
        self._wake.set()
        await job.ended.wait()
        if job.error is not None:
            raise job.error
        return cast("T", job.result)

    async def do_alone(self, function: Callable[[Connection], T]) -> T:
        """Has a function run in a transaction of its own, beside others if the database can do that.

        Raises:
            StoreUnavailable: As for ``do``.
            TransportClosed: As for ``do``.
        """
        self._check_open()
        if not self._store.parallel:
            return await self.do(function)
        job = _Job(function)
        with anyio.CancelScope(shield=True):
            await to_thread.run_sync(self._commit, [job], limiter=self._seats)
        if job.error is not None:
            raise job.error
        return cast("T", job.result)

    def _check_open(self) -> None:
        """Refuses to go on.

        Raises:
            TransportClosed: Nobody commits any more.
        """
        if self._closed:
            raise TransportClosed("the worker is closed")

    async def run(self) -> None:
        """Commits, until it is cancelled."""
        try:
            while True:
                if not self._jobs:
                    self._wake = anyio.Event()
                    await self._wake.wait()
                jobs, self._jobs = self._jobs[:_MOST], self._jobs[_MOST:]
                await self._commit_all(jobs)
        finally:
            self._closed = True
            for job in self._jobs:
                job.error = TransportClosed("the worker is closed")
                job.ended.set()

    async def _commit_all(self, jobs: list[_Job[Any]]) -> None:
        """Commits jobs together, or else one by one, so that each has its own error."""
        with anyio.CancelScope(shield=True):
            try:
                await to_thread.run_sync(self._commit, jobs, limiter=self._thread)
                if len(jobs) > 1 and jobs[0].error is not None and all(job.error is jobs[0].error for job in jobs):
                    for job in jobs:
                        job.error = None
                        await to_thread.run_sync(self._commit, [job], limiter=self._thread)
            finally:
                for job in jobs:
                    job.ended.set()

    def _commit(self, jobs: list[_Job[Any]]) -> None:
        """Runs jobs in one transaction; in a thread. If it fails, all of them have the same error."""
        try:
            with self._store.begin() as connection:
                for job in jobs:
                    self._run(job, connection)
        except StoreUnavailable as error:
            _fail(jobs, error)
        except Exception as error:
            if len(jobs) == 1:
                logger.exception("a transaction of the inbox failed")
            _fail(jobs, error)

    def _run(self, job: _Job[Any], connection: Connection) -> None:
        """Runs one; keeps an error that concerns no other."""
        try:
            job.result = job.function(connection)
        except self._harmless as error:
            job.error = error


def _fail(jobs: list[_Job[Any]], error: Exception) -> None:
    """Notes why nothing of it happened."""
    for job in jobs:
        job.error = error
