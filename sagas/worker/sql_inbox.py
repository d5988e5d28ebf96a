"""The inbox in the participant's own database, so that it commits with what the steps write."""

from __future__ import annotations

import logging
import socket
from functools import partial
from typing import TYPE_CHECKING, Any, cast

import anyio
from anyio import to_thread
from sqlalchemy import and_, delete, select, text, update
from sqlmodel import Session

from sagas.errors import KeyReused, StoreError
from sagas.stores.port import Lease
from sagas.stores.tables import metadata
from sagas.transport.wire import body_of, reply_of
from sagas.worker.barrier import Admission, Entry, admit
from sagas.worker.batching import Batcher

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from sqlalchemy import ColumnElement, Connection, Row, Select

    from sagas.coordinator.clock import Clock
    from sagas.stores.sql import SqlStore
    from sagas.transport.port import StepReply, StepRequest
    from sagas.worker.barrier import Memory, State

__all__ = ["SqlInbox"]

logger = logging.getLogger("sagas.worker")

_inbox = metadata.tables["saga_inbox"]
_COLUMNS = tuple(column.name for column in _inbox.columns)
_INSERT = text(
    f"INSERT INTO saga_inbox ({', '.join(_COLUMNS)}) VALUES ({', '.join(f':{name}' for name in _COLUMNS)}) "  # noqa: S608 - names of columns
    "ON CONFLICT DO NOTHING"
)
_EXPIRE_MANY = 1_000


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
        self._owner = clock.token(6)
        self._name = name or socket.gethostname()
        self._lease = lease
        self._migrate = migrate
        self._batcher = Batcher(store, harmless=(KeyReused,))
        self._until = float("-inf")

    # --- as long as it is open ----------------------------------------------------------------------------------

    async def open(self) -> None:
        """See ``Inbox.open``."""
        await to_thread.run_sync(partial(self._store.open, migrate=self._migrate))
        await self._renew()

    async def run(self) -> None:
        """See ``Inbox.run``."""
        async with anyio.create_task_group() as group:
            group.start_soon(self._batcher.run)
            while True:
                await self._clock.sleep(self._lease / 3)
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
        return await self._batcher.do(partial(self._enter, request))

    def _enter(self, request: StepRequest, connection: Connection) -> Admission:
        """Admits a request within a transaction."""
        if request.kind == "action":  # most are new
            fresh = admit(request, {}, owner=self._owner, alive=self.is_alive)
            if self._insert(connection, fresh.entries[0]):
                return fresh
        while True:
            memory = _read(connection, request.action_key)
            admission = admit(request, memory, owner=self._owner, alive=self.is_alive)
            # A row that somebody else inserts meanwhile is waited for, and then it is there to be read.
            if all(self._write(connection, entry, memory) for entry in admission.entries):
                return admission

    def _write(self, connection: Connection, entry: Entry, memory: Memory) -> bool:
        """Writes an entry; says whether it could be."""
        if entry.kind in memory:
            connection.execute(update(_inbox).where(_is(entry)).values(self._values(entry)))
            return True
        return self._insert(connection, entry)

    def _insert(self, connection: Connection, entry: Entry) -> bool:
        """Writes an entry, unless there is one."""
        return connection.execute(_INSERT, self._values(entry)).rowcount == 1

    def _values(self, entry: Entry) -> Mapping[str, object]:
        """Gives an entry's row."""
        reply = entry.reply
        return {
            "about": entry.about,
            "kind": entry.kind,
            "step": entry.step,
            "fingerprint": entry.fingerprint,
            "state": entry.state,
            "outcome": None if reply is None else reply.outcome,
            "body": None if reply is None else body_of(reply),
            "owner": entry.owner,
            "at": self._clock.now(),
        }

    async def leave(self, entry: Entry) -> bool:
        """See ``Inbox.leave``."""
        return await self._batcher.do(partial(self._leave, entry))

    def _leave(self, entry: Entry, connection: Connection) -> bool:
        """Remembers how it ended within a transaction."""
        mine = and_(_is(entry), _inbox.c.owner == self._owner)
        return connection.execute(update(_inbox).where(mine).values(self._values(entry))).rowcount == 1

    async def recall(self, request: StepRequest) -> Memory:
        """See ``Inbox.recall``."""
        rows = await to_thread.run_sync(self._store.query, _about(request.action_key))
        return _memory(rows)

    async def transact(
        self, request: StepRequest, work: Callable[[Session], StepReply], settle: Callable[[StepReply], Entry | None]
    ) -> StepReply:
        """See ``Inbox.transact``."""
        return await self._batcher.do_alone(partial(self._transact, request, work, settle))

    def _transact(
        self,
        request: StepRequest,
        work: Callable[[Session], StepReply],
        settle: Callable[[StepReply], Entry | None],
        connection: Connection,
    ) -> StepReply:
        """Performs a request within a transaction."""
        admission = self._enter(request, connection)
        if admission.reply is not None:
            return admission.reply
        reply = _within_savepoint(connection, work)
        entry = settle(reply)
        if entry is None:
            mine = admission.entries[-1]
            connection.execute(delete(_inbox).where(_is(mine)))
        else:
            connection.execute(update(_inbox).where(_is(entry)).values(self._values(entry)))
        return reply

    # --- forgetting ---------------------------------------------------------------------------------------------

    async def expire(self, age: float) -> int:
        """See ``Inbox.expire``."""
        before = self._clock.now() - age
        gone = 0
        while some := await self._batcher.do(partial(_expire, before)):
            gone += some
        return gone


def _within_savepoint(connection: Connection, work: Callable[[Session], StepReply]) -> StepReply:
    """Performs work, and takes back what it wrote unless it succeeded."""
    with Session(bind=connection, join_transaction_mode="create_savepoint") as session:
        reply = work(session)
        if reply.outcome == "succeeded":
            session.commit()
        else:
            session.rollback()
        return reply


def _is(entry: Entry) -> ColumnElement[bool]:
    """Finds an entry's row."""
    return and_(_inbox.c.about == entry.about, _inbox.c.kind == entry.kind)


def _about(key: str) -> Select[Any]:
    """Finds all that is known about an action."""
    return select(_inbox).where(_inbox.c.about == key)


def _read(connection: Connection, key: str) -> Memory:
    """Reads what is known about an action, and keeps others from changing it until the transaction is over."""
    return _memory(connection.execute(_about(key).with_for_update()).all())


def _memory(rows: Sequence[Row[Any]]) -> Memory:
    """Makes entries of rows."""
    return {row.kind: _entry(row) for row in rows}


def _entry(row: Row[Any]) -> Entry:
    """Makes an entry of a row."""
    reply = None if row.outcome is None else reply_of(row.outcome, bytes(row.body))
    return Entry(
        about=row.about, kind=row.kind, step=row.step, fingerprint=bytes(row.fingerprint),
        state=cast("State", row.state), reply=reply, owner=row.owner,
    )  # fmt: skip


def _expire(before: float, connection: Connection) -> int:
    """Forgets some of what is older than a time; gives how many rows that were."""
    old = select(_inbox.c.about, _inbox.c.kind).where(_inbox.c.at < before).limit(_EXPIRE_MANY)
    keys = connection.execute(old).all()
    for about, kind in keys:
        connection.execute(delete(_inbox).where(_inbox.c.about == about, _inbox.c.kind == kind))
    return len(keys)
