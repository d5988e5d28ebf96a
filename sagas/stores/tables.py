"""The journal's tables, as SQLModel classes with a registry of their own, apart from the user's models."""

from __future__ import annotations

from sqlalchemy import BigInteger, Float, Index, Integer, LargeBinary, String, UniqueConstraint, literal_column, text
from sqlalchemy.orm import registry
from sqlalchemy.sql.elements import ColumnElement
from sqlmodel import Field, SQLModel

__all__ = [
    "ACTIVE",
    "ArchiveTable",
    "DeadLetterTable",
    "DedupTable",
    "InboxTable",
    "JournalTable",
    "LeaseTable",
    "LimitTable",
    "LockTable",
    "MailTable",
    "MessageTable",
    "OutboxTable",
    "ResponseTable",
    "SagaTable",
    "ScheduleTable",
    "metadata",
]

_registry = registry()
metadata = _registry.metadata

# SQLite numbers rows by itself only if the key is declared INTEGER.
_Key = BigInteger().with_variant(Integer(), "sqlite")
# Postgres compares texts by the rules of a language unless told otherwise, which is slow and of no use here.
_Text = String().with_variant(String(collation="C"), "postgresql")
_OPEN = text("ended_at IS NULL")
# For queries: SQLAlchemy's own `active = 1` is another condition to SQLite than that of the index; it would read every
# saga.
ACTIVE: ColumnElement[bool] = literal_column("saga.active")
_QUEUED = text("active AND ended_at IS NULL")
_TIMED = text("wake_at IS NOT NULL AND ended_at IS NULL")
_ENDED = text("ended_at IS NOT NULL")
_GROUPED = text("group_id IS NOT NULL")
_GROUPED_AND_HELD = text("held AND group_id IS NOT NULL")
_STATUSES = ("running", "compensating", "stuck", "completed", "compensated")


def _newest_first(status: str) -> Index:
    """An index of the sagas of one status, however many there are of the others.

    One index for each, since that of a status alone is what PostgreSQL's planner takes for cheaper than the sagas of
    all statuses in order. A saga is in one of them at a time.
    """
    where = text(f"status = '{status}'")
    return Index(f"saga_{status}", "key", sqlite_where=where, postgresql_where=where)


class _Base(SQLModel, registry=_registry):
    """What the tables have in common."""


class SagaTable(_Base, table=True):
    """One row a saga.

    ``claimed_by`` and ``claimed_at`` keep coordinators from reading the same orphans at the same time. They decide
    nothing: whoever appends to the journal first drives the saga.
    """

    __tablename__ = "saga"  # pyright: ignore[reportAssignmentType] - typed as a function there, documented as a text
    __table_args__ = (
        Index("saga_queue", "owner", "rank", sqlite_where=_QUEUED, postgresql_where=_QUEUED),
        Index("saga_timed", "wake_at", sqlite_where=_TIMED, postgresql_where=_TIMED),
        Index("saga_ended", "ended_at", sqlite_where=_ENDED, postgresql_where=_ENDED),
        *map(_newest_first, _STATUSES),
    )

    key: int | None = Field(default=None, primary_key=True, sa_type=_Key)
    id: str = Field(sa_type=_Text, unique=True)
    name: str = Field(sa_type=_Text)
    version: str = Field(sa_type=_Text)
    fingerprint: bytes = Field(sa_type=LargeBinary)
    created_at: float = Field(sa_type=Float(53))
    owner: str = Field(sa_type=_Text)
    status: str = Field(sa_type=_Text)
    active: bool
    wake_at: float | None = Field(default=None, sa_type=Float(53))
    ended_at: float | None = Field(default=None, sa_type=Float(53))
    error: str | None = Field(default=None, sa_type=_Text)
    rank: float = Field(default=0.0, sa_type=Float(53), sa_column_kwargs={"server_default": "0"})
    claimed_by: str | None = Field(default=None, sa_type=_Text)
    claimed_at: float | None = Field(default=None, sa_type=Float(53))


class JournalTable(_Base, table=True):
    """One row a record. The key clusters a saga's records, and fences whoever appends second."""

    __tablename__ = "saga_journal"  # pyright: ignore[reportAssignmentType] - typed as a function there, documented as a text
    __table_args__ = {"sqlite_with_rowid": False}

    saga_id: str = Field(sa_type=_Text, primary_key=True)
    seq: int = Field(primary_key=True, sa_type=Integer)
    at: float = Field(sa_type=Float(53))
    kind: str = Field(sa_type=_Text)
    path: str = Field(sa_type=_Text)
    data: bytes = Field(sa_type=LargeBinary)
    digest: bytes = Field(sa_type=LargeBinary)


class MailTable(_Base, table=True):
    """Signals, cancels and operator's orders that the owner has not taken yet.

    Ids are never given twice: whoever read something that others have dealt with since must not delete what came later.
    """

    __tablename__ = "saga_mail"  # pyright: ignore[reportAssignmentType] - typed as a function there, documented as a text
    __table_args__ = ({"sqlite_autoincrement": True},)

    id: int | None = Field(default=None, primary_key=True, sa_type=_Key)
    saga_id: str = Field(sa_type=_Text, index=True)
    at: float = Field(sa_type=Float(53))
    kind: str = Field(sa_type=_Text)
    body: bytes = Field(sa_type=LargeBinary)


class LeaseTable(_Base, table=True):
    """Which coordinators are alive."""

    __tablename__ = "saga_lease"  # pyright: ignore[reportAssignmentType] - typed as a function there, documented as a text

    id: str = Field(sa_type=_Text, primary_key=True)
    name: str = Field(sa_type=_Text)
    expires_at: float = Field(sa_type=Float(53))
    renewed_at: float | None = Field(default=None, sa_type=Float(53))
    code: str | None = Field(default=None, sa_type=_Text)
    lifeline: int | None = Field(default=None, sa_type=BigInteger)


class LockTable(_Base, table=True):
    """Who holds semantic locks, and who waits for them. The lowest ticket of a name holds it."""

    __tablename__ = "saga_lock"  # pyright: ignore[reportAssignmentType] - typed as a function there, documented as a text
    __table_args__ = (
        UniqueConstraint("name", "saga_id"),
        Index("saga_lock_saga", "saga_id"),
        Index("saga_lock_line", "name", "ticket"),
    )

    ticket: int | None = Field(default=None, primary_key=True, sa_type=_Key)
    name: str = Field(sa_type=_Text)
    saga_id: str = Field(sa_type=_Text)
    path: str = Field(sa_type=_Text)
    asked_at: float = Field(sa_type=Float(53))
    told: bool = Field(default=False)


class LimitTable(_Base, table=True):
    """Limits that hold across processes: permits in the slots from 1, a bucket in slot 0, who waits below it."""

    __tablename__ = "saga_limit"  # pyright: ignore[reportAssignmentType] - typed as a function there, documented as a text

    name: str = Field(sa_type=_Text, primary_key=True)
    slot: int = Field(sa_type=Integer, primary_key=True)
    owner: str = Field(default="", sa_type=_Text)
    tokens: float = Field(default=0.0, sa_type=Float(53))
    at: float = Field(default=0.0, sa_type=Float(53))


class ScheduleTable(_Base, table=True):
    """Up to where schedules have been started."""

    __tablename__ = "saga_schedule"  # pyright: ignore[reportAssignmentType] - typed as a function there, documented as a text

    name: str = Field(sa_type=_Text, primary_key=True)
    spec: str = Field(sa_type=_Text)
    due_at: float = Field(sa_type=Float(53))
    paused: bool = Field(default=False)


class ArchiveTable(_Base, table=True):
    """The journals of sagas that ended long ago, each in one piece. Their rows in ``saga`` keep the ids taken."""

    __tablename__ = "saga_archive"  # pyright: ignore[reportAssignmentType] - typed as a function there, documented as a text

    key: int = Field(primary_key=True, sa_type=_Key, sa_column_kwargs={"autoincrement": False})
    journal: bytes = Field(sa_type=LargeBinary)


class InboxTable(_Base, table=True):
    """What a participant remembers of actions and their undos. The key is what they contend for."""

    __tablename__ = "saga_inbox"  # pyright: ignore[reportAssignmentType] - typed as a function there, documented as a text
    __table_args__ = ({"sqlite_with_rowid": False},)

    about: str = Field(sa_type=_Text, primary_key=True)
    kind: str = Field(sa_type=_Text, primary_key=True)
    step: str = Field(sa_type=_Text)
    fingerprint: bytes = Field(sa_type=LargeBinary)
    state: str = Field(sa_type=_Text)
    outcome: str | None = Field(default=None, sa_type=_Text)
    body: bytes | None = Field(default=None, sa_type=LargeBinary)
    owner: str = Field(sa_type=_Text)
    at: float = Field(sa_type=Float(53), index=True)


class MessageTable(_Base, table=True):
    """What waits in queues, or is in the hands of a consumer. Whatever is dealt with is deleted.

    Ids are never given twice, so that a receipt means one delivery for ever. ``ready_at`` is 0 for what can be
    delivered, a time for what comes later or is held until then, and nothing for what waits behind another message of
    its group and was found to: only one of a group has to be looked at.
    """

    __tablename__ = "saga_message"  # pyright: ignore[reportAssignmentType] - typed as a function there, documented as a text
    __table_args__ = (
        Index("saga_message_ready", "queue", "ready_at", "id"),
        Index("saga_message_group", "queue", "group_id", "id", sqlite_where=_GROUPED, postgresql_where=_GROUPED),
        Index(
            "saga_message_held", "queue", "group_id",
            sqlite_where=_GROUPED_AND_HELD, postgresql_where=_GROUPED_AND_HELD,
        ),
        {"sqlite_autoincrement": True},
    )  # fmt: skip

    id: int | None = Field(default=None, primary_key=True, sa_type=_Key)
    queue: str = Field(sa_type=_Text)
    ready_at: float | None = Field(default=None, sa_type=Float(53))
    held: bool = Field(default=False)
    count: int = Field(default=0, sa_type=Integer)
    group_id: str | None = Field(default=None, sa_type=_Text)
    dedup_id: str | None = Field(default=None, sa_type=_Text)
    headers: bytes = Field(sa_type=LargeBinary)
    body: bytes = Field(sa_type=LargeBinary)


class DeadLetterTable(_Base, table=True):
    """Messages that were delivered too often."""

    __tablename__ = "saga_dead_letter"  # pyright: ignore[reportAssignmentType] - typed as a function there, documented as a text
    __table_args__ = (Index("saga_dead_letter_queue", "queue", "id"),)

    id: int = Field(primary_key=True, sa_type=_Key, sa_column_kwargs={"autoincrement": False})
    queue: str = Field(sa_type=_Text)
    group_id: str | None = Field(default=None, sa_type=_Text)
    dedup_id: str | None = Field(default=None, sa_type=_Text)
    headers: bytes = Field(sa_type=LargeBinary)
    body: bytes = Field(sa_type=LargeBinary)
    count: int = Field(sa_type=Integer)
    reason: str = Field(sa_type=_Text)


class DedupTable(_Base, table=True):
    """Until when a second message with the same id is dropped."""

    __tablename__ = "saga_dedup"  # pyright: ignore[reportAssignmentType] - typed as a function there, documented as a text
    __table_args__ = (Index("saga_dedup_until", "until"),)

    queue: str = Field(sa_type=_Text, primary_key=True)
    dedup_id: str = Field(sa_type=_Text, primary_key=True)
    until: float = Field(sa_type=Float(53))


class OutboxTable(_Base, table=True):
    """Events that sagas have emitted, until they are sent."""

    __tablename__ = "saga_outbox"  # pyright: ignore[reportAssignmentType] - typed as a function there, documented as a text
    __table_args__ = ({"sqlite_autoincrement": True},)

    number: int | None = Field(default=None, primary_key=True, sa_type=_Key)
    id: str = Field(sa_type=_Text)
    saga_id: str = Field(sa_type=_Text)
    seq: int = Field(sa_type=Integer)
    at: float = Field(sa_type=Float(53))
    source: str = Field(sa_type=_Text)
    type: str = Field(sa_type=_Text)
    subject: str = Field(sa_type=_Text)
    trace: str = Field(sa_type=_Text)
    data: bytes = Field(sa_type=LargeBinary)


class ResponseTable(_Base, table=True):
    """Answers to requests that came over HTTP with an idempotency key; without a status while one is at work."""

    __tablename__ = "saga_response"  # pyright: ignore[reportAssignmentType] - typed as a function there, documented as a text

    key: str = Field(sa_type=_Text, primary_key=True)
    fingerprint: bytes = Field(sa_type=LargeBinary)
    token: str = Field(sa_type=_Text)
    at: float = Field(sa_type=Float(53), index=True)
    status: int | None = Field(default=None, sa_type=Integer)
    media_type: str | None = Field(default=None, sa_type=_Text)
    headers: bytes | None = Field(default=None, sa_type=LargeBinary)
    body: bytes | None = Field(default=None, sa_type=LargeBinary)
