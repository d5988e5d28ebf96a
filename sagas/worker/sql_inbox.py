"""The inbox in the participant's own database, so that it commits with what the steps write."""

from __future__ import annotations

import logging
import socket
from functools import partial
from typing import TYPE_CHECKING, cast

import anyio
from anyio import to_thread
from sqlmodel import Session

from sagas.errors import KeyReused, StoreError, StoreUnavailable
from sagas.stores.outage import is_row_busy
from sagas.stores.port import WORKER_PREFIX, Lease
from sagas.stores.postgres import PostgresStore
from sagas.transport.port import StepReply
from sagas.worker.barrier import Admission, Entry, admit
from sagas.worker.batching import Batcher
from sagas.worker.rows import PostgresRows, SqliteRows, about, memory_of, row_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sqlalchemy import Connection

    from sagas.coordinator.clock import Clock
    from sagas.stores.sql import SqlStore
    from sagas.transport.port import StepRequest
    from sagas.worker.barrier import Memory
    from sagas.worker.inbox import Settle, Work

__all__ = ["SqlInbox"]

logger = logging.getLogger("sagas.worker")

# Seconds between two signs of life where others can hear at once that a process has died, and take it for dead when
# it is silent; see `PostgresStore.renew`.
_HEARTBEAT = 1.0


class _Session(Session):
    """A step's session, which knows whether something was committed to the transaction around it.

    Attributes:
        committed: Whether it was. No rollback of the session takes that back.
    """

    committed = False

    def commit(self) -> None:
        """See ``Session.commit``."""
        self.committed = True
        super().commit()


class _TakeBack(Exception):  # noqa: N818 - an order
    """A function that did not succeed has committed its session itself."""

    def __init__(self, reply: StepReply) -> None:
        super().__init__(reply)
        self.reply = reply


class SqlInbox:
    """See ``Inbox``.

    Args:
        store: The participant's database; opened and closed with the inbox.
        clock: Time and chance.
        name: What the process is called for people.
        lease: Seconds after which others go on with what a process that fell silent was at work on.
        migrate: Whether to create or update the tables.
    """

    has_sessions = True

    def __init__(
        self, store: SqlStore, clock: Clock, *, name: str | None = None, lease: float = 30.0, migrate: bool = True
    ) -> None:
        self._store = store
        self._clock = clock
        self._name = name or socket.gethostname()
        self._lease = lease
        self._migrate = migrate
        self._rows = PostgresRows() if isinstance(store, PostgresStore) else SqliteRows()
        self._owner = ""
        self._batcher = Batcher(store)
        self._until = float("-inf")

    # --- as long as it is open ----------------------------------------------------------------------------------

    async def open(self) -> None:
        """See ``Inbox.open``."""
        # Not before: a process may be forked between making a worker and entering it, and each is somebody else then.
        self._owner = f"{WORKER_PREFIX}{self._clock.token(6)}"
        self._batcher = Batcher(self._store)
        await to_thread.run_sync(partial(self._store.open, migrate=self._migrate))
        try:
            await self._renew()
        except BaseException:
            await self.close()
            raise

    async def run(self) -> None:
        """See ``Inbox.run``."""
        pause = min(self._lease / 3, _HEARTBEAT if self._store.announces else self._lease)
        async with anyio.create_task_group() as group:
            group.start_soon(self._batcher.run)
            while True:
                await self._clock.sleep(pause)
                try:
                    await self._renew()
                except StoreError as error:
                    logger.warning("this worker's lease could not be renewed: %s", error)

    async def _renew(self) -> None:
        """Shows others that this process is alive."""
        steady, now = self._clock.steady(), self._clock.now()
        lease = Lease(self._owner, f"worker {self._name}", now + self._lease)
        until = await to_thread.run_sync(self._store.renew, lease, now)
        self._until = steady + (until - now)

    async def close(self) -> None:
        """See ``Inbox.close``."""
        with anyio.CancelScope(shield=True):
            try:
                await to_thread.run_sync(self._store.release, self._owner)
            except StoreError as error:
                logger.warning("this worker's lease could not be given back: %s", error)
            await to_thread.run_sync(self._store.close)

    @property
    def lapsed(self) -> bool:
        """See ``Inbox.lapsed``."""
        return self._clock.steady() >= self._until

    def is_alive(self, owner: str) -> bool:
        """See ``Inbox.is_alive``."""
        return owner != self._owner and self._store.alive(owner, self._clock.now())

    # --- requests -----------------------------------------------------------------------------------------------

    async def enter(self, request: StepRequest) -> Admission:
        """See ``Inbox.enter``."""
        try:
            return await self._batcher.do_together(self._enter_all, request)
        except StoreUnavailable as error:
            if is_row_busy(error.__cause__ or error):  # somebody else's transaction has yet to commit
                return Admission(reply=StepReply.running())
            raise

    def _enter_all(self, requests: Sequence[StepRequest], connection: Connection, /) -> Sequence[Admission | KeyReused]:
        """Admits requests within a transaction. Most are actions that are new."""
        fresh: dict[str, Admission] = {}
        for request in requests:
            if request.kind == "action":
                fresh.setdefault(request.idempotency_key, self._fresh(request))
        now = self._clock.now()
        rows = [row_of(entry, now) for admission in fresh.values() for entry in admission.entries]
        new = self._rows.insert(connection, rows) if rows else set[tuple[str, str]]()
        found: dict[int, Admission | KeyReused] = {}
        # In one order, so that two transactions wait for each other in one direction only.
        for number in sorted(range(len(requests)), key=lambda number: requests[number].action_key):
            request = requests[number]
            place = (request.action_key, request.kind)
            if place in new:
                new.remove(place)  # there is one that is the first
                found[number] = self._fresh(request)
            else:
                found[number] = self._enter_known(request, connection)
        return [found[number] for number in range(len(requests))]

    def _fresh(self, request: StepRequest) -> Admission:
        """Says what is done with an action that nothing is known about."""
        return admit(request, {}, owner=self._owner, alive=self.is_alive)

    def _enter_known(self, request: StepRequest, connection: Connection) -> Admission | KeyReused:
        """Admits a request that something may be known about."""
        while True:
            memory = self._rows.read(connection, request.action_key)
            try:
                admission = admit(request, memory, owner=self._owner, alive=self.is_alive)
            except KeyReused as error:
                return error
            # A row that somebody else inserts meanwhile is waited for, and then it is there to be read.
            if all(self._write(connection, entry, memory) for entry in admission.entries):
                return admission

    def _write(self, connection: Connection, entry: Entry, memory: Memory) -> bool:
        """Writes an entry; says whether it could be."""
        row = row_of(entry, self._clock.now())
        if entry.kind in memory:
            self._rows.write(connection, row)
            return True
        return bool(self._rows.insert(connection, [row]))

    async def leave(self, entry: Entry) -> bool:
        """See ``Inbox.leave``."""
        return await self._batcher.do_together(self._leave_all, entry)

    def _leave_all(self, entries: Sequence[Entry], connection: Connection, /) -> Sequence[bool]:
        """Remembers how requests ended within a transaction."""
        now = self._clock.now()
        if self._rows.settle(connection, [row_of(entry, now) for entry in entries], self._owner) == len(entries):
            return [True] * len(entries)
        # Not all are this process's any more; or else an earlier commit went through, and nobody heard of it.
        return [self._rows.read(connection, entry.about).get(entry.kind) == entry for entry in entries]

    async def recall(self, request: StepRequest) -> Memory:
        """See ``Inbox.recall``."""
        return memory_of(await to_thread.run_sync(self._store.query, about(request.action_key)))

    async def transact(self, request: StepRequest, work: Work, settle: Settle) -> StepReply:
        """See ``Inbox.transact``."""
        try:
            return cast("StepReply", await self._batcher.do_alone(partial(self._transact, request, work, settle)))
        except _TakeBack as back:
            reply = back.reply  # what the function has committed is gone now
            return await self.transact(request, lambda _session, _check: reply, settle)
        except StoreUnavailable as error:
            if is_row_busy(error.__cause__ or error):
                return StepReply.running()
            raise

    def _transact(
        self, request: StepRequest, work: Work, settle: Settle, connection: Connection
    ) -> StepReply | KeyReused:
        """Performs a request within a transaction; gives the reply, or what is raised instead."""
        (admission,) = self._enter_all([request], connection)
        if isinstance(admission, KeyReused):
            return admission
        if admission.reply is not None:
            return admission.reply
        self._store.take_time(connection)
        with _Session(bind=connection, join_transaction_mode="create_savepoint") as session:
            done = work(session, self._store.check_constraints)
            if session.committed and done.outcome != "succeeded":
                raise _TakeBack(done)
        reply, entry = settle(done, admission.doubt)
        self._rows.write(connection, row_of(entry, self._clock.now()))
        return reply

    # --- forgetting ---------------------------------------------------------------------------------------------

    async def expire(self, age: float) -> int:
        """See ``Inbox.expire``."""
        before = self._clock.now() - age
        gone = 0
        while some := await self._batcher.do(partial(self._rows.expire, before)):
            gone += some
        return gone
