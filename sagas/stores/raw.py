"""Connections to PostgreSQL apart from SQLAlchemy's, for what lasts as long as the connection."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sagas.errors import StoreError

if TYPE_CHECKING:
    from types import ModuleType

    import psycopg
    from sqlalchemy import URL, Connection

__all__ = ["check_encoding", "connect", "driver", "failure", "is_pooled", "own_url", "shown_url"]

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


def shown_url(url: URL) -> str:
    """Writes a URL for people, without the passwords that it may have in any place."""
    hidden = {name: "***" for name in ("password", "sslpassword") if name in url.query}
    return url.update_query_dict(hidden).render_as_string(hide_password=True)


def own_url(url: URL) -> URL:
    """Leaves to libpq what is libpq's; texts are exchanged in UTF-8, whatever the environment or the database say."""
    own = url.difference_update_query(["notify", "synchronous_commit"]).set(drivername="postgresql+psycopg")
    return own.update_query_dict({"client_encoding": "utf8"})


def check_encoding(connection: Connection, url: str) -> None:
    """Makes sure that a database can keep any text.

    Raises:
        StoreError: It cannot.
    """
    encoding = connection.exec_driver_sql("SHOW server_encoding").scalar_one()
    if encoding != "UTF8":
        raise StoreError(
            f"the database {url} keeps texts in {encoding}, which not every text can be written in; create one with "
            "CREATE DATABASE … ENCODING 'UTF8' TEMPLATE template0, and use that"
        )


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
