"""The journal in PostgreSQL, through psycopg 3: any number of coordinators on one database.

A commit is one round trip, whatever the number of sagas. The connection that writes journals does nothing else;
transactional steps have transactions of their own.
"""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from sqlalchemy import ColumnElement, Float, and_, cast, create_engine, event, func, insert, text
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError, IntegrityError
from sqlmodel import Session

from sagas.errors import StoreError, StoreUnavailable
from sagas.stores import schema
from sagas.stores.announcing import Announcements
from sagas.stores.ground import digests_by_key, first_rows, groundless
from sagas.stores.lifeline import Lifeline
from sagas.stores.opening import without_password
from sagas.stores.port import Committed, StoreRestarted, Superseded
from sagas.stores.postgres_batches import write_batch
from sagas.stores.postgres_stream import Stream
from sagas.stores.raw import check_encoding, driver, own_url, shown_url
from sagas.stores.sql import SqlStore
from sagas.stores.surveying import Counted
from sagas.stores.tables import metadata

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Generator, Mapping, Sequence
    from contextlib import AbstractContextManager

    from sqlalchemy import URL, Connection, Engine, ExceptionContext

    from sagas.stores.ground import Place
    from sagas.stores.port import Batch, Lease

__all__ = ["PostgresStore"]

_MAIL = metadata.tables["saga_mail"]

_CONNECT_TIMEOUT = 10
# "sagas" in ASCII: whoever migrates holds this lock, so that the processes of a fleet do it one after the other.
_MIGRATING = 0x7361676173

# How long a transaction may wait for its process, in seconds, before the server ends it: a process that stands still
# must not keep others from its sagas, which want the very rows that it has written.
_STANDSTILL = 5.0
_HURRY = text(f"SET LOCAL idle_in_transaction_session_timeout = '{_STANDSTILL:g}s'")
_TAKE_TIME = "SET LOCAL lock_timeout TO DEFAULT; SET LOCAL idle_in_transaction_session_timeout TO DEFAULT"
# What a transactional step may have set for itself does not hold for the journal.
_OWN_AGAIN = "SET LOCAL ROLE NONE; SET LOCAL search_path TO DEFAULT"
# How long a process may be silent after its connection was lost, in seconds: it is probably connecting again.
_GRACE = 3.0
# So long after the server was started, lost connections say nothing about processes; in seconds.
_SETTLING = 10.0
# The SQLSTATE of a statement that would have written where that is not allowed.
_READ_ONLY = "25006"

# Jumps from owner to owner in the index, instead of reading what each owns (wiki.postgresql.org/wiki/Loose_indexscan).
_OWNERS = text(
    """
    WITH RECURSIVE owners AS (
        (SELECT owner FROM saga WHERE active AND ended_at IS NULL ORDER BY owner LIMIT 1)
        UNION ALL
        SELECT (
            SELECT owner FROM saga WHERE active AND ended_at IS NULL AND owner > owners.owner ORDER BY owner LIMIT 1
        )
        FROM owners WHERE owners.owner IS NOT NULL
    )
    SELECT owner FROM owners WHERE owner IS NOT NULL
    """
)
_HELD = text(
    f"""
    NOT (lifeline IS NOT NULL
    AND renewed_at < extract(epoch FROM statement_timestamp()) - {_GRACE}
    AND pg_postmaster_start_time() < statement_timestamp() - interval '{_SETTLING} seconds'
    AND NOT EXISTS (
        SELECT FROM pg_locks
        WHERE locktype = 'advisory' AND granted AND (classid::bigint << 32 | objid::bigint) = lifeline
        AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
    ))
    """
)
_ROWS_OF_INDEX = text("SELECT reltuples FROM pg_class WHERE oid = to_regclass(:name)")
_TELL_OWNER = text(
    """
    SELECT pg_notify(:channel, 'mail:' || coalesce(
        (SELECT saga_lease.id FROM saga JOIN saga_lease ON saga_lease.id = saga.owner
         WHERE saga.id = :saga_id AND saga_lease.expires_at > extract(epoch FROM statement_timestamp())), ''))
    """
)


class PostgresStore(SqlStore):
    """Keeps journals in a PostgreSQL database.

    Args:
        url: ``postgresql+psycopg://user:password@host/database``, with libpq's options as its query. Of our own:
            ``notify=off`` to poll instead of listening, as is done anyway where a pooler (pgbouncer, say) is found
            to be in between; ``notify=on`` to listen all the same, since it gives each client a connection to
            itself; ``synchronous_commit=off`` gives up the last moments before a crash of the server for speed.
        parallel: How many transactional steps may run side by side, each on a connection of its own.
        own_time: Whether leases and timers go by the database's clock instead of the callers'.

    Raises:
        StoreError: The URL is none, or psycopg is not installed.
    """

    announces = True
    _most_counted = 20_000

    def __init__(self, url: str, *, parallel: int = 8, own_time: bool = True) -> None:
        try:
            parsed = make_url(url)
        except (ArgumentError, ValueError):  # which may tell the password
            raise StoreError(f"{without_password(url)!r} is not a URL of a database") from None
        if "@" in (parsed.host or ""):
            raise StoreError(f"{without_password(url)!r} has a password with @ in it; write that as %40")
        super().__init__(shown_url(parsed))
        driver()
        self.parallel = parallel
        self._own_time = own_time
        self._notifies = parsed.query.get("notify") != "off"
        self._commits = parsed.query.get("synchronous_commit")
        self._url: URL = own_url(parsed)
        self._insists = parsed.query.get("notify") == "on"
        self._announcements = Announcements(self._url, insist=self._insists)
        self._lifelines: dict[str, Lifeline] = {}
        self._stream = Stream(self.url)

    # --- connections --------------------------------------------------------------------------------------------

    def _connect(self) -> Engine:
        """Makes the engine."""
        # Prepared statements would be mixed up by a pooler that works by the transaction; see `_streaming`.
        arguments: dict[str, Any] = {"connect_timeout": _CONNECT_TIMEOUT, "prepare_threshold": None}
        options = [str(self._url.query.get("options", ""))]
        if self._commits is not None:
            options.append(f"-c synchronous_commit={self._commits}")
        if any(options):  # which a pooler may refuse
            arguments["options"] = " ".join(filter(None, options))
        # Connections that were cut while nobody used them are found out before somebody's order fails by them.
        # A transaction that waited for its turn must see what those before it did, whatever the database's default.
        engine = create_engine(
            self._url, isolation_level="READ COMMITTED", pool_size=4, max_overflow=self.parallel + 4,
            pool_pre_ping=True, connect_args=arguments,
        )  # fmt: skip
        event.listen(engine, "handle_error", _connect_anew)
        return engine

    def open(self, *, migrate: bool) -> None:
        """See ``Store.open``."""
        was_open = self._engine is not None
        self._engine = self._engine or self._connect()
        self._announcements.open()
        try:
            self._prepare_tables(migrate=migrate)
        except BaseException:
            if not was_open:  # so nobody will close it
                self.close()
            raise

    def _prepare_tables(self, *, migrate: bool) -> None:
        """Makes sure that the tables are there; several processes do it one after the other."""
        with self._aside() as connection:
            check_encoding(connection, self.url)
            if migrate and schema.current(connection) != schema.HEAD:
                connection.execute(text(f"SELECT pg_advisory_xact_lock({_MIGRATING})"))
            schema.ensure(connection, migrate=migrate)

    def close(self) -> None:
        """See ``Store.close``."""
        self._announcements.close()
        for lifeline in self._lifelines.values():
            lifeline.let_go()
        self._lifelines.clear()
        with self._writing:
            self._stream.drop()
        super().close()

    @contextmanager
    def _aside(self) -> Generator[Connection]:
        """See ``SqlStore``: beside the journal's own connection, so that neither holds up the other."""
        with self._aside_for_long() as connection:
            connection.execute(_HURRY)
            yield connection

    def begin(self) -> AbstractContextManager[Connection]:
        """See ``SqlStore.begin``."""
        return self._aside_for_long()

    def hurry(self, connection: Connection, patience: float) -> None:
        """See ``SqlStore.hurry``."""
        connection.exec_driver_sql(f"SET LOCAL lock_timeout = {round(patience * 1000)}; {_HURRY.text}")

    def take_time(self, connection: Connection) -> None:
        """See ``SqlStore.take_time``."""
        connection.exec_driver_sql(_TAKE_TIME)

    def check_constraints(self, session: Session) -> None:
        """See ``SqlStore.check_constraints``: at the end, the whole transaction would fail by a deferred one."""
        session.flush()
        session.connection().exec_driver_sql("SET CONSTRAINTS ALL IMMEDIATE")

    @contextmanager
    def _aside_for_long(self) -> Generator[Connection]:
        """Begins a transaction that may take as long as the server allows."""
        assert self._engine is not None, "the store is open"
        with self._errors(), self._engine.begin() as connection:
            yield connection

    @contextmanager
    def _write(self) -> Generator[Connection]:
        """See ``SqlStore``: for batches that are more than one statement."""
        with self._writing, self._aside() as connection:
            yield connection

    # --- writing ------------------------------------------------------------------------------------------------

    def commit(self, batch: Batch) -> Committed:
        """See ``Store.commit``: one statement, which is a transaction by itself."""
        if batch.locks or batch.outgoing:
            return super().commit(batch)
        try:
            with self._writing, self._errors():
                stream = self._streaming()
                self._stream.note_doubt()
                if self._stream.is_wary:
                    self._check_ground(stream, batch)
                self._write_batch(stream, batch)
        except (IntegrityError, Superseded):
            return self._commit_what_fits(batch)
        except StoreRestarted:
            raise
        except Exception as error:
            with self._writing:
                self._stream.drop(lost=isinstance(error, StoreUnavailable))
            raise
        return Committed(frozenset(), frozenset())

    def _streaming(self) -> Connection:
        """Gives the connection on which every statement is a transaction."""
        assert self._engine is not None, "the store is open"
        return self._stream.connection(self._engine)

    def _digests(self, places: Collection[Place]) -> Mapping[Place, bytes]:
        """See ``SqlStore``: on the very connection that will write."""
        try:
            with self._writing, self._errors():
                return digests_by_key(self._streaming(), places)
        except StoreUnavailable:
            with self._writing:
                self._stream.drop(lost=True)
            raise

    def _check_ground(self, connection: Connection, batch: Batch) -> None:
        """Makes sure that records continue what is there.

        Raises:
            Superseded: Not all of them do.
        """
        if self._groundless(connection, batch):
            raise Superseded

    def _groundless(self, connection: Connection, batch: Batch) -> set[str]:
        """Names the sagas whose last records are not there any more."""
        rows = first_rows(batch.rows)
        if not rows:
            return set()
        return groundless(rows, digests_by_key(connection, [(row.saga_id, row.seq - 1) for row in rows]))

    def _write_all(self, connection: Connection, batch: Batch) -> Committed:
        """See ``SqlStore``: not on the stream, so that nobody has told that this connection is a new one."""
        self._check_ground(connection, batch)
        return super()._write_all(connection, batch)

    def _conflicts(self, connection: Connection, batch: Batch) -> tuple[set[str], set[str], set[tuple[str, int]]]:
        """See ``SqlStore``: sagas whose last records are not there any more are fenced as well."""
        taken, fenced, present = super()._conflicts(connection, batch)
        return taken, fenced | (self._groundless(connection, batch) - taken), present

    def _write_batch(self, connection: Connection, batch: Batch) -> None:
        """See ``SqlStore``."""
        write_batch(connection, batch)

    def transact(self, work: Sequence[Callable[[Session], None]], finish: Callable[[], Batch]) -> Committed:
        """See ``Store.transact``: any number of threads may be in here."""
        with self._aside_for_long() as connection:
            for function in work:
                with Session(bind=connection, join_transaction_mode="create_savepoint") as session:
                    event.listen(session, "before_commit", self.check_constraints)
                    function(session)
            connection.exec_driver_sql(_OWN_AGAIN)
            connection.execute(_HURRY)
            return self._write_unless_superseded(connection, finish())

    # --- whose sagas --------------------------------------------------------------------------------------------

    def _time(self, now: float) -> ColumnElement[float]:
        """See ``SqlStore``: the database's own, since those of many machines differ."""
        if not self._own_time:
            return super()._time(now)
        return cast(func.extract("epoch", func.statement_timestamp()), Float(53))

    def _active_owners(self) -> list[str]:
        """See ``SqlStore``."""
        return [row[0] for row in self._read(_OWNERS)]

    def hand_over(self, owner: str, saga_ids: Sequence[str]) -> None:
        """See ``Store.hand_over``."""
        super().hand_over(owner, saga_ids)
        self.announce(["work"])

    def release(self, owner: str) -> None:
        """See ``Store.release``."""
        super().release(owner)
        lifeline = self._lifelines.pop(owner, None)
        if lifeline is not None:
            lifeline.let_go()
        self.announce(["work"])

    def renew(self, lease: Lease, now: float) -> float:
        """See ``Store.renew``: others look at the lifeline, which may have been cut since without a sign of it here."""
        until = super().renew(lease, now)
        return min(until, now + _GRACE) if self._notifies else until

    def _lifeline_of(self, owner: str) -> int | None:
        """See ``SqlStore``: a lock that the server takes back when the process's connection ends."""
        if not self._notifies:
            return None
        lifeline = self._lifelines.setdefault(owner, Lifeline(self._url, owner))
        return lifeline.key if lifeline.hold() else None

    def _holds(self, now: float) -> ColumnElement[bool]:
        """See ``SqlStore``: a process whose connection ended, and which did not connect again, is dead."""
        return and_(super()._holds(now), _HELD)

    def _proven_dead(self, owner: str) -> bool:  # noqa: ARG002 - `_holds` has seen to it
        """See ``SqlStore``."""
        return False

    # --- what people ask ----------------------------------------------------------------------------------------

    def _many(self, connection: Connection, status: str) -> Counted:
        """See ``SqlSurveys``: what the server last found in the index of the sagas of that status."""
        known = connection.execute(_ROWS_OF_INDEX, {"name": f"saga_{status}"}).scalar()
        if known is None or known <= self._most_counted:
            return super()._many(connection, status)
        return Counted(int(known), "estimated")

    # --- what others want ---------------------------------------------------------------------------------------

    def post(self, saga_id: str, at: float, kind: str, body: bytes) -> int:
        """See ``Store.post``: its owner is told, or everybody if that is nobody alive."""
        with self._aside() as connection:
            done = connection.execute(insert(_MAIL).values(saga_id=saga_id, at=at, kind=kind, body=body))
            if self._notifies:
                channel = self._announcements.channel(connection)
                connection.execute(_TELL_OWNER, {"channel": channel, "saga_id": saga_id})
            key = done.inserted_primary_key
            assert key is not None, "an insert of one row gives its key"
            return int(key[0])

    def announcements(self, table: str) -> Announcements | None:
        """Gives what processes can tell each other about a table by, on connections of its own; to be closed.

        Returns:
            ``None`` if the store was told to poll instead.
        """
        return Announcements(self._url, insist=self._insists, table=table) if self._notifies else None

    def changed(self) -> bool:
        """See ``Store.changed``: only a look tells."""
        return True

    def listen(self, patience: float) -> Sequence[str] | None:
        """See ``Store.listen``."""
        return self._announcements.listen(patience) if self._notifies else None

    def announce(self, messages: Sequence[str]) -> None:
        """See ``Store.announce``."""
        if self._notifies:
            self._announcements.announce(messages)


def _connect_anew(context: ExceptionContext) -> None:
    """Gives up all connections when one may only read: sessions keep what the database was set to as they began."""
    if getattr(context.original_exception, "sqlstate", None) == _READ_ONLY:
        context.is_disconnect = True
