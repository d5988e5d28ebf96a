"""The connection that writes journals, and the doubt about what the server still has when it was lost."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from sagas.stores.port import StoreRestarted
from sagas.stores.raw import is_pooled

if TYPE_CHECKING:
    import psycopg
    from sqlalchemy import Connection, Engine

__all__ = ["Stream"]

# psycopg's own: a statement that comes so often is worth being kept by the server.
_PREPARE_AFTER = 5
# So long after the stream was opened anew, in seconds, every record is checked to continue what is there: what was read
# from a server before, or is still under way, may be written much later.
_WARY = 60.0
# Rows are found by their keys, always. A plan that was made while a table was small, or for many rows, would read all
# of it, and PostgreSQL keeps such plans until it has counted the rows again, which may take it a minute.
_PLAN_BY_KEY = "SET enable_seqscan = off; SET enable_hashjoin = off; SET enable_mergejoin = off"


class Stream:
    """A connection on which every statement is a transaction. Whoever uses it holds the store's lock.

    Args:
        url: Of the database, for messages.
    """

    def __init__(self, url: str) -> None:
        self._url = url
        self._connection: Connection | None = None
        self._lost = self._pooled = self._doubtful = False
        self._wary_until = 0.0

    def connection(self, engine: Engine) -> Connection:
        """Gives the connection, opened anew after an error."""
        if self._connection is None:
            connection = engine.connect().execution_options(isolation_level="AUTOCOMMIT")
            self._pooled = not _keep_plans(connection)
            self._connection = connection
            if self._lost:
                self._lost, self._doubtful, self._wary_until = False, True, time.monotonic() + _WARY
        return self._connection

    @property
    def is_wary(self) -> bool:
        """Says whether records are to be checked to continue what is there."""
        return self._pooled or time.monotonic() < self._wary_until

    def note_doubt(self) -> None:
        """Tells once, on a connection that was opened anew, that commits may have been lost.

        Any lost connection counts. The server's start tells less: it stays the same when the server recovers from the
        crash of one of its processes, which loses commits as well if they did not wait for the disk.

        Raises:
            StoreRestarted: It may be so.
        """
        doubtful, self._doubtful = self._doubtful, False
        if doubtful:
            raise StoreRestarted(f"the connection to {self._url} was lost; what the server still has is to be checked")

    def drop(self, *, lost: bool = False) -> None:
        """Lets go of the connection, which may be broken."""
        self._lost = self._lost or lost
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.invalidate()
            connection.close()


def _keep_plans(connection: Connection) -> bool:
    """Has the server keep statements and plans, unless a pooler would hand them to the connection's next user.

    Returns:
        Whether there is none, so that this connection ends when the server's does.
    """
    raw: psycopg.Connection | None = connection.connection.driver_connection
    assert raw is not None, "it was opened just now"
    if is_pooled(raw):
        return False
    connection.exec_driver_sql(_PLAN_BY_KEY)
    raw.prepare_threshold = _PREPARE_AFTER
    return True
