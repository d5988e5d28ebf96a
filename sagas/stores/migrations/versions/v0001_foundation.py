"""Sagas, their journals, their mail, and the leases of coordinators."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

_KEY = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
_TEXT = sa.String().with_variant(sa.String(collation="C"), "postgresql")
_OPEN = sa.text("ended_at IS NULL")


def upgrade() -> None:
    """Creates the tables."""
    op.create_table(
        "saga",
        sa.Column("key", _KEY, primary_key=True),
        sa.Column("id", _TEXT, nullable=False, unique=True),
        sa.Column("name", _TEXT, nullable=False),
        sa.Column("version", _TEXT, nullable=False),
        sa.Column("fingerprint", sa.LargeBinary(), nullable=False),
        sa.Column("created_at", sa.Float(53), nullable=False),
        sa.Column("owner", _TEXT, nullable=False),
        sa.Column("status", _TEXT, nullable=False),
        sa.Column("active", sa.Boolean(), nullable=False),
        sa.Column("wake_at", sa.Float(53)),
        sa.Column("ended_at", sa.Float(53)),
        sa.Column("error", _TEXT),
    )
    op.create_index("saga_open", "saga", ["active", "wake_at"], sqlite_where=_OPEN, postgresql_where=_OPEN)
    op.create_table(
        "saga_journal",
        sa.Column("saga_id", _TEXT, primary_key=True),
        sa.Column("seq", sa.Integer(), primary_key=True),
        sa.Column("at", sa.Float(53), nullable=False),
        sa.Column("kind", _TEXT, nullable=False),
        sa.Column("path", _TEXT, nullable=False),
        sa.Column("data", sa.LargeBinary(), nullable=False),
        sa.Column("digest", sa.LargeBinary(), nullable=False),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "saga_mail",
        sa.Column("id", _KEY, primary_key=True),
        sa.Column("saga_id", _TEXT, nullable=False, index=True),
        sa.Column("at", sa.Float(53), nullable=False),
        sa.Column("kind", _TEXT, nullable=False),
        sa.Column("body", sa.LargeBinary(), nullable=False),
    )
    op.create_table(
        "saga_lease",
        sa.Column("id", _TEXT, primary_key=True),
        sa.Column("name", _TEXT, nullable=False),
        sa.Column("expires_at", sa.Float(53), nullable=False),
    )


def downgrade() -> None:
    """Drops the tables."""
    for table in ("saga_lease", "saga_mail", "saga_journal", "saga"):
        op.drop_table(table)
