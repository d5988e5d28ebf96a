"""Puts what many tasks want from a database at the same time into one transaction."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any, Generic, Protocol, TypeVar, cast

import anyio
from anyio import CapacityLimiter, to_thread

from sagas.errors import StoreUnavailable, TransportClosed
from sagas.stores.outage import is_standoff

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from anyio.abc import TaskGroup
    from sqlalchemy import Connection

    from sagas.stores.sql import SqlStore

__all__ = ["Batcher", "Together"]

logger = logging.getLogger("sagas.worker")

T = TypeVar("T")
K = TypeVar("K", contravariant=True)
R = TypeVar("R", covariant=True)

_MOST = 500
# Seconds that a transaction waits for a row of another one: with company, which waits too, and alone.
_PATIENCE, _PATIENCE_ALONE = 0.1, 1.0


class Together(Protocol[K, R]):
    """Does the same for many, in a transaction; gives what came of each, an error if that concerns no other."""

    def __call__(self, items: Sequence[K], connection: Connection, /) -> Sequence[R | Exception]: ...  # noqa: D102 - see the class


class _Job(Generic[T]):
    """Something to do in a transaction, and what came of it."""

    __slots__ = ("ended", "error", "function", "item", "result", "retry")

    def __init__(self, function: Together[Any, T], item: object) -> None:
        self.function = function
        self.item = item
        self.ended = anyio.Event()
        self.result: T | None = None
        self.error: Exception | None = None
        self.retry = False

    def outcome(self) -> T:
        """Gives the result, or raises the error."""
        if self.error is not None:
            raise self.error
        return cast("T", self.result)


class Batcher:
    """Group commit for whoever shares a store: while one transaction is on its way to the disk, the next one fills up.

    On PostgreSQL, no transaction waits long for a row that somebody else's has written and not committed: those that
    are in company with one which has to are done again without it.

    Args:
        store: Whose transactions.
    """

    def __init__(self, store: SqlStore) -> None:
        self._store = store
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
        return await self.do_together(cast("Together[Callable[[Connection], T], T]", _one_by_one), function)

    async def do_together(self, function: Together[K, T], item: K) -> T:
        """Has a function run in a transaction, once for all items that come with it at the same time.

        Raises:
            StoreUnavailable: As for ``do``.
            TransportClosed: As for ``do``.
        """
        self._check_open()
        job = _Job(function, item)
        self._jobs.append(job)
        self._wake.set()
        await job.ended.wait()
        return job.outcome()

    async def do_alone(self, function: Callable[[Connection], T]) -> T:
        """Has a function run in a transaction of its own, beside others if the database can do that.

        Raises:
            StoreUnavailable: As for ``do``.
            TransportClosed: As for ``do``.
        """
        self._check_open()
        if not self._store.parallel:
            return await self.do(function)
        job = _Job(cast("Together[Callable[[Connection], T], T]", _one_by_one), function)
        with anyio.CancelScope(shield=True):
            await to_thread.run_sync(self._commit, [job], limiter=self._seats)
        return job.outcome()

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
            async with anyio.create_task_group() as group:
                while True:
                    if not self._jobs:
                        self._wake = anyio.Event()
                        await self._wake.wait()
                    jobs, self._jobs = self._jobs[:_MOST], self._jobs[_MOST:]
                    await self._commit_all(jobs, group)
        finally:
            self._closed = True
            jobs, self._jobs = self._jobs, []
            for job in jobs:
                job.error = TransportClosed("the worker is closed")
                job.ended.set()

    async def _commit_all(self, jobs: list[_Job[Any]], group: TaskGroup) -> None:
        """Commits jobs together, or else each in a transaction of its own, so that it has its own error."""
        with anyio.CancelScope(shield=True):
            try:
                await to_thread.run_sync(self._commit, jobs, limiter=self._thread)
            finally:
                for job in jobs:
                    if job.retry:
                        group.start_soon(self._commit_alone, job)
                    else:
                        job.ended.set()

    async def _commit_alone(self, job: _Job[Any]) -> None:
        """Commits a job that failed in company; others need not wait for it."""
        with anyio.CancelScope(shield=True):
            try:
                await to_thread.run_sync(
                    self._commit, [job], limiter=self._seats if self._store.parallel else self._thread
                )
            finally:
                job.ended.set()

    def _commit(self, jobs: list[_Job[Any]]) -> None:
        """Runs jobs in one transaction; in a thread. If it fails, each has the error, or is to be tried alone."""
        for job in jobs:
            job.error, job.retry = None, False
        try:
            with self._store.begin() as connection:
                self._store.hurry(connection, _PATIENCE if len(jobs) > 1 else _PATIENCE_ALONE)
                _run(jobs, connection)
        except Exception as error:
            helps = not isinstance(error, StoreUnavailable) or is_standoff(error.__cause__ or error)
            for job in jobs:
                job.error, job.retry = error, helps and len(jobs) > 1


def _run(jobs: list[_Job[Any]], connection: Connection) -> None:
    """Runs jobs, those together that have the same function."""
    groups: dict[Together[Any, Any], list[_Job[Any]]] = {}
    for job in jobs:
        groups.setdefault(job.function, []).append(job)
    for function, some in groups.items():
        for job, result in zip(some, function([job.item for job in some], connection), strict=True):
            job.result, job.error = (None, result) if isinstance(result, Exception) else (result, None)


def _one_by_one(functions: Sequence[Callable[[Connection], T]], connection: Connection, /) -> Sequence[T]:
    """Calls functions that have nothing in common."""
    return [function(connection) for function in functions]
