"""Group commit: the records of all running sagas become durable together, in the order in which they came.

This is the only place that writes journals. What a record leads to is handed out by ``on_durable``, after the
commit; while the database cannot be written, the same batch is tried again and everything behind it waits.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import anyio
from anyio import CapacityLimiter, from_thread, to_thread

from sagas.coordinator.bells import bells
from sagas.coordinator.commits import NOTHING, Commits, Overtaken
from sagas.coordinator.writes import batch_of, living, undiscarded

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from anyio.abc import TaskGroup

    from sagas.coordinator.bells import Bell
    from sagas.coordinator.calls import Calls
    from sagas.coordinator.clock import Clock
    from sagas.coordinator.writes import Transaction, Write
    from sagas.errors import StoreError
    from sagas.stores.port import Batch, Committed, Mail, Store

__all__ = ["Journal"]

# Seconds before anything is done about a transaction that failed.
_PAUSE = 0.05
# What a database takes at once is limited, to a gigabyte for PostgreSQL, and a smaller batch costs next to nothing.
_MOST_BYTES = 64 << 20
# How long a store that others share may go unwritten, in seconds, before it is looked after: it may have lost commits.
_PULSE = 2.0


class Journal:
    """Writes records in groups.

    Args:
        store: Where to.
        clock: For pauses while the store cannot be written.
        answered: Called with the mail that a commit has made.
        restarted: Called when the store may have lost commits; forgets the sagas whose last records are gone.
        calls: How the store is called; in threads by default, if it needs any.

    Attributes:
        commits: What gets the records to disk.
        has_sessions: Whether transactional steps and compensators can run.
    """

    def __init__(
        self,
        store: Store,
        clock: Clock,
        answered: Callable[[Sequence[Mail]], None] = lambda _: None,
        restarted: Callable[[], Awaitable[None]] | None = None,
        *,
        calls: Calls | None = None,
    ) -> None:
        self._store = store
        self._answered = answered
        self._may_lose = restarted is not None
        self._pending: list[Write] = []
        self._transactions: list[Transaction] = []
        self._beside = 0
        self._held: set[str] = set()
        self._wake: Bell | None = None
        self._bell: Callable[[], Bell] = anyio.Event
        self._idle: anyio.Event | None = None
        self._written = anyio.Event()
        self._seats = CapacityLimiter(max(1, store.parallel))
        self._taken_out: list[Write] = []
        self._writing: list[Write] = []
        self._group: TaskGroup | None = None
        self._stopped = False
        self.commits = Commits(store, clock, restarted, calls)
        self.has_sessions = not store.in_memory

    def append(self, write: Write) -> None:
        """Queues a record; ``writer.durable`` follows when it is on disk."""
        self._pending.append(write)
        if self._wake is not None:
            self._wake.set()

    def transact(self, transaction: Transaction) -> None:
        """Queues an attempt of a transactional step or compensator."""
        if self._store.parallel and self._group is not None:
            self._beside += 1
            self._group.start_soon(self._transact_beside, transaction)
            return
        self._transactions.append(transaction)
        if self._wake is not None:
            self._wake.set()

    @property
    def busy(self) -> bool:
        """Whether anything is queued or being written."""
        return bool(self._pending or self._transactions or self._beside) or self._wake is None

    async def flushed(self) -> None:
        """Waits until nothing is queued or being written."""
        while self.busy:
            self._idle = anyio.Event()
            await self._idle.wait()

    async def run(self) -> None:
        """Writes, for ever."""
        self._bell = bells()
        async with anyio.create_task_group() as self._group:
            try:
                while True:
                    await self._write_once()
            finally:
                self._stopped = True
                self._tell_written()

    async def _write_once(self) -> None:
        """Writes what there is, or waits for something to write."""
        writes = self._take_some()
        if writes:
            await self._commit(writes)
        if self._transactions:  # in turn with the others: there may always be something pending
            transactions, self._transactions = self._transactions, []
            await self._transact(transactions)
        elif not self._ready():
            await self._rest()

    def _ready(self) -> bool:
        """Says whether anything can be written now."""
        return bool(self._pending) and (not self._held or any(w.writer.id not in self._held for w in self._pending))

    async def _rest(self) -> None:
        """Waits for something to write."""
        self._wake = self._bell()
        if self._idle is not None:
            self._idle.set()
        if not (self._may_lose and self._store.announces):
            await self._wake.wait()
        else:
            with anyio.move_on_after(_PULSE):
                await self._wake.wait()
        resting, self._wake = not self._wake.is_set(), None
        if resting:
            await self._commit([])

    def abandon(self) -> None:
        """Gives up what is queued, once nobody writes any more; whoever waits for it hears so."""
        writes, self._pending, self._writing = [*self._writing, *self._pending], [], []
        for write in writes:
            write.writer.lost(write, taken=False)

    def _take(self) -> list[Write]:
        """Takes what is queued, but for sagas that are no longer driven here, or wait for a transaction's turn."""
        if not self._pending:
            return []
        writes, self._pending = self._pending, []
        if self._held:
            self._pending = [write for write in writes if write.writer.id in self._held]
            writes = [write for write in writes if write.writer.id not in self._held]
        return living(writes)

    def _take_some(self) -> list[Write]:
        """Takes as much of it as fits into a batch; the rest comes next."""
        writes = self._take()
        if len(writes) <= 1:
            return writes
        fit = _how_many_fit(writes)
        self._pending += writes[fit:]  # behind the records of other sagas only
        return writes[:fit]

    async def _commit(self, writes: list[Write]) -> None:
        """Commits a batch, however long it takes, and hands out what it leads to."""
        self._writing = writes
        refused: dict[str, StoreError] = {}
        done = await self.commits.persist(writes, refused)
        self._writing = []
        if self._held:
            self._tell_written()
        for write in writes:
            saga_id = write.writer.id
            if saga_id in refused:
                write.writer.refused(write, refused[saga_id])
            elif saga_id in done.taken or saga_id in done.fenced:
                write.writer.lost(write, taken=saga_id in done.taken)
            else:
                write.writer.durable(write)
        if done.mailed:
            self._answered(done.mailed)

    # --- transactional steps and compensators -------------------------------------------------------------------

    async def _transact(self, transactions: list[Transaction]) -> None:
        """Runs transactional steps and commits their writes with their records, in the journal's own turn.

        If the commit fails, the bodies have already run on from records that never became durable. So those sagas
        are dropped and come back from what is durable, and only the records of others are written again.
        """
        live = undiscarded(transactions)
        self._taken_out = []
        try:
            done = await self.commits.transact([x.run for x in live], partial(self._finish, live))
        except Exception as error:
            for transaction in live:
                transaction.failed(error, alone=len(live) == 1 and not isinstance(error, Overtaken))
            self._pending = self._taken_out + self._pending
            await anyio.sleep(_PAUSE)
            return
        for write in self._taken_out:
            write.writer.durable(write)
        if done.mailed:
            self._answered(done.mailed)

    def _finish(self, transactions: list[Transaction]) -> Batch:
        """Feeds the outcomes to the sagas, and takes every record that is queued by then.

        Raises:
            Overtaken: A saga is no longer driven here, so what its step wrote must not be committed.
        """
        if len(undiscarded(transactions)) < len(transactions):
            raise Overtaken
        for transaction in transactions:
            transaction.feed()
        self._taken_out = self._take()
        return batch_of(self._taken_out)

    async def _transact_beside(self, transaction: Transaction) -> None:
        """Runs a transactional step in a transaction of its own, beside the journal's.

        However long it takes, and however it fails, only its own saga waits. That saga's records keep their order:
        when the function has returned, they are held back until the transaction is over.
        """
        taken: list[Write] = []
        async with self._seats:
            try:
                done = await self._run_beside(transaction, taken) if undiscarded([transaction]) else NOTHING
            except Exception as error:
                self.commits.note_failure(error, 1)
                await anyio.sleep(_PAUSE)
                transaction.failed(error, alone=not isinstance(error, Overtaken))
                self._pending = taken + self._pending
            else:
                for write in taken:
                    write.writer.durable(write)
                if done.mailed:
                    self._answered(done.mailed)
            finally:
                self._let_go(transaction)

    async def _run_beside(self, transaction: Transaction, taken: list[Write]) -> Committed:
        """Runs a transaction to its end, in a thread."""
        done = NOTHING
        with anyio.CancelScope(shield=True):
            done = await to_thread.run_sync(
                self._store.transact, [transaction.run],
                lambda: from_thread.run(self._finish_beside, transaction, taken),
                limiter=CapacityLimiter(1),
            )  # fmt: skip
        return done  # noqa: RET504 - for type checkers, the scope may swallow an exception

    async def _finish_beside(self, transaction: Transaction, taken: list[Write]) -> Batch:
        """Feeds the outcome to its saga, and takes the records of this saga that are queued by then.

        Raises:
            Overtaken: The saga is no longer driven here, so what its step wrote must not be committed.
        """
        saga_id = transaction.writer.id
        while saga_id in self._held:  # by another step of the same saga, whose record comes first
            await self._next_written()
        self._held.add(saga_id)
        transaction.holds = True
        while any(write.writer.id == saga_id for write in self._writing):
            await self._next_written()
        if self._stopped or not undiscarded([transaction]):
            raise Overtaken
        transaction.feed()
        taken.extend(write for write in self._pending if write.writer.id == saga_id)
        self._pending = [write for write in self._pending if write.writer.id != saga_id]
        return batch_of(living(taken))

    def _let_go(self, transaction: Transaction) -> None:
        """Lets the records of a saga be written again as all others."""
        if transaction.holds:
            transaction.holds = False
            self._held.discard(transaction.writer.id)
        self._beside -= 1
        self._tell_written()
        if self._wake is not None:
            self._wake.set()

    async def _next_written(self) -> None:
        """Waits until another batch or transaction is over.

        Raises:
            Overtaken: None will be any more.
        """
        if self._stopped:
            raise Overtaken
        await self._written.wait()

    def _tell_written(self) -> None:
        """Lets go on whoever waits for that."""
        written, self._written = self._written, anyio.Event()
        written.set()


def _how_many_fit(writes: Sequence[Write]) -> int:
    """Counts the first records that are not too large together; one, if that is too large by itself."""
    size = 0
    for number, write in enumerate(writes):
        for row in write.rows:
            size += len(row.data)
        if size > _MOST_BYTES and number:
            return number
    return len(writes)
