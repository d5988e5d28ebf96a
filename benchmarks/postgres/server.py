"""The PostgreSQL server that everything is measured on."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import psycopg

    from tests.support.postgres import Databases

# What an operator would set first. The rest are PostgreSQL's defaults, and the same for everybody.
_SETTINGS = {"shared_buffers": "1GB", "max_wal_size": "8GB"}
_SHOWN = ("fsync", "synchronous_commit", "full_page_writes", "autovacuum", *_SETTINGS)


@contextmanager
def databases(directory: Path) -> Iterator[Databases]:
    """A server that is started for this run, or the one that `SAGAS_POSTGRES_URL` names.

    Args:
        directory: Where its data is kept: the disk that is measured.

    Raises:
        ImportError: What starts a server is not installed.
    """
    from tests.support.postgres import Databases, PostgresServer

    if url := os.environ.get("SAGAS_POSTGRES_URL"):
        yield Databases(url)
        return
    with PostgresServer(_SETTINGS, parent=directory) as server:
        yield server


def connect(url: str) -> psycopg.Connection:
    """Connects the bare driver; every statement is a transaction by itself."""
    import psycopg

    return psycopg.connect(url.replace("postgresql+psycopg:", "postgresql:", 1), autocommit=True)


def facts(url: str) -> dict[str, Any]:
    """The server's version and the settings that matter."""
    query = "SELECT name, current_setting(name) FROM pg_settings WHERE name = ANY(%s)"
    with connect(url) as connection:
        settings: dict[str, str] = dict(connection.execute(query, (list(_SHOWN),)).fetchall())
        version = connection.info.parameter_status("server_version")
    return {"version": version} | {name: settings[name] for name in _SHOWN}
