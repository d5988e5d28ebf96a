"""Counts the sagas of a store that matter now, without looking at those that have ended, however many there are.

On a SQL database each count stops at a number, so that none takes more than some milliseconds; whoever has more
sagas open than that needs no exact number.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from sqlalchemy import ColumnElement, and_, func, literal_column, select, true

from sagas.stores.sql import SqlStore
from sagas.stores.tables import metadata

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from sagas.stores.port import Store

__all__ = ["MOST", "MOST_STUCK", "Census", "statements", "take_census"]

# Where counting stops: along an index, and where rows have to be read.
MOST, MOST_STUCK = 100_000, 10_000
_STATUSES = ("running", "compensating", "stuck")
_saga = metadata.tables["saga"]
_OPEN = _saga.c.ended_at.is_(None)
# As the index has it: SQLAlchemy's own `active = 1` is another condition to SQLite, which then reads every saga.
_ACTIVE: ColumnElement[bool] = literal_column("saga.active")


class Census(NamedTuple):
    """What was counted.

    Attributes:
        open: Sagas that have not ended, by status; each up to ``MOST``.
        stuck: Sagas that wait for an operator, by name; together up to ``MOST_STUCK``, the newest ones.
        backlog: Sagas that have something to do, or whose time has come, and that nobody alive drives; up to twice
            ``MOST``.
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
    alive = [lease.id for lease in leases]
    coordinators = sum(not lease.is_a_workers for lease in leases)
    if not isinstance(store, SqlStore):
        return _by_reading(store, now, coordinators)
    found = {what: store.query(query) for what, query in statements(alive, now).items()}
    return Census(
        {status: found[status][0][0] for status in _STATUSES},
        {row.name: row.total for row in found["by name"]},
        found["active"][0][0] + found["due"][0][0],
        coordinators,
    )


def statements(alive: Sequence[str], now: float) -> dict[str, Any]:
    """Builds the queries, by what they count.

    Args:
        alive: Who holds a lease.
        now: POSIX time, by the store's own clock.
    """
    orphaned = and_(_OPEN, _saga.c.owner.not_in(alive))
    due = and_(_saga.c.wake_at.is_not(None), _saga.c.wake_at <= now, _saga.c.active.is_(False))
    newest = select(_saga.c.name).where(_has("stuck")).order_by(_saga.c.key.desc()).limit(MOST_STUCK).subquery()
    return {
        **{status: _counted(_has(status)) for status in _STATUSES},
        "by name": select(newest.c.name, func.count().label("total")).group_by(newest.c.name),
        "active": _counted(and_(_ACTIVE, orphaned)),
        "due": _counted(and_(due, orphaned)),
    }


def _has(status: str) -> ColumnElement[bool]:
    """Says of a saga that it has a status; as a literal, since only so SQLite finds the index of this status."""
    return _saga.c.status == literal_column(f"'{status}'")


def _counted(condition: ColumnElement[bool]) -> Any:
    """Builds a query that counts up to the limit."""
    return select(func.count()).select_from(select(true()).where(condition).select_from(_saga).limit(MOST).subquery())


def _by_reading(store: Store, now: float, coordinators: int) -> Census:
    """Counts what a store that knows no SQL gives."""
    rows = {x: store.select(status=x, name=None, limit=MOST_STUCK, before=None) for x in _STATUSES}
    stuck: dict[str, int] = {}
    for row in rows["stuck"]:
        stuck[row.name] = stuck.get(row.name, 0) + 1
    backlog = sum(count for _, _, count in store.orphans(now))
    return Census({status: len(found) for status, found in rows.items()}, stuck, backlog, coordinators)
