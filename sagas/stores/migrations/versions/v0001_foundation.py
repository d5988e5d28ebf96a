"""Sagas, their journals, their mail, and the leases of coordinators."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

_KEY = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
_OPEN = sa.text("ended_at IS NULL")


def upgrade() -> None:
    """Creates the tables."""
    op.create_table(
        "saga",
        sa.Column("key", _KEY, primary_key=True),
        sa.Column("id", sa.String(), nullable=False, unique=True),
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("version", sa.String(), nullable=False),
        sa.Column("fingerprint", sa.LargeBinary(), nullable=False),
        sa.Column("created_at", sa.Float(53), nullable=False),
        sa.Column("owner", sa.String(), nullable=False),
        sa.Column("status", sa.String(), nullable=False),
        sa.Column("active", sa.Boolean(), nullable=False),
        sa.Column("wake_at", sa.Float(53)),
        sa.Column("ended_at", sa.Float(53)),
        sa.Column("error", sa.String()),
    )
    op.create_index("saga_open", "saga", ["active", "wake_at"], sqlite_where=_OPEN, postgresql_where=_OPEN)
    op.create_table(
        "saga_journal",
        sa.Column("saga_id", sa.String(), primary_key=True),
        sa.Column("seq", sa.Integer(), primary_key=True),
        sa.Column("at", sa.Float(53), nullable=False),
        sa.Column("kind", sa.String(), nullable=False),
        sa.Column("path", sa.String(), nullable=False),
        sa.Column("data", sa.LargeBinary(), nullable=False),
        sa.Column("digest", sa.LargeBinary(), nullable=False),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "saga_mail",
        sa.Column("id", _KEY, primary_key=True),
        sa.Column("saga_id", sa.String(), nullable=False, index=True),
        sa.Column("at", sa.Float(53), nullable=False),
        sa.Column("kind", sa.String(), nullable=False),
        sa.Column("body", sa.LargeBinary(), nullable=False),
    )
    op.create_table(
        "saga_lease",
        sa.Column("id", sa.String(), primary_key=True),
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("expires_at", sa.Float(53), nullable=False),
    )


def downgrade() -> None:
    """Drops the tables."""
    for table in ("saga_lease", "saga_mail", "saga_journal", "saga"):
        op.drop_table(table)
