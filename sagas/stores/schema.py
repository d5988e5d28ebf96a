"""Makes sure that a database has the tables that this version of the library needs.

Migrations only add, as long as that will do. So two versions are kept: which migrations were made, and which is the
oldest that a library may know and still work with the tables. While a fleet is replaced process by process, the
release before goes on with tables that are newer than itself.
"""

from __future__ import annotations

import logging
import shlex
import threading
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from sqlalchemy import inspect, make_url

from sagas.errors import SchemaMismatch
from sagas.stores.raw import shown_url

if TYPE_CHECKING:
    from collections.abc import Generator

    from sqlalchemy import URL, Connection

__all__ = ["HEAD", "MIGRATION_TABLE", "VERSION_TABLE", "current", "ensure", "migrating", "upgrade"]

# Apart from alembic's default, since the user's own migrations may live in the same database.
MIGRATION_TABLE = "saga_migration"
# The oldest version that will do. The first release kept its migrations here.
VERSION_TABLE = "saga_schema"
HEAD = "0008"
_KNOWN = ("0001", "0002", "0003", "0004", "0005", "0006", "0007", "0008")
_OLDEST_THAT_WORKS = "0001"
# These tell what alembic does, as it is imported and as it migrates.
_TALKATIVE = ("alembic.runtime.plugins", "alembic.runtime.migration")
# What alembic is at work on is kept in its modules, once for the process. Whoever asks for this has a transaction in
# its database already, and whoever has it asks for nothing else, so that they never wait for each other.
_alone = threading.Lock()


def current(connection: Connection) -> str | None:
    """Reads the version of the tables; ``None`` if there are none."""
    return _version(connection, MIGRATION_TABLE) or _version(connection, VERSION_TABLE)


def _version(connection: Connection, table: str) -> str | None:
    """Reads a table of one version."""
    if not inspect(connection).has_table(table):
        return None
    row = connection.exec_driver_sql(f"SELECT version_num FROM {table}").first()
    return None if row is None else str(row[0])


def migrating(url: str | URL) -> str:
    """Writes the command that brings tables up to date, for a shell; without a password, which would be in a log."""
    parsed = make_url(url)
    if parsed.password is not None or "password" in parsed.query:
        return "`sagas migrate --store URL` with the same URL and its password, or with it in SAGAS_STORE"
    return f"`sagas migrate --store {shlex.quote(str(url))}`"


def upgrade(connection: Connection) -> None:
    """Runs the migrations that are missing, in the transaction of the connection."""
    with _alone, _quiet():
        _upgrade(connection)
    connection.exec_driver_sql(f"CREATE TABLE IF NOT EXISTS {VERSION_TABLE} (version_num VARCHAR(32) NOT NULL)")
    connection.exec_driver_sql(f"DELETE FROM {VERSION_TABLE}")
    connection.exec_driver_sql(f"INSERT INTO {VERSION_TABLE} (version_num) VALUES ('{_OLDEST_THAT_WORKS}')")


def _upgrade(connection: Connection) -> None:
    """Has alembic run them."""
    from alembic import command
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations"))
    config.attributes["connection"] = connection
    found = current(connection)
    if found is not None and not inspect(connection).has_table(MIGRATION_TABLE):
        command.stamp(config, found)
    command.upgrade(config, "head")


@contextmanager
def _quiet() -> Generator[None]:
    """Keeps what alembic tells out of the user's log; what it warns of, and what it tells other threads, stays.

    By filters and not by levels, which are the user's.
    """
    here = threading.get_ident()

    def passes(record: logging.LogRecord) -> bool:
        return record.levelno >= logging.WARNING or record.thread != here

    loggers = [logging.getLogger(name) for name in _TALKATIVE]
    for logger in loggers:
        logger.addFilter(passes)
    try:
        yield
    finally:
        for logger in loggers:
            logger.removeFilter(passes)


def ensure(connection: Connection, *, migrate: bool) -> None:
    """Checks the version of the tables, and brings it up to date if asked to.

    Raises:
        SchemaMismatch: It does not fit, and may not be or cannot be changed.
    """
    found = current(connection)
    if found == HEAD:
        return
    if found is not None and found not in _KNOWN:
        oldest = _version(connection, VERSION_TABLE)
        if oldest in _KNOWN:
            return  # a newer library has added to them since, and says that this one can go on
        raise SchemaMismatch(
            f"the tables in {shown_url(connection.engine.url)} are of version {found}, which is newer than this "
            f"library knows ({HEAD}), and need {oldest} at least. Install the newer version of sagakit"
        )
    if not migrate:
        raise SchemaMismatch(
            f"the tables in {shown_url(connection.engine.url)} are of version {found or 'none'}, this library needs "
            f"{HEAD}. Run {migrating(connection.engine.url)}"
        )
    upgrade(connection)
