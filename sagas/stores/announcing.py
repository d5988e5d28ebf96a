"""What processes on one PostgreSQL database tell each other by ``LISTEN`` and ``NOTIFY``.

Nothing depends on it: what is lost is found by polling. So it stays off the path of commits, on connections of its
own, and a database where nobody is heard (behind a pooler, say) is polled instead.
"""

from __future__ import annotations

import logging
import secrets
import threading
import time
from typing import TYPE_CHECKING

from sqlalchemy import text

from sagas.stores.raw import connect, failure, is_pooled

if TYPE_CHECKING:
    from collections.abc import Sequence

    import psycopg
    from sqlalchemy import URL, Connection

__all__ = ["Announcements"]

logger = logging.getLogger("sagas.stores")

_CHANNEL = "SELECT 'sagas_' || '{}'::regclass::oid"
# Nobody has to wait for the disk for this; but a pooler may give the connection to somebody who must, so the setting is
# for this statement alone.
_ANNOUNCE = """
    SELECT pg_notify(%s, m) FROM unnest(%s::text[]) m, set_config('synchronous_commit', 'off', true)
"""
# What may have been missed while nobody listened.
_ANYTHING = ("work", "mail:")
_ECHO = "echo:"
# Seconds.
_ECHO_PATIENCE = 2.0
_RETRY = 30.0
_RECONNECT = 0.5


class Announcements:
    """See the module.

    Args:
        url: Of the database.
        insist: Whether to listen even through a pooler, which may give each client a connection to itself.
        table: What it is about; each has a channel of its own.
    """

    def __init__(self, url: URL, *, insist: bool = False, table: str = "saga") -> None:
        self._name_channel = _CHANNEL.format(table)
        self._url = url
        self._insist = insist
        self._told = False
        self._channel: str | None = None
        self._ear: psycopg.Connection | None = None
        self._mouth: psycopg.Connection | None = None
        self._hearing = threading.Lock()
        self._speaking = threading.Lock()
        self._deaf_until = 0.0
        self._closed = False

    def channel(self, connection: Connection) -> str:
        """Names the channel, which is that of the tables, since a database may hold them in several schemas."""
        if self._channel is None:
            self._channel = str(connection.execute(text(self._name_channel)).scalar_one())
        return self._channel

    def open(self) -> None:
        """Lets it be used."""
        self._closed = False

    def close(self) -> None:
        """Stops listening and speaking; whoever listens at the moment hears so."""
        if self._ear is not None:
            self.announce([_ECHO])
        self._closed = True
        with self._hearing:
            self._stop()
        with self._speaking:
            self._shut_up()

    # --- listening ----------------------------------------------------------------------------------------------

    def listen(self, patience: float) -> Sequence[str] | None:
        """See ``Store.listen``."""
        with self._hearing:
            return None if self._closed or time.monotonic() < self._deaf_until else self._listen(patience)

    def _listen(self, patience: float) -> Sequence[str] | None:
        """Listens, connecting first if need be."""
        try:
            if self._ear is None:
                return self._begin()
            heard = [notify.payload for notify in self._ear.notifies(timeout=patience, stop_after=1)]
        except failure() as error:
            logger.info("notifications of other processes are interrupted: %s", error)
            self._stop()
            self._deaf_until = time.monotonic() + _RECONNECT
            return None
        return [message for message in heard if not message.startswith(_ECHO)]

    def _begin(self) -> Sequence[str] | None:
        """Connects, and makes sure that what is announced is also heard."""
        self._ear = connect(self._url, "sagas listens")
        if is_pooled(self._ear) and not self._insist:
            self._give_up()  # to listen would be left to the next user of the pooler's connection
            return None
        channel = self._channel = _first(self._ear, self._name_channel)
        self._ear.execute(f'LISTEN "{channel}"'.encode())
        nonce = f"{_ECHO}{secrets.token_hex(8)}"
        with self._speaking:
            self._shut_up()  # whatever ended the connection before has ended this one too, which does not tell
        self.announce([nonce])
        heard = {notify.payload for notify in self._ear.notifies(timeout=_ECHO_PATIENCE, stop_after=1)}
        if nonce in heard or any(heard):
            return _ANYTHING
        if self._closed:
            return None
        self._give_up()
        return None

    def _give_up(self) -> None:
        """Stops listening for a while, and says so once."""
        if not self._told:
            logger.warning("the database %s passes on no notifications, as behind a pooler; it is polled", self._url)
        self._told = True
        self._stop()
        self._deaf_until = time.monotonic() + _RETRY

    def _stop(self) -> None:
        """Lets go of the connection that listens."""
        ear, self._ear = self._ear, None
        if ear is not None:
            ear.close()

    # --- speaking -----------------------------------------------------------------------------------------------

    def announce(self, messages: Sequence[str]) -> None:
        """See ``Store.announce``."""
        with self._speaking:
            if self._closed:
                return
            try:
                if self._mouth is None:
                    self._mouth = connect(self._url, "sagas announces")
                channel = self._channel = self._channel or _first(self._mouth, self._name_channel)
                self._mouth.execute(_ANNOUNCE, (channel, list(messages)))
            except failure() as error:
                logger.info("other processes were not told, and will look by themselves: %s", error)
                self._shut_up()

    def _shut_up(self) -> None:
        """Lets go of the connection that announces."""
        mouth, self._mouth = self._mouth, None
        if mouth is not None:
            mouth.close()


def _first(connection: psycopg.Connection, query: str) -> str:
    """Reads one value."""
    row = connection.execute(query.encode()).fetchone()
    assert row is not None, "the query gives one row"
    return str(row[0])
