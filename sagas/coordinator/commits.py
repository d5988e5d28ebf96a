"""Commits of batches: tried again as long as the store is away, and without what can never be written."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

import anyio
from anyio import CapacityLimiter

from sagas.coordinator.calls import DirectCalls, ThreadCalls
from sagas.coordinator.writes import batch_of, living
from sagas.errors import StoreError, StoreUnavailable
from sagas.stores.port import Committed, StoreRestarted, Superseded

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from sqlmodel import Session

    from sagas.coordinator.calls import Calls
    from sagas.coordinator.clock import Clock
    from sagas.coordinator.writes import Write
    from sagas.stores.port import Batch, Store

__all__ = ["NOTHING", "Commits", "Overtaken"]

logger = logging.getLogger("sagas.journal")

_FIRST_PAUSE, _LONGEST_PAUSE = 0.05, 5.0
NOTHING = Committed(frozenset(), frozenset())


class Overtaken(Exception):  # noqa: N818 - no error, but an order to roll back
    """A saga of a transaction is driven by another coordinator by now."""


class Commits:
    """See the module; one at a time.

    Args:
        store: Where to.
        clock: Tells how long they take.
        restarted: Called when the store may have lost commits; forgets the sagas whose last records are gone.
        calls: How the store is called; in threads by default, if it needs any.

    Attributes:
        stalled: Why nothing can be written at the moment.
        committed: Called after each group commit, with its records and seconds, and why it failed if it did.
    """

    def __init__(
        self, store: Store, clock: Clock, restarted: Callable[[], Awaitable[None]] | None, calls: Calls | None
    ) -> None:
        self._store = store
        self._clock = clock
        self._restarted = restarted
        self._calls: Calls = calls or (DirectCalls() if store.in_memory else ThreadCalls())
        self._thread = CapacityLimiter(1)
        self._doubtful = False
        self.stalled: StoreError | None = None
        self.committed: Callable[[int, float, StoreError | None], None] | None = None

    # --- records ------------------------------------------------------------------------------------------------

    async def persist(self, writes: list[Write], refused: dict[str, StoreError]) -> Committed:
        """Commits records; those of a saga with one that cannot be written are left out, and the saga is noted.

        Args:
            writes: The records; those that turn out to be void are taken out.
            refused: Why, by id of such a saga; is added to.
        """
        try:
            return await self._insist(writes)
        except Exception as error:
            return await self._persist_apart(writes, refused, error)

    async def _persist_apart(self, writes: list[Write], refused: dict[str, StoreError], error: Exception) -> Committed:
        """Commits those of records that can be written, of some that cannot be written together."""
        sagas = list(dict.fromkeys(write.writer.id for write in writes))
        if not sagas:
            raise error
        if len(sagas) == 1:
            refused[sagas[0]] = _refusal(sagas[0], error)
            return NOTHING
        first = set(sagas[: len(sagas) // 2])
        some = [write for write in writes if write.writer.id in first]
        rest = [write for write in writes if write.writer.id not in first]
        one, other = await self.persist(some, refused), await self.persist(rest, refused)
        writes[:] = [*some, *rest]
        return Committed(one.taken | other.taken, one.fenced | other.fenced, (*one.mailed, *other.mailed))

    async def _insist(self, writes: list[Write]) -> Committed:
        """Commits writes, however long it takes; takes those out that turn out to be void meanwhile."""
        pause = _FIRST_PAUSE
        while True:
            began = self._clock.steady()
            try:
                if self._doubtful and self._restarted is not None:
                    await self._restarted()
                    writes[:] = living(writes)
                self._doubtful = False
                done: Committed = await self._calls.call(self._store.commit, batch_of(writes), limiter=self._thread)
            except StoreRestarted:
                self._doubtful = True
            except StoreError as error:  # also for want of a right, which an admin can grant
                self._note_stall(error)
                self._tell_committed(writes, began, error)
                await anyio.sleep(pause)
                pause = min(pause * 2, _LONGEST_PAUSE)
            else:
                self._note_progress()
                self._tell_committed(writes, began)
                return done

    # --- transactions -------------------------------------------------------------------------------------------

    async def transact(self, runs: Sequence[Callable[[Session], None]], finish: Callable[[], Batch]) -> Committed:
        """Runs functions in one transaction, and commits what they wrote with their records.

        Args:
            runs: The functions.
            finish: Called in the event loop when they have returned; gives the records.

        Raises:
            Exception: The store's, or what ``finish`` has raised. Nothing of it happened.
        """
        try:
            done: Committed = await self._calls.call(
                self._store.transact, runs, lambda: self._calls.back(finish), limiter=self._thread
            )
        except Exception as error:
            self.note_failure(error, len(runs))
            raise
        self._note_progress()
        return done

    # --- trouble ------------------------------------------------------------------------------------------------

    def note_failure(self, error: Exception, steps: int) -> None:
        """Tells why a transaction was rolled back."""
        if isinstance(error, StoreUnavailable):
            self._note_stall(error)
        elif not isinstance(error, (Overtaken, Superseded)):
            logger.error("a transaction of %d attempts failed; their sagas are read again", steps, exc_info=error)

    def _note_stall(self, error: StoreError) -> None:
        """Says once that nothing can be written."""
        if self.stalled is None:
            logger.error("sagas are stalled, and go on by themselves when it can be written again: %s", error)
        self.stalled = error

    def _tell_committed(self, writes: Sequence[Write], began: float, error: StoreError | None = None) -> None:
        """Tells whoever wants to know how much was written, or failed to be, and how long that took."""
        if self.committed is not None and writes:
            self.committed(sum(len(write.rows) for write in writes), self._clock.steady() - began, error)

    def _note_progress(self) -> None:
        """Says once that it can be written again."""
        if self.stalled is not None:
            logger.warning("the journal can be written again; sagas go on")
        self.stalled = None


def _refusal(saga_id: str, error: Exception) -> StoreError:
    """Says that a record cannot be written, whenever."""
    refusal = StoreError(f"a record of saga {saga_id} cannot be written: {error}")
    refusal.__cause__ = error
    return refusal
