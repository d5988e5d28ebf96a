"""The journal in a SQL database, through synchronous SQLAlchemy. What differs between databases is in subclasses.

A commit is a handful of calls into the driver, whatever the number of sagas, so that it also competes little for the
GIL. How a batch becomes statements is for each database.
"""

from __future__ import annotations

import threading
from abc import abstractmethod
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import orjson
from sqlalchemy import ColumnElement, Row, Select, and_, delete, func, insert, literal, or_, select, update
from sqlalchemy.exc import DataError, IntegrityError, SQLAlchemyError
from sqlmodel import Session

from sagas.errors import StoreError, StoreUnavailable
from sagas.stores import schema
from sagas.stores.ground import digests_at
from sagas.stores.limiting import SqlLimits
from sagas.stores.locking_sql import change_locks, take_turns
from sagas.stores.outage import is_forbidden, reason_of, root_of, what_is_missing
from sagas.stores.port import Batch, Committed, JournalRow, Lease, Mail, SagaRow, Superseded
from sagas.stores.sql_keeping import SqlKeeper
from sagas.stores.surveys import count_orphans, newest_first, summed
from sagas.stores.tables import metadata

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Generator, Mapping, Sequence
    from contextlib import AbstractContextManager

    from sqlalchemy import Connection, Engine, Executable

    from sagas.stores.ground import Place

__all__ = ["SqlStore"]

_saga, _journal, _mail, _lease = (metadata.tables[name] for name in ("saga", "saga_journal", "saga_mail", "saga_lease"))

_SAGA_COLUMNS = tuple(_saga.c[name] for name in SagaRow._fields)
_JOURNAL_COLUMNS = tuple(_journal.c[name] for name in JournalRow._fields)
_MAIL_COLUMNS = tuple(_mail.c[name] for name in Mail._fields)
_READ_MANY = 500
# Seconds for which a claim keeps others away; long enough to read a journal and to append to it.
_CLAIM = 5.0


class SqlStore(SqlLimits, SqlKeeper):
    """A store in a SQL database.

    Args:
        url: SQLAlchemy's URL.
    """

    in_memory = False
    announces = False
    parallel = 0

    def __init__(self, url: str) -> None:
        super().__init__()
        self.url = url
        self._writing = threading.Lock()
        self._engine: Engine | None = None
        self._writer: Connection | None = None

    # --- what differs -------------------------------------------------------------------------------------------

    @abstractmethod
    def _connect(self) -> Engine:
        """Makes the engine."""

    @abstractmethod
    def _write_batch(self, connection: Connection, batch: Batch) -> None:
        """Writes a batch within a transaction; raises ``IntegrityError`` if a row or a new saga is there already."""

    @abstractmethod
    def _proven_dead(self, owner: str) -> bool:
        """Says whether a coordinator is dead for sure, whatever its lease says."""

    @abstractmethod
    def changed(self) -> bool:
        """See ``Store.changed``."""

    def _time(self, now: float) -> ColumnElement[float]:
        """Gives the time that leases and timers go by."""
        return literal(now)

    def _lifeline_of(self, owner: str) -> int | None:  # noqa: ARG002 - for databases that have such things
        """Gives what others can tell by that a coordinator's process is alive, if the database itself keeps it."""
        return None

    def _aside(self) -> AbstractContextManager[Connection]:
        """Gives a connection for writes that are no journal's, in a transaction that ends with the block."""
        return self._write()

    # --- connections --------------------------------------------------------------------------------------------

    def open(self, *, migrate: bool) -> None:
        """See ``Store.open``."""
        if self._engine is None:
            self._engine = self._connect()
        if not migrate:  # only looks: waits for no writer, and needs no right to write
            with self._errors(), self._engine.connect() as connection:
                schema.ensure(connection, migrate=False)
            return
        with self._errors(), self._writing, self._writer_connection().begin():
            schema.ensure(self._writer_connection(), migrate=True)

    def close(self) -> None:
        """See ``Store.close``."""
        with self._writing:
            self._drop_writer()
            if self._engine is not None:
                self._engine.dispose()
                self._engine = None

    def _writer_connection(self) -> Connection:
        """Gives the one connection that writes, opened anew after an error."""
        if self._writer is None:
            assert self._engine is not None, "the store is open"
            self._writer = self._engine.connect().execution_options(sagas_writes=True)
        return self._writer

    def _drop_writer(self) -> None:
        """Lets go of the connection that writes."""
        writer, self._writer = self._writer, None
        if writer is not None:
            try:
                writer.close()
            except SQLAlchemyError:
                writer.invalidate()

    @contextmanager
    def _errors(self) -> Generator[None]:
        """Turns the driver's errors into this library's."""
        try:
            yield
        except IntegrityError:
            raise
        except DataError as error:
            raise StoreError(f"the journal's database {self.url} cannot keep a value: {error.orig}") from error
        except SQLAlchemyError as error:
            if is_forbidden(error):
                raise StoreError(what_is_missing(error, self.url)) from error
            raise StoreUnavailable(self._explain(root_of(error))) from error

    def _explain(self, error: BaseException) -> str:
        """Says what a driver's error means for this database."""
        return f"the journal's database {self.url} cannot be used now: {reason_of(error)}"

    @contextmanager
    def _write(self) -> Generator[Connection]:
        """Gives the connection that writes, in a transaction that ends with the block."""
        with self._writing:
            try:
                with self._errors():
                    connection = self._writer_connection()
                    with connection.begin():
                        yield connection
            except StoreUnavailable:
                self._drop_writer()
                raise

    def _read(self, statement: Any) -> Sequence[Row[Any]]:
        """Runs a query on a connection of its own and fetches everything."""
        assert self._engine is not None, "the store is open"
        with self._errors(), self._engine.connect() as connection:
            return connection.execute(statement).all()

    # --- for what keeps tables of its own beside the journal ----------------------------------------------------

    def begin(self) -> AbstractContextManager[Connection]:
        """Gives a connection in a transaction that writes; it is committed when the block ends, or rolled back.

        On SQLite there is one such transaction at a time, which the journal waits for as well: keep it short. On
        PostgreSQL each has a connection of a pool, and lasts as long as the server allows.

        Raises:
            StoreUnavailable: The database cannot be used now; what was written may be there or not.
            StoreError: A value does not fit, or a right is missing; nothing was written.
            IntegrityError: The driver's own; nothing was written.
        """
        return self._aside()

    def query(self, statement: Executable) -> Sequence[Row[Any]]:
        """Reads what is committed.

        Raises:
            StoreUnavailable: The database cannot be used now.
            StoreError: A right is missing.
        """
        return self._read(statement)

    # --- writing ------------------------------------------------------------------------------------------------

    def commit(self, batch: Batch) -> Committed:
        """See ``Store.commit``."""
        try:
            with self._write() as connection:
                return self._write_all(connection, batch)
        except (IntegrityError, Superseded):
            return self._commit_what_fits(batch)

    def _write_all(self, connection: Connection, batch: Batch) -> Committed:
        """Writes a batch and what it does to locks within a transaction."""
        if batch.locks:
            take_turns(connection)
        self._write_batch(connection, batch)
        return Committed(frozenset(), frozenset(), change_locks(connection, batch.locks) if batch.locks else ())

    def lost(self, last: Sequence[tuple[str, int, bytes]]) -> Collection[str]:
        """See ``Store.lost``."""
        gone: set[str] = set()
        for start in range(0, len(last), _READ_MANY):
            some = last[start : start + _READ_MANY]
            there = self._digests([(saga_id, seq) for saga_id, seq, _ in some])
            gone.update(saga_id for saga_id, seq, digest in some if there.get((saga_id, seq)) != digest)
        return gone

    def _digests(self, places: Collection[Place]) -> Mapping[Place, bytes]:
        """Reads the digests of some records."""
        assert self._engine is not None, "the store is open"
        with self._errors(), self._engine.connect() as connection:
            return digests_at(connection, places)

    def unfinished(self, owner: str, now: float) -> Collection[str]:
        """See ``Store.unfinished``."""
        mine = and_(_saga.c.owner == owner, _saga.c.ended_at.is_(None))
        due = or_(_saga.c.active, _saga.c.wake_at <= self._time(now))
        return {row[0] for row in self._read(select(_saga.c.id).where(mine, due))}

    def _commit_what_fits(self, batch: Batch) -> Committed:
        """Commits a batch some of whose rows are there already; again if others append meanwhile."""
        while True:
            try:
                with self._write() as connection:
                    taken, fenced, present = self._conflicts(connection, batch)
                    rest = batch.without(taken | fenced, present)
                    rest.read = self._mail_of_others(connection, batch.read, taken | fenced)
                    done = self._write_all(connection, rest)
            except (IntegrityError, Superseded):
                continue
            return Committed(frozenset(taken), frozenset(fenced), done.mailed)

    def _mail_of_others(self, connection: Connection, read: list[int], out: set[str]) -> list[int]:
        """Leaves mail alone that only sagas of others have read: whoever drives them has not."""
        if not out or not read:
            return read
        query = select(_mail.c.id).where(_mail.c.id.in_(read), _mail.c.saga_id.not_in(out))
        return list(connection.execute(query).scalars())

    def _conflicts(self, connection: Connection, batch: Batch) -> tuple[set[str], set[str], set[tuple[str, int]]]:
        """Tells rows that others wrote from those that this very batch wrote before, without hearing of it.

        Returns:
            New sagas whose ids are taken, sagas that are fenced, and places that hold what they should already.
        """
        digests = {(row.saga_id, row.seq): row.digest for row in batch.rows}
        last = {row.saga_id: row.seq for row in batch.rows}
        ids = list({row.saga_id for row in batch.rows} | {new.id for new in batch.new})
        new_ids = {new.id for new in batch.new}
        taken: set[str] = set()
        fenced: set[str] = set()
        present: set[tuple[str, int]] = set()
        for start in range(0, len(ids), _READ_MANY):
            some = ids[start : start + _READ_MANY]
            query = select(_journal.c.saga_id, _journal.c.seq, _journal.c.digest).where(_journal.c.saga_id.in_(some))
            for saga_id, seq, digest in connection.execute(query):
                mine = digests.get((saga_id, seq))
                if mine == digest:
                    present.add((saga_id, seq))
                elif mine is not None or seq > last.get(saga_id, seq):
                    # The second: it was written before, but somebody else has gone on since.
                    (taken if saga_id in new_ids else fenced).add(saga_id)
        for start in range(0, len(ids), _READ_MANY):
            some = [saga_id for saga_id in ids[start : start + _READ_MANY] if saga_id in new_ids]
            for (saga_id,) in connection.execute(select(_saga.c.id).where(_saga.c.id.in_(some))):
                if (saga_id, 0) not in present:
                    taken.add(saga_id)  # also by a saga whose journal was deleted
        return taken, fenced, present

    def transact(self, work: Sequence[Callable[[Session], None]], finish: Callable[[], Batch]) -> Committed:
        """See ``Store.transact``."""
        with self._write() as connection:
            for function in work:
                with Session(bind=connection, join_transaction_mode="create_savepoint") as session:
                    function(session)
            return self._write_unless_superseded(connection, finish())

    def _write_unless_superseded(self, connection: Connection, batch: Batch) -> Committed:
        """Writes a batch within a transaction that ends if somebody else has written in its place."""
        try:
            return self._write_all(connection, batch)
        except IntegrityError as error:
            raise Superseded from error

    # --- reading ------------------------------------------------------------------------------------------------

    def load(self, saga_ids: Sequence[str]) -> Mapping[str, list[JournalRow]]:
        """See ``Store.load``."""
        journals: dict[str, list[JournalRow]] = {}
        for start in range(0, len(saga_ids), _READ_MANY):
            some = saga_ids[start : start + _READ_MANY]
            query = (
                select(*_JOURNAL_COLUMNS)
                .where(_journal.c.saga_id.in_(some))
                .order_by(_journal.c.saga_id, _journal.c.seq)
            )
            for row in self._read(query):
                journals.setdefault(row[0], []).append(JournalRow._make(row))
            # What begins later, if at all, is no journal, but what somebody has appended to an archived one.
            if missing := [saga_id for saga_id in some if not journals.get(saga_id, ()) or journals[saga_id][0].seq]:
                journals.update(self._archived(missing))
        return journals

    def get(self, saga_id: str) -> SagaRow | None:
        """See ``Store.get``."""
        return self.find([saga_id]).get(saga_id)

    def find(self, saga_ids: Sequence[str]) -> Mapping[str, SagaRow]:
        """See ``Store.find``."""
        found: dict[str, SagaRow] = {}
        for start in range(0, len(saga_ids), _READ_MANY):
            query = select(*_SAGA_COLUMNS).where(_saga.c.id.in_(saga_ids[start : start + _READ_MANY]))
            found.update((row[0], SagaRow._make(row)) for row in self._read(query))
        return found

    def select(self, *, status: str | None, name: str | None, limit: int, before: str | None) -> Sequence[SagaRow]:
        """See ``Store.select``."""
        return [SagaRow._make(row) for row in self._read(newest_first(limit, before, status=status, name=name))]

    def open_sagas(self, limit: int, before: str | None) -> Sequence[SagaRow]:
        """See ``Store.open_sagas``."""
        query = newest_first(limit, before).where(_saga.c.ended_at.is_(None))
        return [SagaRow._make(row) for row in self._read(query)]

    # --- whose sagas --------------------------------------------------------------------------------------------

    def claim(self, owner: str, now: float, limit: int, code: Collection[str]) -> Sequence[SagaRow]:
        """See ``Store.claim``."""
        queries = self._claimable(owner, now, code)
        if not any(self._read(query.limit(1)) for query in queries):
            return []  # the usual case, which takes no lock
        with self._aside() as connection:
            rows: list[SagaRow] = []
            for query in queries:
                locked = query.limit(limit - len(rows)).with_for_update(skip_locked=True)
                rows.extend(SagaRow._make(row) for row in connection.execute(locked))
            # An owner that came after the leases were read is found now: it had its lease before its first saga.
            alive = self._live(now)
            rows = [row for row in rows if row.owner not in alive]
            claimed = {_saga.c.claimed_by: owner, _saga.c.claimed_at: self._time(now)}
            connection.execute(update(_saga).where(_saga.c.id.in_([row.id for row in rows])).values(claimed))
        return rows

    def _claimable(self, owner: str, now: float, code: Collection[str]) -> list[Select[Any]]:
        """Builds queries for what nobody drives: sagas with something to do, and those whose time has come."""
        owners = self._active_owners()  # before the leases, which are there before anything is owned
        alive = {owner, *self._live(now)}
        time = self._time(now)
        open_to_us = and_(
            _saga.c.ended_at.is_(None),
            (_saga.c.name + "@" + _saga.c.version).in_(code),
            or_(_saga.c.claimed_by.is_(None), _saga.c.claimed_by.not_in(alive), _saga.c.claimed_at < time - _CLAIM),
        )
        dead = [other for other in owners if other not in alive]
        rows = select(*_SAGA_COLUMNS).where(open_to_us)
        queries = [
            rows.where(_saga.c.wake_at <= time, _saga.c.active.is_(False), _saga.c.owner.not_in(alive)).order_by(
                _saga.c.wake_at
            )
        ]
        if dead:
            queries.insert(0, rows.where(_saga.c.active, _saga.c.owner.in_(dead)).order_by(_saga.c.rank, _saga.c.key))
        return queries

    def orphans(self, now: float) -> Sequence[tuple[str, str, int]]:
        """See ``Store.orphans``."""
        active = self._active_owners()
        alive = self._live(now)
        return summed(self._read(query) for query in count_orphans(alive, active, self._time(now)))

    def _active_owners(self) -> list[str]:
        """Lists the owners of sagas that have something to do."""
        query = select(_saga.c.owner).where(_saga.c.active, _saga.c.ended_at.is_(None)).distinct()
        return [row[0] for row in self._read(query)]

    def hand_over(self, owner: str, saga_ids: Sequence[str]) -> None:
        """See ``Store.hand_over``."""
        for start in range(0, len(saga_ids), _READ_MANY):
            some = saga_ids[start : start + _READ_MANY]
            with self._aside() as connection:
                mine = and_(_saga.c.id.in_(some), _saga.c.owner == owner, _saga.c.ended_at.is_(None))
                connection.execute(update(_saga).where(mine).values(owner="", claimed_by=None))

    def next_wake(self) -> float | None:
        """See ``Store.next_wake``."""
        query = select(func.min(_saga.c.wake_at)).where(_saga.c.ended_at.is_(None), _saga.c.active.is_(False))
        value = self._read(query)[0][0]
        return None if value is None else float(value)

    # --- mail ---------------------------------------------------------------------------------------------------

    def post(self, saga_id: str, at: float, kind: str, body: bytes) -> int:
        """See ``Store.post``."""
        with self._aside() as connection:
            done = connection.execute(insert(_mail).values(saga_id=saga_id, at=at, kind=kind, body=body))
            key = done.inserted_primary_key
            assert key is not None, "an insert of one row gives its key"
            return int(key[0])

    def mail(
        self, owner: str, now: float, limit: int, after: int = 0, code: Collection[str] | None = None
    ) -> Sequence[Mail]:
        """See ``Store.mail``."""
        others = [other for other in self._live(now) if other != owner]
        query = (
            select(*_MAIL_COLUMNS)
            .join_from(_mail, _saga, _mail.c.saga_id == _saga.c.id, isouter=True)
            .where(_mail.c.id > after, or_(_saga.c.owner.is_(None), _saga.c.owner.not_in(others)))
            .order_by(_mail.c.id)
            .limit(limit)
        )
        if code is not None:
            known = (_saga.c.name + "@" + _saga.c.version).in_(code)
            # Nobody's, ended and stuck ones are not only for those who have the code.
            anybodys = or_(_saga.c.id.is_(None), _saga.c.ended_at.is_not(None), _saga.c.status == "stuck")
            query = query.where(or_(known, anybodys))
        return [Mail._make(row) for row in self._read(query)]

    def discard(self, mail_ids: Sequence[int]) -> None:
        """See ``Store.discard``."""
        with self._aside() as connection:
            connection.execute(delete(_mail).where(_mail.c.id.in_(mail_ids)))

    def listen(self, patience: float) -> Sequence[str] | None:  # noqa: ARG002 - the port's
        """See ``Store.listen``."""
        return None

    def announce(self, messages: Sequence[str]) -> None:
        """See ``Store.announce``."""

    # --- leases -------------------------------------------------------------------------------------------------

    def renew(self, lease: Lease, now: float) -> float:
        """See ``Store.renew``."""
        time = self._time(now)
        values: dict[str, Any] = {
            "expires_at": time + (lease.expires_at - now),
            "renewed_at": time,
            "code": orjson.dumps(lease.code).decode(),
            "lifeline": self._lifeline_of(lease.id),
        }
        with self._aside() as connection:
            changed = connection.execute(update(_lease).where(_lease.c.id == lease.id).values(values))
            if not changed.rowcount:
                connection.execute(insert(_lease).values(id=lease.id, name=lease.name, **values))
        return lease.expires_at

    def release(self, owner: str) -> None:
        """See ``Store.release``."""
        with self._aside() as connection:
            connection.execute(delete(_lease).where(_lease.c.id == owner))

    def leases(self, now: float) -> Sequence[Lease]:
        """See ``Store.leases``."""
        columns = (_lease.c.id, _lease.c.name, _lease.c.expires_at, _lease.c.code)
        rows = self._read(select(*columns).where(self._holds(now)).order_by(_lease.c.id))
        return [
            Lease(row.id, row.name, row.expires_at, tuple(orjson.loads(row.code or "[]")))
            for row in rows
            if not self._proven_dead(row.id)
        ]

    def alive(self, owner: str, now: float) -> bool:
        """See ``Store.alive``."""
        return owner in self._live(now)

    def _holds(self, now: float) -> ColumnElement[bool]:
        """Says of a lease that it has not run out."""
        return _lease.c.expires_at > self._time(now)

    def _live(self, now: float) -> list[str]:
        """Lists the coordinators that hold a lease and are not known to be dead."""
        rows = self._read(select(_lease.c.id).where(self._holds(now)))
        return [row[0] for row in rows if not self._proven_dead(row[0])]
