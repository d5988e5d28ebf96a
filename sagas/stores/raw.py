"""Connections to PostgreSQL apart from SQLAlchemy's, for what lasts as long as the connection."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sagas.errors import StoreError

if TYPE_CHECKING:
    from types import ModuleType

    import psycopg
    from sqlalchemy import URL

__all__ = ["connect", "driver", "failure", "is_pooled"]

_CONNECT_TIMEOUT = 10


def driver() -> ModuleType:
    """Gives psycopg.

    Raises:
        StoreError: It is not installed.
    """
    try:
        import psycopg
    except ImportError as error:
        raise StoreError("PostgreSQL needs psycopg 3: pip install 'sagakit[postgres]'") from error
    return psycopg


def failure() -> type[psycopg.Error]:
    """Gives what psycopg raises."""
    import psycopg

    return psycopg.Error


def connect(url: URL, purpose: str) -> psycopg.Connection:
    """Connects; every statement is a transaction by itself, and none is prepared, for poolers that would lose it.

    Args:
        url: SQLAlchemy's.
        purpose: What the server's list of connections shows.

    Raises:
        psycopg.OperationalError: The server is not there.
    """
    import psycopg

    return psycopg.connect(
        url.set(drivername="postgresql").render_as_string(hide_password=False),
        autocommit=True,
        prepare_threshold=None,
        application_name=purpose,
        connect_timeout=_CONNECT_TIMEOUT,
    )


def is_pooled(connection: psycopg.Connection) -> bool:
    """Says whether a pooler stands before the server, so that the next transaction may be on another connection.

    A pooler makes up the number of the server's process that a client is told on connecting.
    """
    row = connection.execute("SELECT pg_backend_pid()").fetchone()
    return row is None or row[0] != connection.info.backend_pid
