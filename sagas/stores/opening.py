"""Finds the store that a URL means."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from typing_extensions import TypeIs

from sagas.errors import StoreError

if TYPE_CHECKING:
    from sagas.stores.port import Store

__all__ = ["is_store", "store_for", "without_password"]

_EXAMPLES = "'sqlite:///orders.db', 'postgresql+psycopg://user@host/database' or 'memory:'"


def is_store(store: str | Store) -> TypeIs[Store]:
    """Tells a store from the URL of one, by what it can do."""
    return hasattr(store, "commit")


def store_for(url: str) -> Store:
    """Makes the store for a URL; it is not opened yet.

    Args:
        url: ``sqlite:///orders.db``, ``postgresql+psycopg://user@host/database``, or ``memory:`` for nothing that
            lasts.

    Raises:
        StoreError: No store goes by this URL.
    """
    if not isinstance(url, str):
        raise StoreError(
            f"{url!r} is neither a URL nor a store; use 'sqlite:///orders.db', 'postgresql+psycopg://…' or 'memory:'"
        )
    if url in ("memory:", "memory://"):
        from sagas.stores.memory import MemoryStore

        return MemoryStore(url)
    if url.startswith(("sqlite:", "sqlite+pysqlite:")):
        from sagas.stores.sqlite import SqliteStore

        return SqliteStore(url)
    if url.startswith(("postgresql:", "postgresql+psycopg:", "postgres:")):
        from sagas.stores.postgres import PostgresStore

        return PostgresStore(url.replace("postgres:", "postgresql:", 1) if url.startswith("postgres:") else url)
    raise StoreError(f"no store goes by {without_password(url)!r}; use {_EXAMPLES}")


def without_password(url: str) -> str:
    """Hides what may be a password in a text that is no URL of ours, and may be meant as one."""
    return re.sub(r"password=[^&]*", "password=***", re.sub(r"://.*@", "://***@", url))
