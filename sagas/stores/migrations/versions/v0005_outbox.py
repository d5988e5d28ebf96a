"""Events that go out with the records that emit them. Only adds, as the migrations before it."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

_KEY = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
_TEXT = sa.String().with_variant(sa.String(collation="C"), "postgresql")


def upgrade() -> None:
    """Creates the table."""
    op.create_table(
        "saga_outbox",
        sa.Column("number", _KEY, primary_key=True),
        sa.Column("id", _TEXT, nullable=False),
        sa.Column("saga_id", _TEXT, nullable=False),
        sa.Column("seq", sa.Integer(), nullable=False),
        sa.Column("at", sa.Float(53), nullable=False),
        *(sa.Column(name, _TEXT, nullable=False) for name in ("source", "type", "subject", "trace")),
        sa.Column("data", sa.LargeBinary(), nullable=False),
        sqlite_autoincrement=True,
    )


def downgrade() -> None:
    """Drops what was added."""
    op.drop_table("saga_outbox")
