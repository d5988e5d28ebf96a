"""What the barrier costs: steps a second in one worker, with its inbox and without, with the same durable write each.

Both write one row, and put what comes at the same time into one transaction. A transactional step does so in a session:
with the inbox, what is remembered is in the same transaction. A plain one writes to a database of its own: with the
inbox, that it has begun is durable before, and how it went after that.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING

from sqlalchemy import Connection
from sqlmodel import Session

from benchmarks.remote.answered import answer_written
from benchmarks.remote.disk import Write, open_disk
from benchmarks.remote.model import STEPS
from benchmarks.workload import Done, Order, closed_loop
from sagas import current_step, step
from sagas.transport import StepRequest
from sagas.worker import Worker
from sagas.worker.barrier import Admission
from sagas.worker.batching import Batcher
from sagas.worker.sql_inbox import SqlInbox

if TYPE_CHECKING:
    from sagas.core.definitions import Step
    from sagas.transport import StepReply
    from sagas.worker.barrier import Entry
    from sagas.worker.inbox import Settle, Work

__all__ = ["opened"]

_ARGUMENTS = b'{"order":{"sku":"sku-1234","quantity":2,"amount_cents":4999,"accepted":true},"number":0}'
Rates = Callable[..., Awaitable[float]]


class _Forgetful(SqlInbox):
    """Performs what comes, and remembers nothing."""

    async def enter(self, request: StepRequest) -> Admission:  # noqa: ARG002 - of the protocol
        """Admits everything."""
        return Admission()

    async def leave(self, entry: Entry) -> bool:  # noqa: ARG002 - of the protocol
        """Remembers nothing."""
        return True

    async def transact(self, request: StepRequest, work: Work, settle: Settle) -> StepReply:  # noqa: ARG002 - of the protocol
        """Calls the step in a transaction, together with others."""
        batcher: Batcher = self._batcher

        def within(connection: Connection) -> StepReply:
            with Session(bind=connection, join_transaction_mode="create_savepoint") as session:
                return work(session, self._store.check_constraints)

        return await batcher.do_alone(within)


def _noted(write: Write) -> Step[..., Done]:
    """Makes the plain step, which writes as one would without this library."""

    @step(name="remote.noted")
    async def note(order: Order, number: int) -> Done:
        await write(current_step().idempotency_key, f"{order.sku}-{number}")
        return Done(f"{order.sku}-{number}")

    return note


@asynccontextmanager
async def opened(database: Path) -> AsyncIterator[Rates]:
    """Gives what measures steps a second: which, with the inbox or not, how many side by side, for how long."""
    files = {True: database, False: database.with_suffix(".without")}
    for file in files.values():
        async with open_disk(file, grouped=False):
            pass
    numbers = count()
    async with (
        open_disk(database.with_suffix(".noted"), grouped=True) as write,
        Worker([answer_written, _noted(write)], inbox=f"sqlite:///{files[True]}") as remembering,
        _without_inbox(f"sqlite:///{files[False]}", _noted(write)) as forgetful,
    ):

        async def rate(*, step: str, with_inbox: bool, clients: int, seconds: float) -> float:
            worker = remembering if with_inbox else forgetful

            async def perform(_: str) -> None:
                key = f"saga-{next(numbers)}:3"
                request = StepRequest(
                    kind="action", step=STEPS[step], saga_id=key, path="3", idempotency_key=key,
                    arguments=_ARGUMENTS,
                )  # fmt: skip
                reply = await worker.perform(request)
                assert reply.outcome == "succeeded", reply

            return (await closed_loop(perform, concurrency=clients, seconds=seconds, prefix="")).per_second

        yield rate


@asynccontextmanager
async def _without_inbox(url: str, noted: Step[..., Done]) -> AsyncIterator[Worker]:
    """Opens a worker that remembers nothing."""
    worker = Worker([answer_written, noted], inbox=url)
    inbox = worker._inbox  # noqa: SLF001 - nobody else needs a worker that forgets
    inbox.__class__ = _Forgetful
    async with worker:
        yield worker
