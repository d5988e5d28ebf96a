"""The journal's tables, as SQLModel classes with a registry of their own, apart from the user's models."""

from __future__ import annotations

from sqlalchemy import BigInteger, Float, Index, Integer, LargeBinary, String, text
from sqlalchemy.orm import registry
from sqlmodel import Field, SQLModel

__all__ = ["JournalTable", "LeaseTable", "MailTable", "SagaTable", "metadata"]

_registry = registry()
metadata = _registry.metadata

# SQLite numbers rows by itself only if the key is declared INTEGER.
_Key = BigInteger().with_variant(Integer(), "sqlite")
_OPEN = text("ended_at IS NULL")


class _Base(SQLModel, registry=_registry):
    """What the tables have in common."""


class SagaTable(_Base, table=True):
    """One row a saga."""

    __tablename__ = "saga"  # pyright: ignore[reportAssignmentType] - typed as a function there, documented as a text
    __table_args__ = (Index("saga_open", "active", "wake_at", sqlite_where=_OPEN, postgresql_where=_OPEN),)

    key: int | None = Field(default=None, primary_key=True, sa_type=_Key)
    id: str = Field(sa_type=String, unique=True)
    name: str = Field(sa_type=String)
    version: str = Field(sa_type=String)
    fingerprint: bytes = Field(sa_type=LargeBinary)
    created_at: float = Field(sa_type=Float(53))
    owner: str = Field(sa_type=String)
    status: str = Field(sa_type=String)
    active: bool
    wake_at: float | None = Field(default=None, sa_type=Float(53))
    ended_at: float | None = Field(default=None, sa_type=Float(53))
    error: str | None = Field(default=None, sa_type=String)


class JournalTable(_Base, table=True):
    """One row a record. The key clusters a saga's records, and fences whoever appends second."""

    __tablename__ = "saga_journal"  # pyright: ignore[reportAssignmentType] - typed as a function there, documented as a text
    __table_args__ = {"sqlite_with_rowid": False}

    saga_id: str = Field(sa_type=String, primary_key=True)
    seq: int = Field(primary_key=True, sa_type=Integer)
    at: float = Field(sa_type=Float(53))
    kind: str = Field(sa_type=String)
    path: str = Field(sa_type=String)
    data: bytes = Field(sa_type=LargeBinary)
    digest: bytes = Field(sa_type=LargeBinary)


class MailTable(_Base, table=True):
    """Signals, cancels and operator's orders that the owner has not taken yet."""

    __tablename__ = "saga_mail"  # pyright: ignore[reportAssignmentType] - typed as a function there, documented as a text

    id: int | None = Field(default=None, primary_key=True, sa_type=_Key)
    saga_id: str = Field(sa_type=String, index=True)
    at: float = Field(sa_type=Float(53))
    kind: str = Field(sa_type=String)
    body: bytes = Field(sa_type=LargeBinary)


class LeaseTable(_Base, table=True):
    """Which coordinators are alive."""

    __tablename__ = "saga_lease"  # pyright: ignore[reportAssignmentType] - typed as a function there, documented as a text

    id: str = Field(sa_type=String, primary_key=True)
    name: str = Field(sa_type=String)
    expires_at: float = Field(sa_type=Float(53))
