"""What the barrier costs: steps a second in one worker, with its inbox and without, with the same durable write each.

Both write one row in a session, and put what comes at the same time into one transaction. One of them also remembers
every request in the same transaction.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING

from sqlalchemy import Connection
from sqlmodel import Session

from benchmarks.remote.answered import SERVED
from benchmarks.remote.disk import open_disk
from benchmarks.workload import closed_loop
from sagas.transport import StepRequest
from sagas.worker import Worker
from sagas.worker.batching import Batcher
from sagas.worker.sql_inbox import SqlInbox

if TYPE_CHECKING:
    from sagas.transport import StepReply
    from sagas.worker.inbox import Settle, Work

__all__ = ["opened"]

_ARGUMENTS = b'{"order":{"sku":"sku-1234","quantity":2,"amount_cents":4999,"accepted":true},"number":0}'
Rates = Callable[[bool, int, float], Awaitable[float]]


class _Forgetful(SqlInbox):
    """Performs what comes, and remembers nothing."""

    async def transact(self, request: StepRequest, work: Work, settle: Settle) -> StepReply:  # noqa: ARG002 - of the protocol
        """Calls the step in a transaction, together with others."""
        batcher: Batcher = self._batcher

        def within(connection: Connection) -> StepReply:
            with Session(bind=connection, join_transaction_mode="create_savepoint") as session:
                return work(session, self._store.check_constraints)

        return await batcher.do_alone(within)


@asynccontextmanager
async def opened(database: Path) -> AsyncIterator[Rates]:
    """Gives what measures steps a second: with the inbox or not, how many side by side, for how many seconds."""
    files = {True: database, False: database.with_suffix(".without")}
    for file in files.values():
        async with open_disk(file, grouped=False):
            pass
    numbers = count()
    async with (
        Worker(SERVED, inbox=f"sqlite:///{files[True]}") as remembering,
        _without_inbox(f"sqlite:///{files[False]}") as forgetful,
    ):

        async def rate(with_inbox: bool, clients: int, seconds: float) -> float:  # noqa: FBT001 - see `Rates`
            worker = remembering if with_inbox else forgetful

            async def perform(_: str) -> None:
                key = f"saga-{next(numbers)}:3"
                request = StepRequest(
                    kind="action", step="remote.written", saga_id=key, path="3", idempotency_key=key,
                    arguments=_ARGUMENTS,
                )  # fmt: skip
                reply = await worker.perform(request)
                assert reply.outcome == "succeeded", reply

            return (await closed_loop(perform, concurrency=clients, seconds=seconds, prefix="")).per_second

        yield rate


@asynccontextmanager
async def _without_inbox(url: str) -> AsyncIterator[Worker]:
    """Opens a worker that remembers nothing."""
    worker = Worker(SERVED, inbox=url)
    inbox = worker._inbox  # noqa: SLF001 - nobody else needs a worker that forgets
    inbox.__class__ = _Forgetful
    async with worker:
        yield worker
