"""How tests of pages look into a database from outside."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import anyio
import psycopg
from anyio import to_thread
from sqlalchemy import make_url

__all__ = ["PATIENCE", "ask", "plain", "until", "with_query"]

PATIENCE = 30.0


def with_query(url: str, **query: str) -> str:
    """Adds options to a URL."""
    return make_url(url).update_query_dict(query).render_as_string(hide_password=False)


def ask(url: str, statement: str, *values: object) -> list[Any]:
    """Runs a statement on a connection of its own."""
    with psycopg.connect(plain(url), autocommit=True) as connection:
        cursor = connection.execute(statement.encode(), values or None)
        return cursor.fetchall() if cursor.description else []


def plain(url: str) -> str:
    """Gives a URL as psycopg wants it."""
    return make_url(url).set(drivername="postgresql").render_as_string(hide_password=False)


async def until(check: Callable[[], object]) -> None:
    """Waits until a database says something."""
    with anyio.fail_after(PATIENCE):
        while not await to_thread.run_sync(check):  # noqa: ASYNC110 - a database gives no sign
            await anyio.sleep(0.02)
