"""Queues in the same database. Only adds, as the migration before it."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

_KEY = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
_TEXT = sa.String().with_variant(sa.String(collation="C"), "postgresql")
_TIME = sa.Float(53)
_GROUPED = sa.text("group_id IS NOT NULL")
_GROUPED_AND_HELD = sa.text("held AND group_id IS NOT NULL")


def upgrade() -> None:
    """Creates the tables."""
    op.create_table(
        "saga_message",
        sa.Column("id", _KEY, primary_key=True),
        sa.Column("queue", _TEXT, nullable=False),
        sa.Column("ready_at", _TIME),
        sa.Column("held", sa.Boolean(), nullable=False),
        sa.Column("count", sa.Integer(), nullable=False),
        *_content(),
        sqlite_autoincrement=True,
    )
    op.create_index("saga_message_ready", "saga_message", ["queue", "ready_at", "id"])
    for name, columns, where in (
        ("saga_message_group", ["queue", "group_id", "id"], _GROUPED),
        ("saga_message_held", ["queue", "group_id"], _GROUPED_AND_HELD),
    ):
        op.create_index(name, "saga_message", columns, sqlite_where=where, postgresql_where=where)
    op.create_table(
        "saga_dead_letter",
        sa.Column("id", _KEY, primary_key=True, autoincrement=False),
        sa.Column("queue", _TEXT, nullable=False),
        *_content(),
        sa.Column("count", sa.Integer(), nullable=False),
        sa.Column("reason", _TEXT, nullable=False),
    )
    op.create_index("saga_dead_letter_queue", "saga_dead_letter", ["queue", "id"])
    op.create_table(
        "saga_dedup",
        sa.Column("queue", _TEXT, primary_key=True),
        sa.Column("dedup_id", _TEXT, primary_key=True),
        sa.Column("until", _TIME, nullable=False),
    )
    op.create_index("saga_dedup_until", "saga_dedup", ["until"])


def _content() -> tuple[sa.Column[object], ...]:
    """What is in a message."""
    return (
        sa.Column("group_id", _TEXT),
        sa.Column("dedup_id", _TEXT),
        sa.Column("headers", sa.LargeBinary(), nullable=False),
        sa.Column("body", sa.LargeBinary(), nullable=False),
    )


def downgrade() -> None:
    """Drops them."""
    for table in ("saga_dedup", "saga_dead_letter", "saga_message"):
        op.drop_table(table)
