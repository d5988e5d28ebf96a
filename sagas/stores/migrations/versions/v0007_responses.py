"""Responses that are kept by their idempotency keys. Only adds, as the migrations before it."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None

_TEXT = sa.String().with_variant(sa.String(collation="C"), "postgresql")


def upgrade() -> None:
    """Creates the table."""
    op.create_table(
        "saga_response",
        sa.Column("key", _TEXT, primary_key=True),
        sa.Column("fingerprint", sa.LargeBinary(), nullable=False),
        sa.Column("token", _TEXT, nullable=False),
        sa.Column("at", sa.Float(53), nullable=False),
        sa.Column("status", sa.Integer()),
        sa.Column("media_type", _TEXT),
        sa.Column("headers", sa.LargeBinary()),
        sa.Column("body", sa.LargeBinary()),
    )
    op.create_index("ix_saga_response_at", "saga_response", ["at"])


def downgrade() -> None:
    """Drops what was added."""
    op.drop_table("saga_response")
