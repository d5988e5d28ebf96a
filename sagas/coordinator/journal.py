"""Group commit: the records of all running sagas become durable together, in the order in which they came.

This is the only place that writes journals. What a record leads to is handed out by ``on_durable``, after the
commit; while the database cannot be written, the same batch is tried again and everything behind it waits.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Protocol

import anyio
import anyio.lowlevel
from anyio import CapacityLimiter, from_thread, to_thread

from sagas.errors import StoreUnavailable
from sagas.stores.port import Batch

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from sqlmodel import Session

    from sagas.coordinator.clock import Clock
    from sagas.core.commands import Command
    from sagas.stores.port import Change, Committed, JournalRow, NewSaga, Store

__all__ = ["Journal", "Transaction", "Unattended", "Write"]

logger = logging.getLogger("sagas.journal")

_FIRST_PAUSE, _LONGEST_PAUSE = 0.05, 5.0


class Writer(Protocol):
    """Whose records are written."""

    @property
    def id(self) -> str:
        """Of the saga."""
        ...

    @property
    def discarded(self) -> bool:
        """Whether it is no longer driven here."""
        ...

    @property
    def void(self) -> bool:
        """Whether its queued records must not be written."""
        ...

    def durable(self, write: Write) -> None:
        """Called after the commit."""
        ...

    def lost(self, write: Write, *, taken: bool) -> None:
        """Called instead, when the saga belongs to somebody else, or (``taken``) its id does."""
        ...


class Write:
    """One record on its way to the disk.

    Attributes:
        writer: Whose.
        rows: The record (or none, for a change alone).
        dispatch: What is to be carried out once it is durable.
        taken: Afterwards, whether its saga's id was somebody else's.
        fenced: Afterwards, whether its saga was somebody else's by then.
    """

    __slots__ = ("change", "dispatch", "done", "fenced", "new", "read", "rows", "taken", "writer")

    def __init__(
        self,
        writer: Writer,
        rows: tuple[JournalRow, ...],
        *,
        change: Change | None = None,
        new: NewSaga | None = None,
        read: tuple[int, ...] = (),
        dispatch: Sequence[Command] = (),
    ) -> None:
        self.writer = writer
        self.rows = rows
        self.change = change
        self.new = new
        self.read = read
        self.dispatch = dispatch
        self.done: anyio.Event | None = None
        self.taken = False
        self.fenced = False

    async def durable(self) -> bool:
        """Waits until it is on disk, and says so; or until it is lost. To be called before it can be either."""
        self.done = self.done or anyio.Event()
        await self.done.wait()
        return not (self.taken or self.fenced)


class Unattended:
    """Stands for a saga of which nobody here drives anything.

    Args:
        saga_id: Its id.
        durable: Called after the commit.
        ended: Called when it is known what became of the write, after ``durable``.
    """

    __slots__ = ("_durable", "_ended", "discarded", "id", "void")

    def __init__(
        self, saga_id: str, durable: Callable[[], None] = lambda: None, ended: Callable[[], None] = lambda: None
    ) -> None:
        self.id = saga_id
        self._durable = durable
        self._ended = ended
        self.discarded = self.void = False

    def durable(self, write: Write) -> None:
        """See ``Writer``."""
        self._durable()
        self._end(write)

    def lost(self, write: Write, *, taken: bool) -> None:
        """See ``Writer``: leaves it to whoever was faster."""
        write.taken, write.fenced = taken, not taken
        self._end(write)

    def _end(self, write: Write) -> None:
        """Lets whoever waits go on."""
        self._ended()
        if write.done is not None:
            write.done.set()


class Transaction(Protocol):
    """A transactional step that waits for its turn."""

    @property
    def writer(self) -> Writer:
        """Whose step it is."""
        ...

    def run(self, session: Session) -> None:
        """Runs the step's function; called in the writer thread. Keeps its exception to itself."""
        ...

    def abandoned(self) -> None:
        """Called instead of the others, when its saga is no longer driven here."""
        ...

    def feed(self) -> None:
        """Tells the saga how it went; called in the event loop, before the commit."""
        ...

    def failed(self, error: Exception) -> None:
        """Called when the commit failed, so that nothing of it happened."""
        ...


class Journal:
    """Writes records in groups.

    Args:
        store: Where to.
        clock: For pauses while the store cannot be written.
    """

    def __init__(self, store: Store, clock: Clock) -> None:
        self._store = store
        self._clock = clock
        self._pending: list[Write] = []
        self._transactions: list[Transaction] = []
        self._wake: anyio.Event | None = None
        self._idle: anyio.Event | None = None
        self._thread = CapacityLimiter(1)
        self._taken_out: list[Write] = []
        self._writing: list[Write] = []
        self.stalled: StoreUnavailable | None = None
        self.has_sessions = not store.in_memory

    def append(self, write: Write) -> None:
        """Queues a record; ``writer.durable`` follows when it is on disk."""
        self._pending.append(write)
        if self._wake is not None:
            self._wake.set()

    def transact(self, transaction: Transaction) -> None:
        """Queues a transactional step."""
        self._transactions.append(transaction)
        if self._wake is not None:
            self._wake.set()

    async def flushed(self) -> None:
        """Waits until nothing is queued or being written."""
        while self._pending or self._transactions or self._wake is None:
            self._idle = anyio.Event()
            await self._idle.wait()

    async def run(self) -> None:
        """Writes, for ever."""
        while True:
            if self._pending:
                await self._commit(self._take())
            if self._transactions:  # in turn with the others: there may always be something pending
                transactions, self._transactions = self._transactions, []
                await self._transact(transactions)
            elif not self._pending:
                self._wake = anyio.Event()
                if self._idle is not None:
                    self._idle.set()
                await self._wake.wait()
                self._wake = None

    def abandon(self) -> None:
        """Gives up what is queued, once nobody writes any more; whoever waits for it hears so."""
        writes, self._pending, self._writing = [*self._writing, *self._pending], [], []
        for write in writes:
            write.writer.lost(write, taken=False)

    def _take(self) -> list[Write]:
        """Takes what is queued, but for sagas that are no longer driven here."""
        writes, self._pending = self._pending, []
        for write in writes:
            if write.writer.void:
                write.writer.lost(write, taken=False)
        return [write for write in writes if not write.writer.void]

    async def _commit(self, writes: list[Write]) -> None:
        """Commits a batch, however long it takes, and hands out what it leads to."""
        if not writes:
            return
        self._writing = writes
        done = await self._persist(_batch(writes))
        self._writing = []
        for write in writes:
            saga_id = write.writer.id
            if saga_id in done.taken or saga_id in done.fenced:
                write.writer.lost(write, taken=saga_id in done.taken)
            else:
                write.writer.durable(write)

    async def _persist(self, batch: Batch) -> Committed:
        """Commits a batch, however long it takes."""
        pause = _FIRST_PAUSE
        while True:
            try:
                done = await self._call(batch)
            except StoreUnavailable as error:
                self._note_stall(error)
                await anyio.sleep(pause)
                pause = min(pause * 2, _LONGEST_PAUSE)
            else:
                self._note_progress()
                return done

    async def _call(self, batch: Batch) -> Committed:
        """Commits in the writer thread; a store without I/O needs none."""
        if not self._store.in_memory:
            with anyio.CancelScope(shield=True):
                return await to_thread.run_sync(self._store.commit, batch, limiter=self._thread)
        await anyio.lowlevel.checkpoint()
        return self._store.commit(batch)

    async def _transact(self, transactions: list[Transaction]) -> None:
        """Runs transactional steps and commits their writes with their records.

        If the commit fails, the bodies have already run on from records that never became durable. So those sagas
        are dropped and come back from what is durable, and only the records of others are written again.
        """
        live = [x for x in transactions if not x.writer.discarded]
        for transaction in transactions:
            if transaction.writer.discarded:
                transaction.abandoned()
        functions = [x.run for x in live]
        self._taken_out = []
        try:
            if self._store.in_memory:
                self._store.transact(functions, lambda: self._finish(live))
            else:
                with anyio.CancelScope(shield=True):
                    await to_thread.run_sync(
                        self._store.transact, functions, lambda: from_thread.run_sync(self._finish, live),
                        limiter=self._thread,
                    )  # fmt: skip
        except Exception as error:
            if isinstance(error, StoreUnavailable):
                self._note_stall(error)
            else:
                logger.exception("a transaction of %d steps failed; their sagas are read again", len(live))
            for transaction in live:
                transaction.failed(error)
            self._pending = self._taken_out + self._pending
            await anyio.sleep(_FIRST_PAUSE)
            return
        self._note_progress()
        for write in self._taken_out:
            write.writer.durable(write)

    def _finish(self, transactions: list[Transaction]) -> Batch:
        """Feeds the outcomes to the sagas, and takes every record that is queued by then."""
        for transaction in transactions:
            if transaction.writer.discarded:
                transaction.abandoned()
            else:
                transaction.feed()
        self._taken_out = self._take()
        return _batch(self._taken_out)

    def _note_stall(self, error: StoreUnavailable) -> None:
        """Says once that nothing can be written."""
        if self.stalled is None:
            logger.error("sagas are stalled, and go on by themselves when it can be written again: %s", error)
        self.stalled = error

    def _note_progress(self) -> None:
        """Says once that it can be written again."""
        if self.stalled is not None:
            logger.warning("the journal can be written again; sagas go on")
        self.stalled = None


def _batch(writes: Sequence[Write]) -> Batch:
    """Puts records together."""
    batch = Batch()
    rows, changes = batch.rows, batch.changes
    for write in writes:
        rows.extend(write.rows)
        if write.change is not None:
            changes[write.change.id] = write.change
        if write.new is not None:
            batch.new.append(write.new)
        if write.read:
            batch.read.extend(write.read)
    return batch
