"""What people ask about many sagas: which ended lately. Only adds, as the migrations before it."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None

_ENDED = sa.text("ended_at IS NOT NULL")


def upgrade() -> None:
    """Creates the index."""
    op.create_index("saga_ended", "saga", ["ended_at"], sqlite_where=_ENDED, postgresql_where=_ENDED)


def downgrade() -> None:
    """Drops what was added."""
    op.drop_index("saga_ended", "saga")
