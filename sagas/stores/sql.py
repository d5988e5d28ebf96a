"""The journal in a SQL database, through synchronous SQLAlchemy. What differs between databases is in subclasses.

A commit is a handful of calls into the driver, whatever the number of sagas, so that it also competes little for the
GIL. How a batch becomes statements is for each database.
"""

from __future__ import annotations

import threading
from abc import abstractmethod
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from sqlalchemy import ColumnElement, Row, and_, delete, insert, literal, or_, select
from sqlalchemy.exc import DataError, IntegrityError, SQLAlchemyError
from sqlmodel import Session

from sagas.errors import StoreError, StoreUnavailable
from sagas.stores import schema
from sagas.stores.ground import digests_at
from sagas.stores.limiting import SqlLimits
from sagas.stores.locking_sql import change_locks, take_turns
from sagas.stores.outage import is_forbidden, reason_of, root_of, what_is_missing
from sagas.stores.port import Batch, Committed, JournalRow, Mail, SagaRow, Superseded
from sagas.stores.sql_keeping import SqlKeeper
from sagas.stores.sql_outbox import SqlOutbox, write_outgoing
from sagas.stores.sql_owners import SqlOwners
from sagas.stores.sql_surveys import SqlSurveys
from sagas.stores.surveys import is_storable, newest_first
from sagas.stores.tables import metadata

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Generator, Mapping, Sequence
    from contextlib import AbstractContextManager

    from sqlalchemy import Connection, Engine, Executable

    from sagas.stores.ground import Place

__all__ = ["SqlStore"]

_saga, _journal, _mail = (metadata.tables[name] for name in ("saga", "saga_journal", "saga_mail"))

_SAGA_COLUMNS = tuple(_saga.c[name] for name in SagaRow._fields)
_JOURNAL_COLUMNS = tuple(_journal.c[name] for name in JournalRow._fields)
_MAIL_COLUMNS = tuple(_mail.c[name] for name in Mail._fields)
_READ_MANY = 500


class SqlStore(SqlOwners, SqlLimits, SqlKeeper, SqlOutbox, SqlSurveys):
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
    def changed(self) -> bool:
        """See ``Store.changed``."""

    def _time(self, now: float) -> ColumnElement[float]:
        """Gives the time that leases and timers go by."""
        return literal(now)

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
        except (UnicodeEncodeError, OverflowError) as error:  # before the driver has asked it
            raise StoreError(f"the journal's database {self.url} cannot keep a value: {error}") from error
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
            except (IntegrityError, StoreUnavailable):
                # Also after a conflict: what SQLite refuses to commit for a deferred constraint is still begun.
                self._drop_writer()
                raise

    def _read(self, statement: Any) -> Sequence[Row[Any]]:
        """Runs a query on a connection of its own and fetches everything."""
        assert self._engine is not None, "the store is open"
        with self._errors(), self._engine.connect() as connection:
            return connection.execute(statement).all()

    @contextmanager
    def _looking(self) -> Generator[Connection]:
        """See ``SqlSurveys``."""
        assert self._engine is not None, "the store is open"
        with self._errors(), self._engine.connect() as connection:
            yield connection

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

    def hurry(self, connection: Connection, patience: float) -> None:
        """Has the rest of a transaction wait at most so many seconds for a row that another one is writing.

        And has the server end it if this process stands still in the middle. Nothing to do where only one transaction
        writes at a time.
        """

    def take_time(self, connection: Connection) -> None:
        """Takes back what ``hurry`` has set, for what a user does in the transaction."""

    def check_constraints(self, session: Session) -> None:
        """Writes what a session holds, and checks what the database would otherwise check as it commits, if it can."""
        session.flush()

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
        write_outgoing(connection, batch.outgoing)
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
            some = [saga_id for saga_id in saga_ids[start : start + _READ_MANY] if is_storable(saga_id)]
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
        return self.find([saga_id]).get(saga_id) if is_storable(saga_id) else None

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
