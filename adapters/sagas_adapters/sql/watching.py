"""How a process hears of what others send: polling that costs next to nothing, or notifications."""

from __future__ import annotations

import secrets
import sqlite3
import threading
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from queue import SimpleQueue
from typing import TYPE_CHECKING, Any, Protocol

from sqlalchemy import text

if TYPE_CHECKING:
    from sagas.stores.announcing import Announcements
    from sagas.stores.postgres import PostgresStore

__all__ = ["PostgresWatch", "SqliteWatch", "Watch"]

# Seconds between two looks.
_SHORTEST = 0.002
_LONGEST = 0.05
_GROWTH = 1.15
# The same where a look is a query: without notifications, and with them, for what nobody notifies of.
_SHORTEST_QUERY = 0.005
_LONGEST_QUERY = 0.5
_CALM = 1.0
_EAR_PATIENCE = 0.5

_PEEK_SQLITE = """
    SELECT EXISTS (SELECT 1 FROM saga_message WHERE queue = :queue AND ready_at = 0),
        (SELECT min(ready_at) FROM saga_message WHERE queue = :queue AND ready_at > 0)
"""
_PEEK_POSTGRES = text(
    """
    SELECT q, EXISTS (SELECT FROM saga_message m WHERE m.queue = q AND m.ready_at = 0),
        (SELECT min(m.ready_at) FROM saga_message m WHERE m.queue = q AND m.ready_at > 0)
        - coalesce(CAST(:now AS float8), extract(epoch FROM statement_timestamp())::float8)
    FROM unnest(CAST(:queues AS text[])) q
    """
)


class Watch(Protocol):
    """Knows what other processes do with the queues of a database."""

    def interval(self) -> float:
        """Gives the seconds after which to look again."""
        ...

    def look(self, queues: Sequence[str], now: float | None) -> Mapping[str, float | None]:
        """Looks whether something was done.

        Returns:
            By queue of which there are news, in how many seconds there is something to deliver.
        """
        ...

    def tell(self, queues: Collection[str]) -> None:
        """Says that there is something in queues; in the same thread."""
        ...

    def close(self) -> None:
        """Ends it; in the same thread."""
        ...


class _Pace:
    """Often after something has happened, then less and less often."""

    def __init__(self, shortest: float, longest: float) -> None:
        self._shortest = shortest
        self._longest = longest
        self.seconds = shortest

    def hurry(self) -> None:
        self.seconds = self._shortest

    def slow_down(self) -> None:
        self.seconds = min(self.seconds * _GROWTH, self._longest)


class SqliteWatch:
    """Asks SQLite whether anybody has committed, which it knows without reading the file.

    Args:
        path: The file.
        others: Wakes those who wait in this process, on other connections.
    """

    def __init__(self, path: Path, others: Callable[[Collection[str]], None]) -> None:
        self._path = path
        self._others = others
        self._connection: sqlite3.Connection | None = None
        self._version = -1
        self._pace = _Pace(_SHORTEST, _LONGEST)

    def interval(self) -> float:
        """See ``Watch``."""
        return self._pace.seconds

    def look(self, queues: Sequence[str], now: float | None) -> Mapping[str, float | None]:
        """See ``Watch``."""
        assert now is not None, "SQLite has no clock"
        try:
            if not self._has_changed():
                self._pace.slow_down()
                return {}
            self._pace.hurry()
            return {queue: self._peek(queue, now) for queue in queues}
        except sqlite3.Error:  # busy, or away; whoever needs it now finds out
            self._drop()
            self._pace.slow_down()
            return {}

    def _has_changed(self) -> bool:
        """Says whether any other connection has committed since."""
        if self._connection is None:
            self._connection = sqlite3.connect(self._path, timeout=0.0, isolation_level=None)
        before, self._version = self._version, self._connection.execute("PRAGMA data_version").fetchone()[0]
        return bool(before != self._version)

    def _peek(self, queue: str, now: float) -> float | None:
        """Says when there is something to deliver."""
        assert self._connection is not None, "it was used just now"
        ready, due = self._connection.execute(_PEEK_SQLITE, {"queue": queue}).fetchone()
        return 0.0 if ready else None if due is None else max(0.0, due - now)

    def tell(self, queues: Collection[str]) -> None:
        """See ``Watch``: other processes look by themselves."""
        self._pace.hurry()
        if queues:
            self._others(queues)

    def close(self) -> None:
        """See ``Watch``."""
        self._drop()

    def _drop(self) -> None:
        """Lets go of the connection."""
        connection, self._connection, self._version = self._connection, None, -1
        if connection is not None:
            connection.close()


class PostgresWatch:
    """Listens, in a thread of its own, and looks now and then all the same.

    Args:
        store: The database.
        heard: Called with the queues in which there is something, or ``None`` for any.
    """

    def __init__(self, store: PostgresStore, heard: Callable[[Collection[str] | None], None]) -> None:
        self._store = store
        self._heard = heard
        self._me = secrets.token_hex(4)
        self._announcements: Announcements | None = None
        self._closed = threading.Event()
        self._hears = False
        self._thread: threading.Thread | None = None
        self._speaker: threading.Thread | None = None
        self._said: SimpleQueue[Collection[str] | None] = SimpleQueue()
        self._pace = _Pace(_SHORTEST_QUERY, _LONGEST_QUERY)

    def interval(self) -> float:
        """See ``Watch``."""
        if self._thread is None:
            self._start()
        return _CALM if self._hears else self._pace.seconds

    def _start(self) -> None:
        """Begins to listen."""
        self._announcements = self._announcements or self._store.announcements("saga_message")
        if self._announcements is not None:
            self._thread = threading.Thread(target=self._listen, name="sagas-sql-queue-ear", daemon=True)
            self._thread.start()

    def _listen(self) -> None:
        """Passes on what others say."""
        assert self._announcements is not None, "it was made before"
        while not self._closed.is_set():
            heard = self._announcements.listen(_EAR_PATIENCE)
            self._hears = heard is not None
            if heard is None:
                self._closed.wait(_EAR_PATIENCE)
                continue
            others = [message.partition(":") for message in heard if not message.startswith(self._me)]
            if others:
                queues = {queue for _, _, queue in others}
                self._heard(None if "" in queues or any(not colon for _, colon, _ in others) else queues)

    def look(self, queues: Sequence[str], now: float | None) -> Mapping[str, float | None]:
        """See ``Watch``."""
        rows = self._store.query(_PEEK_POSTGRES.bindparams(queues=list(queues), now=now))
        found: dict[str, float | None] = {}
        for queue, ready, due in map(tuple[Any, ...], rows):
            found[queue] = 0.0 if ready else None if due is None else max(0.0, float(due))
        if any(due == 0.0 for due in found.values()):
            self._pace.hurry()
        else:
            self._pace.slow_down()
        return found

    def tell(self, queues: Collection[str]) -> None:
        """See ``Watch``."""
        self._pace.hurry()
        if not queues:
            return
        self._announcements = self._announcements or self._store.announcements("saga_message")
        if self._announcements is None:
            return
        if self._speaker is None:
            self._speaker = threading.Thread(target=self._speak, name="sagas-sql-queue-mouth", daemon=True)
            self._speaker.start()
        self._said.put(queues)

    def _speak(self) -> None:
        """Tells others, while the next transaction is under way; what comes meanwhile is told together."""
        assert self._announcements is not None, "it was made before"
        while (some := self._said.get()) is not None:
            queues = set(some)
            while not self._said.empty():
                more = self._said.get()
                if more is None:
                    return self._announcements.announce(self._names(queues))
                queues.update(more)
            self._announcements.announce(self._names(queues))
        return None

    def _names(self, queues: Collection[str]) -> list[str]:
        """Writes down who says what."""
        return [f"{self._me}:{queue}" for queue in sorted(queues)]

    def close(self) -> None:
        """See ``Watch``."""
        self._closed.set()
        if self._speaker is not None:
            self._said.put(None)
            self._speaker.join()
        if self._announcements is not None:
            self._announcements.close()
        if self._thread is not None:
            self._thread.join()
