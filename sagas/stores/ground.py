"""Finds records that would be written where the record before them is not, or not any more.

A server that has lost its last commits (a standby took over that was behind; or it did not wait for its disk, and
crashed) has journals that end earlier than whoever drives the sagas knows.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlalchemy import select, tuple_

from sagas.core.records import chain
from sagas.stores.tables import metadata

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping, Sequence

    from sqlalchemy import Connection

    from sagas.stores.port import JournalRow

__all__ = ["Place", "digests_at", "digests_by_key", "first_rows", "groundless"]

Place = tuple[str, int]

_journal = metadata.tables["saga_journal"]

# One look into the index for each, whatever the planner believes about the tables.
_BY_KEY = (
    "SELECT v.id, v.seq, (SELECT digest FROM saga_journal j WHERE j.saga_id = v.id AND j.seq = v.seq) "
    "FROM unnest(%b::text[], %b::int4[]) AS v (id, seq)"
)


def digests_at(connection: Connection, places: Collection[Place]) -> Mapping[Place, bytes]:
    """Reads the digests of some records, by their sagas and numbers; without those that are not there."""
    columns = (_journal.c.saga_id, _journal.c.seq)
    query = select(*columns, _journal.c.digest).where(tuple_(*columns).in_(places))
    return {(saga_id, seq): digest for saga_id, seq, digest in connection.execute(query)}


def digests_by_key(connection: Connection, places: Collection[Place]) -> Mapping[Place, bytes]:
    """Does the same in PostgreSQL."""
    rows = connection.exec_driver_sql(_BY_KEY, tuple(map(list, zip(*places, strict=True))))
    return {(saga_id, seq): bytes(digest) for saga_id, seq, digest in rows if digest is not None}


def first_rows(rows: Iterable[JournalRow]) -> Sequence[JournalRow]:
    """Picks the first record of each saga, but for those that begin a journal."""
    first: dict[str, JournalRow] = {}
    for row in rows:
        if row.saga_id not in first or row.seq < first[row.saga_id].seq:
            first[row.saga_id] = row
    return [row for row in first.values() if row.seq]


def groundless(rows: Iterable[JournalRow], there: Mapping[Place, bytes]) -> set[str]:
    """Names the sagas whose record does not continue the one that is there before it."""
    return {row.saga_id for row in rows if not _continues(row, there.get((row.saga_id, row.seq - 1)))}


def _continues(row: JournalRow, before: bytes | None) -> bool:
    """Says whether a record was written for the place behind that one."""
    return before is not None and chain(before, *row[1:6]) == row.digest
