"""The store of a simulated fleet: what is in it outlasts every process."""

from __future__ import annotations

import sqlite3
from typing import TYPE_CHECKING

from sqlmodel import Session

from sagas.stores.locking_memory import MemoryLines
from sagas.stores.memory import MemoryStore
from sagas.stores.memory_limits import MemoryLimits
from sagas.stores.port import Superseded

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from sqlalchemy import Connection, Engine

    from sagas.stores.port import Batch, Committed, JournalRow, SagaRow

__all__ = ["Disk"]


class Disk(MemoryStore):
    """See the module.

    Attributes:
        database: What transactional steps write to; ``None`` if there is nothing.
        last: The batch that was committed last.
    """

    def __init__(self) -> None:
        super().__init__("simulated:")
        self.database: Engine | None = None
        self.last: Batch | None = None

    def commit(self, batch: Batch) -> Committed:
        """See ``Store.commit``."""
        self.last = batch
        return self._commit(batch)  # nobody is beside it in a simulation, so that there is nothing to lock

    def transact(self, work: Sequence[Callable[[Session], None]], finish: Callable[[], Batch]) -> Committed:
        """See ``Store.transact``: what the functions write to the world's database commits with the records."""
        if self.database is None:
            return super().transact(work, finish)
        with self.database.connect() as connection, connection.begin():
            _begin(connection)
            for function in work:
                with Session(bind=connection, join_transaction_mode="create_savepoint") as session:
                    function(session)
            batch = finish()
            if any(self._is_fenced(row, ()) for row in batch.rows):
                raise Superseded
            return self.commit(batch)

    def journal(self, saga_id: str) -> list[JournalRow]:
        """Gives what is durable of a saga."""
        return self._journals.get(saga_id, [])

    def row(self, saga_id: str) -> SagaRow | None:
        """Gives a saga as a whole."""
        return self._sagas.get(saga_id)

    @property
    def letters(self) -> int:
        """How many orders and signals wait to be taken note of, by whichever process."""
        return len(self._mail)

    def wipe(self) -> None:
        """Forgets every saga, but not who is alive."""
        for table in (
            self._sagas,
            self._keys,
            self._journals,
            self._mail,
            self._claims,
            self._archive,
            self._schedules,
        ):
            table.clear()
        self._lines = MemoryLines()
        self._limits = MemoryLimits()


def _begin(connection: Connection) -> None:
    """Begins a transaction on SQLite, whose driver would begin none for a savepoint, so that its end would commit."""
    raw = connection.connection.driver_connection
    if isinstance(raw, sqlite3.Connection) and not raw.in_transaction:
        connection.exec_driver_sql("BEGIN")
