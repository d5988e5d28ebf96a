"""Counts the sagas of a store that matter now, without looking at those that have ended, however many there are."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Mapping

    from sagas.stores.port import Store

__all__ = ["STATUSES", "Census", "take_census"]

# Of sagas that have not ended.
STATUSES = ("running", "compensating", "stuck")
# So many rows of each status are read where a store has no query that counts.
_MOST = 10_000


class Census(NamedTuple):
    """What was counted. On a SQL database, counting stops at 100,000 of each status, and 10,000 by name.

    Attributes:
        open: Sagas that have not ended, by status.
        stuck: Sagas that wait for an operator, by name; the newest ones.
        backlog: Sagas that have something to do, or whose time has come, and that nobody alive drives.
        coordinators: How many are alive.
    """

    open: Mapping[str, int]
    stuck: Mapping[str, int]
    backlog: int
    coordinators: int


def take_census(store: Store, now: float) -> Census:
    """Counts.

    Args:
        store: Open.
        now: POSIX time.

    Raises:
        StoreUnavailable: The database cannot be used now.
    """
    now = store.time(now)
    leases = store.leases(now)
    coordinators = sum(not lease.is_a_workers for lease in leases)
    if store.in_memory:
        return _by_reading(store, now, coordinators)
    from sagas.stores.census_sql import counted
    from sagas.stores.sql import SqlStore

    if not isinstance(store, SqlStore):
        return _by_reading(store, now, coordinators)
    return Census(*counted(store, [lease.id for lease in leases], now), coordinators)


def _by_reading(store: Store, now: float, coordinators: int) -> Census:
    """Counts what a store that knows no SQL gives."""
    rows = {x: store.select(status=x, name=None, limit=_MOST, before=None) for x in STATUSES}
    stuck = Counter(row.name for row in rows["stuck"])
    backlog = sum(count for _, _, count in store.orphans(now))
    return Census({status: len(found) for status, found in rows.items()}, stuck, backlog, coordinators)
