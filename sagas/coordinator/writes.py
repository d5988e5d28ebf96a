"""What is on its way to the journal, and whose it is."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Protocol

from sagas.coordinator.bells import Gong
from sagas.errors import StoreError
from sagas.stores.port import Batch

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from sqlmodel import Session

    from sagas.core.commands import Command
    from sagas.core.events import Event
    from sagas.stores.port import Change, JournalRow, LockChange, NewSaga, Outgoing
    from sagas.telemetry import Held

__all__ = ["Transaction", "Unattended", "Write", "Writer", "batch_of", "living", "undiscarded"]

logger = logging.getLogger("sagas.journal")


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

    def refused(self, write: Write, error: StoreError) -> None:
        """Called instead, when this record, or another one of the same saga, can never be written."""
        ...


class Write:
    """One record on its way to the disk.

    Attributes:
        writer: Whose.
        rows: The record (or none, for a change alone).
        dispatch: What is to be carried out once it is durable.
        locks: Locks that it asks for or gives up.
        outgoing: Events that it emits.
        event: What it tells, if that is to be measured.
        begins: Whether it begins a saga that was submitted.
        held: Spans of what it tells.
        taken: Afterwards, whether its saga's id was somebody else's.
        fenced: Afterwards, whether its saga was somebody else's by then.
        error: Afterwards, why it could not be written.
    """

    __slots__ = (
        "begins", "change", "dispatch", "done", "error", "event", "fenced", "held", "locks", "new", "outgoing", "read",
        "rows", "taken", "writer",
    )  # fmt: skip

    def __init__(
        self,
        writer: Writer,
        rows: tuple[JournalRow, ...],
        *,
        change: Change | None = None,
        new: NewSaga | None = None,
        read: tuple[int, ...] = (),
        dispatch: Sequence[Command] = (),
        locks: Sequence[LockChange] = (),
        outgoing: Sequence[Outgoing] = (),
        held: Sequence[Held] = (),
    ) -> None:
        self.writer = writer
        self.rows = rows
        self.change = change
        self.new = new
        self.read = read
        self.dispatch = dispatch
        self.locks = locks
        self.outgoing = outgoing
        self.event: Event | None = None
        self.begins = False
        self.held = held
        self.done: Gong | None = None
        self.taken = False
        self.fenced = False
        self.error: StoreError | None = None

    def show_spans(self) -> None:
        """Shows what it tells, now that it is on disk."""
        for span in self.held:
            span.show()

    def give_up_spans(self) -> None:
        """Lets go of what it would have told."""
        for span in self.held:
            span.give_up()

    async def durable(self) -> bool:
        """Waits until it is on disk, and says so; or until it is lost. To be called before it can be either.

        Raises:
            StoreError: It can never be written.
        """
        self.done = self.done or Gong()
        await self.done.wait()
        if self.error is not None:
            raise StoreError(str(self.error)) from self.error  # several may wait for it
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

    def refused(self, write: Write, error: StoreError) -> None:
        """See ``Writer``."""
        logger.error("%s", error, exc_info=error)
        write.error = error
        self._end(write)

    def _end(self, write: Write) -> None:
        """Lets whoever waits go on."""
        self._ended()
        if write.done is not None:
            write.done.set()


class Transaction(Protocol):
    """An attempt of a transactional step or compensator that waits for its turn.

    Attributes:
        holds: Whether it holds back the other records of its saga.
    """

    holds: bool

    @property
    def writer(self) -> Writer:
        """Whose step it is."""
        ...

    def run(self, session: Session) -> None:
        """Runs the function; called in the writer thread. Keeps its exception to itself."""
        ...

    def abandoned(self) -> None:
        """Called instead of the others, when its saga is no longer driven here."""
        ...

    def feed(self) -> None:
        """Tells the saga how it went; called in the event loop, before the commit."""
        ...

    def failed(self, error: Exception, *, alone: bool) -> None:
        """Called when the commit failed, so that nothing of it happened; ``alone``: by this step and no other."""
        ...


def undiscarded(transactions: Sequence[Transaction]) -> list[Transaction]:
    """Picks the transactions of sagas that are driven here, and lets go of the others."""
    for transaction in transactions:
        if transaction.writer.discarded:
            transaction.abandoned()
    return [x for x in transactions if not x.writer.discarded]


def living(writes: Sequence[Write]) -> list[Write]:
    """Picks the records of sagas that are still driven here, and lets go of the others."""
    void = [write for write in writes if write.writer.void]
    if not void:
        return [*writes]
    for write in void:
        write.writer.lost(write, taken=False)
    return [write for write in writes if not write.writer.void]


def batch_of(writes: Sequence[Write]) -> Batch:
    """Puts records together."""
    batch = Batch([], [], {}, [], [], [])  # its own generic aliases make these four times as slowly
    rows, changes = batch.rows, batch.changes
    for write in writes:
        rows.extend(write.rows)
        if write.change is not None:
            changes[write.change.id] = write.change
        if write.new is not None:
            batch.new.append(write.new)
        if write.read:
            batch.read.extend(write.read)
        if write.locks:
            batch.locks.extend(write.locks)
        if write.outgoing:
            batch.outgoing.extend(write.outgoing)
    return batch
