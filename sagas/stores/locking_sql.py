"""The lines of semantic locks in a SQL database."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import orjson
from sqlalchemy import and_, delete, exists, insert, or_, select, text, tuple_, update

from sagas.stores.locking import Lines, Ticket, settle
from sagas.stores.port import Mail
from sagas.stores.tables import metadata

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping, Sequence

    from sqlalchemy import Connection

    from sagas.stores.port import LockChange

__all__ = ["change_locks", "take_turns"]

_lock, _mail = metadata.tables["saga_lock"], metadata.tables["saga_mail"]
_columns = (_lock.c.ticket, _lock.c.name, _lock.c.saga_id, _lock.c.path)
_other, _later = _lock.alias("other"), _lock.alias("later")

# "lines" in ASCII: whoever changes lines holds this lock, until its transaction has ended.
_CHANGING = 0x6C696E6573
# How long a transaction that changes lines may be idle: if its process is paused, the others go on without it.
_IDLE_AT_MOST = "5s"
_READ_MANY = 500
_TAKE_TURNS = text(
    "SELECT set_config('idle_in_transaction_session_timeout', :idle, true), pg_advisory_xact_lock(:changing)"
)
# One look into the index for each name, however long its line is.
_HEAD = (
    "SELECT head.ticket, head.name, head.saga_id, head.path FROM {} AS wanted "
    "JOIN saga_lock AS head ON head.ticket = (SELECT min(ticket) FROM saga_lock WHERE name = wanted.value) "
    "WHERE NOT head.told ORDER BY head.ticket"
)
_HEADS = {
    "sqlite": text(_HEAD.format("json_each(:names)")),
    "postgresql": text(_HEAD.format("json_array_elements_text(CAST(:names AS json))")),
}


def take_turns(connection: Connection) -> None:
    """Waits until no other transaction changes lines. To be called first in a transaction that will.

    SQLite has but one writing transaction at a time; elsewhere one could give out a lower ticket and commit later.
    """
    if connection.dialect.name == "postgresql":
        connection.execute(_TAKE_TURNS, {"idle": _IDLE_AT_MOST, "changing": _CHANGING})


def change_locks(connection: Connection, changes: Sequence[LockChange]) -> tuple[Mail, ...]:
    """Applies changes in the transaction at hand; see ``locking.settle``.

    Returns:
        The answers, as mail that is posted in the same transaction.
    """
    answers = settle(_SqlLines(connection), changes)
    if not answers:
        return ()
    mail = [Mail(0, x.ticket.saga_id, x.at, "lock", x.body) for x in answers]
    columns = [{name: value for name, value in item._asdict().items() if name != "id"} for item in mail]
    posted = insert(_mail).returning(_mail.c.id, sort_by_parameter_order=True)
    ids = connection.execute(posted, columns).scalars().all()
    return tuple(item._replace(id=key) for key, item in zip(ids, mail, strict=True))


class _SqlLines(Lines):
    """See ``Lines``."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def leave(self, places: Collection[tuple[str, str]], sagas: Collection[str]) -> set[str]:
        """See ``Lines``."""
        names: set[str] = set()
        for some in _pages(places):
            names |= self._delete(tuple_(_lock.c.saga_id, _lock.c.name).in_(some))
        for some in _pages(sagas):
            names |= self._delete(_lock.c.saga_id.in_(some))
        return names

    def _delete(self, condition: Any) -> set[str]:
        """Deletes tickets, and gives the names of their lines."""
        return set(self._connection.execute(delete(_lock).where(condition).returning(_lock.c.name)).scalars())

    def join(self, takes: Sequence[LockChange]) -> list[Ticket]:
        """See ``Lines``."""
        new = [
            {"name": x.name, "saga_id": x.saga_id, "path": x.path, "asked_at": x.at, "told": False} for x in takes
        ]  # fmt: skip
        self._connection.execute(insert(_lock), new)
        places = [(x.saga_id, x.name) for x in takes]
        found = [
            ticket
            for some in _pages(places)
            for ticket in self._read(tuple_(_lock.c.saga_id, _lock.c.name).in_(some))
        ]  # fmt: skip
        return sorted(found)

    def suspects(self, tickets: Sequence[Ticket]) -> list[Ticket]:
        """See ``Lines``."""
        stood_behind = exists().where(_later.c.name == _other.c.name, _later.c.ticket > _other.c.ticket)
        another = exists().where(_other.c.saga_id == _lock.c.saga_id, _other.c.ticket != _lock.c.ticket, stood_behind)
        return [
            ticket
            for some in _pages([ticket.number for ticket in tickets])
            for ticket in self._read(and_(_lock.c.ticket.in_(some), another))
        ]

    def ahead(self, bounds: Mapping[str, int]) -> list[Ticket]:
        """See ``Lines``."""
        below = [and_(_lock.c.name == name, _lock.c.ticket < number) for name, number in bounds.items()]
        return [ticket for some in _pages(below) for ticket in self._read(or_(*some))]

    def of_sagas(self, sagas: Collection[str], until: int) -> list[Ticket]:
        """See ``Lines``."""
        return [
            ticket
            for some in _pages(sagas)
            for ticket in self._read(and_(_lock.c.saga_id.in_(some), _lock.c.ticket <= until))
        ]

    def call(self, names: Collection[str]) -> list[Ticket]:
        """See ``Lines``."""
        if not names:
            return []
        query = _HEADS[self._connection.dialect.name]
        wanted = {"names": orjson.dumps(sorted(names)).decode()}
        called = [Ticket._make(row) for row in self._connection.execute(query, wanted)]
        for some in _pages([ticket.number for ticket in called]):
            self._connection.execute(update(_lock).where(_lock.c.ticket.in_(some)).values(told=True))
        return called

    def _read(self, condition: Any) -> list[Ticket]:
        """Reads tickets, in order."""
        rows = self._connection.execute(select(*_columns).where(condition).order_by(_lock.c.ticket))
        return [Ticket._make(row) for row in rows]


def _pages(items: Collection[Any]) -> Iterator[list[Any]]:
    """Splits what goes into one statement."""
    listed = list(items)
    for start in range(0, len(listed), _READ_MANY):
        yield listed[start : start + _READ_MANY]
