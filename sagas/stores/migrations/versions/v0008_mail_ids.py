"""Ids of mail that SQLite never gives twice, so that whoever read it long ago takes nothing newer for it.

Changes nothing that the release before it could see. PostgreSQL's sequences have never given one twice.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None

_COLUMNS = "id, saga_id, at, kind, body"


def upgrade() -> None:
    """Writes the table anew, which is SQLite's only way to say so."""
    _rebuild(never_twice=True)


def downgrade() -> None:
    """Writes the table as it was."""
    _rebuild(never_twice=False)


def _rebuild(*, never_twice: bool) -> None:
    """Exchanges the table, with what is in it."""
    if op.get_context().dialect.name != "sqlite":
        return
    op.create_table(
        "saga_mail_new",
        sa.Column("id", sa.Integer(), primary_key=True),
        sa.Column("saga_id", sa.String(), nullable=False),
        sa.Column("at", sa.Float(53), nullable=False),
        sa.Column("kind", sa.String(), nullable=False),
        sa.Column("body", sa.LargeBinary(), nullable=False),
        sqlite_autoincrement=never_twice,
    )
    op.execute(f"INSERT INTO saga_mail_new ({_COLUMNS}) SELECT {_COLUMNS} FROM saga_mail ORDER BY id")
    op.drop_table("saga_mail")
    op.rename_table("saga_mail_new", "saga_mail")
    op.create_index("ix_saga_mail_saga_id", "saga_mail", ["saga_id"])
