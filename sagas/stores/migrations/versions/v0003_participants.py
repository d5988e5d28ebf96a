"""What participants need: an inbox that remembers requests.

Only adds, so that processes with the release before go on working while these are replaced one by one.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

_TEXT = sa.String().with_variant(sa.String(collation="C"), "postgresql")


def upgrade() -> None:
    """Creates what is new."""
    op.create_table(
        "saga_inbox",
        sa.Column("about", _TEXT, primary_key=True),
        sa.Column("kind", _TEXT, primary_key=True),
        sa.Column("step", _TEXT, nullable=False),
        sa.Column("fingerprint", sa.LargeBinary(), nullable=False),
        sa.Column("state", _TEXT, nullable=False),
        sa.Column("outcome", _TEXT),
        sa.Column("body", sa.LargeBinary()),
        sa.Column("owner", _TEXT, nullable=False),
        sa.Column("at", sa.Float(53), nullable=False),
        sqlite_with_rowid=False,
    )
    op.create_index("ix_saga_inbox_at", "saga_inbox", ["at"])


def downgrade() -> None:
    """Drops what was added."""
    op.drop_table("saga_inbox")
