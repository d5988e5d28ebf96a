"""What a journal's store has to do.

A store is synchronous: a coordinator calls it in worker threads, a simulator directly. ``commit`` and
``transact`` are called by one thread at a time; the reading methods may be called by any.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol, runtime_checkable

from sagas.errors import StoreUnavailable
from sagas.stores.keeping import Keeper
from sagas.stores.rows import (
    WORKER_PREFIX,
    Batch,
    Change,
    Committed,
    Drawn,
    Holding,
    JournalRow,
    Lease,
    LockChange,
    Mail,
    NewSaga,
    Outgoing,
    PayloadContext,
    SagaRow,
)
from sagas.stores.surveying import Surveyor

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping, Sequence

    from sqlmodel import Session

__all__ = [
    "WORKER_PREFIX",
    "Batch",
    "Change",
    "Codec",
    "Committed",
    "Drawn",
    "Holding",
    "JournalRow",
    "Lease",
    "LockChange",
    "Mail",
    "NewSaga",
    "Outgoing",
    "PayloadContext",
    "SagaRow",
    "Store",
    "StoreRestarted",
    "Superseded",
]


class Superseded(Exception):  # noqa: N818 - no error, but news: another coordinator drives the saga
    """The place of a record is taken, or the record before it is gone, and nothing of a transaction was written."""


class StoreRestarted(StoreUnavailable):
    """Nothing was written, since the database may have lost commits; ``Store.lost`` tells which."""


@runtime_checkable
class Codec(Protocol):
    """Turns what is stored into other bytes, and back: encryption, compression."""

    def encode(self, value: bytes, context: PayloadContext) -> bytes:
        """Called with JSON, before it is stored."""
        ...

    def decode(self, value: bytes, context: PayloadContext) -> bytes:
        """Called with what ``encode`` gave."""
        ...


class Store(Keeper, Surveyor, Protocol):
    """Keeps journals.

    Every method raises ``StoreUnavailable`` when it may work later, and ``StoreError`` when it will not. Where many
    machines share a store, their clocks differ; so it may take its own time instead of the ``now`` that it is given.

    Attributes:
        url: For messages; without a password.
        in_memory: Whether its methods neither block nor outlast the process.
        announces: Whether processes can hear of each other's writes, at least under some circumstances.
        parallel: How many transactional steps may run side by side. 0: they share the transactions that write the
            journal.
    """

    url: str
    in_memory: bool
    announces: bool
    parallel: int

    def open(self, *, migrate: bool) -> None:
        """Connects; creates or migrates the tables if asked to, else makes sure that they fit."""
        ...

    def close(self) -> None:
        """Lets go of every connection."""
        ...

    # --- journals -----------------------------------------------------------------------------------------------

    def commit(self, batch: Batch) -> Committed:
        """Makes a batch durable. Appending the very same row twice is the same as once.

        An empty one only makes sure that the store can be written, where that can change unnoticed.

        Raises:
            StoreRestarted: Once for each time that the server may have been restarted, or be another one.
        """
        ...

    def lost(self, last: Sequence[tuple[str, int, bytes]]) -> Collection[str]:
        """Says which of these records, which were durable once, are not there any more, or are others.

        Args:
            last: Sagas with number and digest of a record, each saga once.

        Returns:
            Ids of sagas.
        """
        ...

    def unfinished(self, owner: str, now: float) -> Collection[str]:
        """Lists an owner's sagas that have something to do, or whose time has come."""
        ...

    def transact(self, work: Sequence[Callable[[Session], None]], finish: Callable[[], Batch]) -> Committed:
        """Runs functions on a session, asks what to journal, and commits both together.

        Each function runs in a savepoint of its own; it handles its own exceptions. If anything after ``finish``
        fails, nothing is written and the error is raised. So nothing is ever taken or fenced in what it gives.

        Raises:
            Superseded: The place of a record is taken.
        """
        ...

    def load(self, saga_ids: Sequence[str]) -> Mapping[str, list[JournalRow]]:
        """Reads whole journals, in order."""
        ...

    def get(self, saga_id: str) -> SagaRow | None:
        """Reads one saga."""
        ...

    def find(self, saga_ids: Sequence[str]) -> Mapping[str, SagaRow]:
        """Reads those of some sagas that are there."""
        ...

    def select(self, *, status: str | None, name: str | None, limit: int, before: str | None) -> Sequence[SagaRow]:
        """Reads sagas, newest first, from before the one with the id ``before``."""
        ...

    def open_sagas(self, limit: int, before: str | None) -> Sequence[SagaRow]:
        """Reads sagas that have not ended, newest first, from before the one with the id ``before``."""
        ...

    # --- whose sagas --------------------------------------------------------------------------------------------

    def claim(self, owner: str, now: float, limit: int, code: Collection[str]) -> Sequence[SagaRow]:
        """Finds sagas that need a coordinator now and have none that is alive: active ones, and due timers.

        For some seconds they are found by no other coordinator, so that many share the work. That decides nothing:
        whoever appends to the journal first drives the saga.

        Args:
            owner: The coordinator that asks; its own sagas are left out.
            now: POSIX time.
            limit: At most so many, by rank.
            code: Only these, as ``name@version``.
        """
        ...

    def orphans(self, now: float) -> Sequence[tuple[str, str, int]]:
        """Counts what ``claim`` could find with any code: names, versions, and how many sagas of each."""
        ...

    def next_wake(self) -> float | None:
        """Reads the earliest timer of all sagas that only wait."""
        ...

    def hand_over(self, owner: str, saga_ids: Sequence[str]) -> None:
        """Lets others take over sagas at once whose owner stops driving them."""
        ...

    def renew(self, lease: Lease, now: float) -> float:
        """Takes or extends a lease.

        Returns:
            Until when nobody takes this coordinator for dead, even if it is cut off now; by the clock of ``now``.
        """
        ...

    def release(self, owner: str) -> None:
        """Gives a lease back, so that others take over at once."""
        ...

    def leases(self, now: float) -> Sequence[Lease]:
        """Reads the leases of the coordinators that are alive."""
        ...

    def alive(self, owner: str, now: float) -> bool:
        """Says whether a coordinator holds a lease."""
        ...

    # --- limits that hold across processes ----------------------------------------------------------------------

    def hold_permits(self, name: str, owner: str, now: float, *, slots: int, used: int, want: int) -> Holding:
        """Changes how many permits of a limit a coordinator holds. Doing it twice is the same as once.

        A permit has at most one holder. It is free when its holder gives it back, or has no lease any more.

        Args:
            name: Of the limit.
            owner: The coordinator.
            now: POSIX time.
            slots: How many permits there are, by the coordinator's own code. With several numbers about, as while
                new code is rolled out, the largest holds for all together.
            used: How many of its own it cannot give back now.
            want: How many it would like to have: less than it holds gives some back; more takes what is free, and
                shows others that it waits, so that they give back what is more than their share.
        """
        ...

    def keep_permits(self, owner: str, now: float) -> Mapping[str, int]:
        """Makes sure, after a lease had lapsed and is renewed, of the permits that others did not take meanwhile.

        Returns:
            By name of the limit, how many are still the coordinator's.
        """
        ...

    def draw_tokens(self, name: str, now: float, *, speed: float, burst: float, want: int, ahead: int = 0) -> Drawn:
        """Takes tokens from a limit's bucket, as many as there are up to ``want``. It is full at first.

        Args:
            name: Of the limit.
            now: POSIX time.
            speed: Tokens a second that it gains.
            burst: How many it holds.
            want: How many are needed now.
            ahead: How many more to take, for those who come next, as long as the bucket stays half full.
        """
        ...

    # --- events that go out -------------------------------------------------------------------------------------

    def outgoing(self, limit: int, *, after: int = 0) -> Sequence[tuple[int, Outgoing]]:
        """Reads events that are to be sent, oldest first, each with a number for ``sent``.

        Those of one saga are in the order in which they were emitted.

        Args:
            limit: How many at most.
            after: Only those with higher numbers than this.
        """
        ...

    def sent(self, numbers: Collection[int]) -> None:
        """Forgets events that were sent."""
        ...

    # --- what others want ---------------------------------------------------------------------------------------

    def post(self, saga_id: str, at: float, kind: str, body: bytes) -> int:
        """Writes mail, durably."""
        ...

    def mail(
        self, owner: str, now: float, limit: int, after: int = 0, code: Collection[str] | None = None
    ) -> Sequence[Mail]:
        """Reads mail for sagas of this coordinator, or of none that is alive, oldest first, after an id.

        Args:
            owner: The coordinator.
            now: POSIX time.
            limit: At most so many.
            after: An id.
            code: Only for such sagas, as ``name@version``, except for those that are stuck or not there. ``None``:
                for all.
        """
        ...

    def discard(self, mail_ids: Sequence[int]) -> None:
        """Deletes mail that cannot be delivered."""
        ...

    def changed(self) -> bool:
        """Says whether another process may have written since the last call."""
        ...

    def listen(self, patience: float) -> Sequence[str] | None:
        """Waits for what other processes announce.

        To be called by one thread at a time, again and again.

        Args:
            patience: Seconds to wait at most.

        Returns:
            What was announced; ``None`` at once while nobody can be heard, so that only polling is left.
        """
        ...

    def announce(self, messages: Sequence[str]) -> None:
        """Tells every process that listens, if that can be done; nothing may depend on it.

        Messages are ``work`` (sagas wait for a coordinator), ``mail:OWNER``, ``watch:SAGA`` (somebody waits for
        its end), ``done:SAGA`` (it ended or is stuck), ``who`` (a coordinator wants to hear every watch again) and
        ``limit:NAME`` (permits were given back).
        """
        ...
