"""Counts the sagas of a SQL database that matter now, along indexes that have no saga which has ended.

Each count stops at a number, so that none takes more than some milliseconds; whoever has more sagas open than that
needs no exact number.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sqlalchemy import ColumnElement, and_, func, literal_column, select, true

from sagas.stores.census import STATUSES
from sagas.stores.tables import ACTIVE, metadata

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sagas.stores.sql import SqlStore

__all__ = ["MOST", "MOST_STUCK", "counted", "statements"]

# Where counting stops: along an index, and where rows have to be read.
MOST, MOST_STUCK = 100_000, 10_000
_saga = metadata.tables["saga"]
_OPEN = _saga.c.ended_at.is_(None)


def counted(store: SqlStore, alive: Sequence[str], now: float) -> tuple[dict[str, int], dict[str, int], int]:
    """Counts sagas by status, stuck ones by name, and the backlog; see ``Census``.

    Args:
        store: Open.
        alive: Who holds a lease.
        now: POSIX time, by the store's own clock.
    """
    found = {what: store.query(query) for what, query in statements(alive, now).items()}
    return (
        {status: found[status][0][0] for status in STATUSES},
        {row.name: row.total for row in found["by name"]},
        found["active"][0][0] + found["due"][0][0],
    )


def statements(alive: Sequence[str], now: float) -> dict[str, Any]:
    """Builds the queries, by what they count; arguments as above."""
    orphaned = and_(_OPEN, _saga.c.owner.not_in(alive))
    due = and_(_saga.c.wake_at.is_not(None), _saga.c.wake_at <= now, _saga.c.active.is_(False))
    newest = select(_saga.c.name).where(_has("stuck")).order_by(_saga.c.key.desc()).limit(MOST_STUCK).subquery()
    return {
        **{status: _count(_has(status)) for status in STATUSES},
        "by name": select(newest.c.name, func.count().label("total")).group_by(newest.c.name),
        "active": _count(and_(ACTIVE, orphaned)),
        "due": _count(and_(due, orphaned)),
    }


def _has(status: str) -> ColumnElement[bool]:
    """Says of a saga that it has a status; as a literal, since only so SQLite finds the index of this status."""
    return _saga.c.status == literal_column(f"'{status}'")


def _count(condition: ColumnElement[bool]) -> Any:
    """Builds a query that counts up to the limit."""
    return select(func.count()).select_from(select(true()).where(condition).select_from(_saga).limit(MOST).subquery())
