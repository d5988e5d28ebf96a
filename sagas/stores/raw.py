"""Connections to PostgreSQL apart from SQLAlchemy's, for what lasts as long as the connection."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sagas.errors import StoreError

if TYPE_CHECKING:
    from types import ModuleType

    import psycopg
    from sqlalchemy import URL

__all__ = ["connect", "driver", "failure"]

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
    """Connects; every statement is a transaction by itself.

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
        application_name=purpose,
        connect_timeout=_CONNECT_TIMEOUT,
    )
