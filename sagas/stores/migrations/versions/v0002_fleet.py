"""What many coordinators on one journal need: claims, locks, limits, schedules, and an archive.

Only adds, so that processes with the release before go on working while these are replaced one by one.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

_KEY = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
_TEXT = sa.String().with_variant(sa.String(collation="C"), "postgresql")
_TIME = sa.Float(53)
_STATUSES = ("running", "compensating", "stuck", "completed", "compensated")
_INDEXES = (
    ("saga_queue", ["owner", "rank"], sa.text("active AND ended_at IS NULL")),
    ("saga_timed", ["wake_at"], sa.text("wake_at IS NOT NULL AND ended_at IS NULL")),
    *((f"saga_{status}", ["key"], sa.text(f"status = '{status}'")) for status in _STATUSES),
)


def upgrade() -> None:
    """Adds columns, indexes and tables. An index is no promise, so the one that the new ones replace may go."""
    op.add_column("saga", sa.Column("rank", _TIME, nullable=False, server_default="0"))
    op.add_column("saga", sa.Column("claimed_by", _TEXT))
    op.add_column("saga", sa.Column("claimed_at", _TIME))
    op.add_column("saga_lease", sa.Column("renewed_at", _TIME))
    op.add_column("saga_lease", sa.Column("code", _TEXT))
    op.add_column("saga_lease", sa.Column("lifeline", sa.BigInteger()))
    for name, columns, where in _INDEXES:
        op.create_index(name, "saga", columns, sqlite_where=where, postgresql_where=where)
    op.drop_index("saga_open", "saga")
    _create_tables()


def _create_tables() -> None:
    """Creates what is new."""
    op.create_table(
        "saga_lock",
        sa.Column("ticket", _KEY, primary_key=True),
        sa.Column("name", _TEXT, nullable=False),
        sa.Column("saga_id", _TEXT, nullable=False),
        sa.Column("path", _TEXT, nullable=False),
        sa.Column("asked_at", _TIME, nullable=False),
        sa.Column("told", sa.Boolean(), nullable=False),
        sa.UniqueConstraint("name", "saga_id"),
    )
    op.create_index("saga_lock_saga", "saga_lock", ["saga_id"])
    op.create_index("saga_lock_line", "saga_lock", ["name", "ticket"])
    op.create_table(
        "saga_limit",
        sa.Column("name", _TEXT, primary_key=True),
        sa.Column("slot", sa.Integer(), primary_key=True),
        sa.Column("owner", _TEXT, nullable=False),
        sa.Column("tokens", _TIME, nullable=False),
        sa.Column("at", _TIME, nullable=False),
    )
    op.create_table(
        "saga_schedule",
        sa.Column("name", _TEXT, primary_key=True),
        sa.Column("spec", _TEXT, nullable=False),
        sa.Column("due_at", _TIME, nullable=False),
        sa.Column("paused", sa.Boolean(), nullable=False),
    )
    op.create_table(
        "saga_archive",
        sa.Column("key", _KEY, primary_key=True, autoincrement=False),
        sa.Column("journal", sa.LargeBinary(), nullable=False),
    )


def downgrade() -> None:
    """Drops what was added."""
    for table in ("saga_archive", "saga_schedule", "saga_limit", "saga_lock"):
        op.drop_table(table)
    for name, _, _ in _INDEXES:
        op.drop_index(name, "saga")
    where = sa.text("ended_at IS NULL")
    op.create_index("saga_open", "saga", ["active", "wake_at"], sqlite_where=where, postgresql_where=where)
    for table, columns in (
        ("saga", ("rank", "claimed_by", "claimed_at")),
        ("saga_lease", ("renewed_at", "code", "lifeline")),
    ):
        for column in columns:
            op.drop_column(table, column)
