"""Makes sure that a database has the tables that this version of the library needs."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from sqlalchemy import inspect

from sagas.errors import SchemaMismatch

if TYPE_CHECKING:
    from sqlalchemy import Connection

__all__ = ["HEAD", "VERSION_TABLE", "current", "ensure", "upgrade"]

# Apart from alembic's default, since the user's own migrations may live in the same database.
VERSION_TABLE = "saga_schema"
HEAD = "0001"
_KNOWN = ("0001",)


def current(connection: Connection) -> str | None:
    """Reads the version of the tables; ``None`` if there are none."""
    if not inspect(connection).has_table(VERSION_TABLE):
        return None
    row = connection.exec_driver_sql(f"SELECT version_num FROM {VERSION_TABLE}").first()
    return None if row is None else str(row[0])


def upgrade(connection: Connection) -> None:
    """Runs the migrations that are missing, in the transaction of the connection."""
    from alembic import command
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations"))
    config.attributes["connection"] = connection
    command.upgrade(config, "head")


def ensure(connection: Connection, *, migrate: bool) -> None:
    """Checks the version of the tables, and brings it up to date if asked to.

    Raises:
        SchemaMismatch: It does not fit, and may not be or cannot be changed.
    """
    found = current(connection)
    if found == HEAD:
        return
    if found is not None and found not in _KNOWN:
        raise SchemaMismatch(
            f"the tables in {connection.engine.url} are of version {found}, which is newer than this library knows "
            f"({HEAD}). Install the newer version of sagakit"
        )
    if not migrate:
        raise SchemaMismatch(
            f"the tables in {connection.engine.url} are of version {found or 'none'}, this library needs {HEAD}. "
            f"Run `sagas migrate --store {connection.engine.url}`"
        )
    upgrade(connection)
