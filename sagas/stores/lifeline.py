"""Tells within seconds that a process on any machine is dead: by a lock that it holds as long as it is connected.

The server takes it back when the connection ends, and a killed process's connections are ended by its operating
system. A connection may also be cut while its process lives; it connects again and takes the lock anew, well within
the time that others wait before they believe it dead.
"""

from __future__ import annotations

import hashlib
import logging
from typing import TYPE_CHECKING

from sagas.stores.raw import connect, failure, is_pooled

if TYPE_CHECKING:
    import psycopg
    from sqlalchemy import URL

__all__ = ["Lifeline"]

logger = logging.getLogger("sagas.stores")


class Lifeline:
    """A lock in PostgreSQL that says: this process is alive.

    Args:
        url: Of the database.
        owner: The coordinator.

    Attributes:
        key: Of the lock.
    """

    def __init__(self, url: URL, owner: str) -> None:
        self._url = url
        self._pooled = False
        self._told = False
        self._connection: psycopg.Connection | None = None
        self.key = int.from_bytes(hashlib.blake2b(owner.encode(), digest_size=8).digest()) >> 1

    def hold(self) -> bool:
        """Makes sure that the lock is held, and says so. A pooler's connections do not end with the process."""
        if self._pooled:
            return False
        try:
            if self._connection is None:
                self._connection = connect(self._url, "sagas is alive")
                self._pooled = is_pooled(self._connection)
                if self._pooled:
                    self.let_go()
                    return False
                self._connection.execute("SELECT pg_advisory_lock_shared(%s)", (self.key,))
            self._connection.execute("SELECT")
        except failure() as error:
            if not self._told:
                logger.info("the connection that shows that this process is alive was lost: %s", error)
            self._told = True
            self.let_go()
            return False
        self._told = False
        return True

    def let_go(self) -> None:
        """Lets go of the lock."""
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()
