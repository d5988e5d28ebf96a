"""Queries about many sagas at a time."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

from sqlalchemy import and_, func, select

from sagas.stores.port import SagaRow
from sagas.stores.tables import ACTIVE, metadata

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from sqlalchemy import ColumnElement, Select

__all__ = ["MOST_ROWS", "count_orphans", "is_storable", "newest_first", "summed"]

# What somebody who wants all may ask for: databases take no larger numbers, and nobody can hold so many.
MOST_ROWS = 2**31 - 1

_SAGA = metadata.tables["saga"]
_COLUMNS = tuple(_SAGA.c[name] for name in SagaRow._fields)


def is_storable(text: str) -> bool:
    """Says whether a database could have a text: half of a surrogate pair it cannot, and PostgreSQL no NUL."""
    return "\x00" not in text and text == text.encode(errors="replace").decode()


def newest_first(limit: int, before: str | None, **only: object) -> Select[Any]:
    """Builds a query for whole rows, newest first, from before the saga with an id.

    Args:
        limit: At most so many.
        before: An id, or ``None``.
        only: Values that columns must have, where they are not ``None``.
    """
    query = select(*_COLUMNS).order_by(_SAGA.c.key.desc()).limit(min(limit, MOST_ROWS))
    query = query.where(*(_SAGA.c[column] == value for column, value in only.items() if value is not None))
    if before is None:
        return query
    return query.where(_SAGA.c.key < select(_SAGA.c.key).where(_SAGA.c.id == before).scalar_subquery())


def count_orphans(alive: Sequence[str], active: Sequence[str], time: ColumnElement[float]) -> list[Select[Any]]:
    """Builds queries that count, by name and version, sagas that need a coordinator now and have none that is alive.

    Those whose timer is due and active ones are apart, since each have an index of their own.

    Args:
        alive: Coordinators.
        active: Owners of active sagas, dead or alive.
        time: Now.
    """
    dead = [owner for owner in active if owner not in alive]
    counted: Any = select(_SAGA.c.name, _SAGA.c.version, func.count()).where(_SAGA.c.ended_at.is_(None))
    due = and_(_SAGA.c.wake_at <= time, _SAGA.c.active.is_(False), _SAGA.c.owner.not_in(alive))
    needy = [due, and_(ACTIVE, _SAGA.c.owner.in_(dead))] if dead else [due]
    return [counted.where(need).group_by(_SAGA.c.name, _SAGA.c.version) for need in needy]


def summed(results: Iterable[Sequence[Any]]) -> list[tuple[str, str, int]]:
    """Adds up what the queries found."""
    total: Counter[tuple[str, str]] = Counter()
    for rows in results:
        for name, version, count in rows:
            total[name, version] += count
    return [(name, version, count) for (name, version), count in total.items()]
