"""Events that sagas have emitted, in a SQL database until they are sent."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any

from sqlalchemy import delete, insert, select

from sagas.stores.port import Outgoing
from sagas.stores.tables import metadata

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence
    from contextlib import AbstractContextManager

    from sqlalchemy import Connection, Row

__all__ = ["SqlOutbox", "write_outgoing"]

_outbox = metadata.tables["saga_outbox"]
_COLUMNS = (_outbox.c.number, *(_outbox.c[name] for name in Outgoing._fields))


class SqlOutbox(ABC):
    """See the module."""

    @abstractmethod
    def _read(self, statement: Any) -> Sequence[Row[Any]]:
        """Runs a query."""

    @abstractmethod
    def _aside(self) -> AbstractContextManager[Connection]:
        """Gives a connection for writes that are no journal's, in a transaction that ends with the block."""

    def outgoing(self, limit: int, *, after: int = 0) -> Sequence[tuple[int, Outgoing]]:
        """See ``Store.outgoing``."""
        number = _outbox.c.number
        rows = self._read(select(*_COLUMNS).where(number > after).order_by(number).limit(limit))
        return [(row[0], Outgoing._make((*row[1:-1], bytes(row[-1])))) for row in rows]

    def sent(self, numbers: Collection[int]) -> None:
        """See ``Store.sent``."""
        with self._aside() as connection:
            connection.execute(delete(_outbox).where(_outbox.c.number.in_(list(numbers))))


def write_outgoing(connection: Connection, events: Sequence[Outgoing]) -> None:
    """Writes events within a transaction, in order."""
    if events:
        connection.execute(insert(_outbox), [event._asdict() for event in events])
