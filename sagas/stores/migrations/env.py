"""Runs migrations on the connection that ``sagas.stores.schema`` hands over."""

from __future__ import annotations

from alembic import context

from sagas.stores.schema import MIGRATION_TABLE
from sagas.stores.tables import metadata

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=metadata,
    version_table=MIGRATION_TABLE,
    render_as_batch=True,
)
with context.begin_transaction():
    context.run_migrations()
