"""Queries for sagas that need a coordinator now and have none that is alive."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

from sqlalchemy import and_, func, select

from sagas.stores.tables import metadata

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from sqlalchemy import ColumnElement, Select

__all__ = ["count_orphans", "summed"]

_SAGA = metadata.tables["saga"]


def count_orphans(alive: Sequence[str], active: Sequence[str], time: ColumnElement[float]) -> list[Select[Any]]:
    """Builds queries that count orphans by name and version: those whose timer is due, and active ones.

    Apart, since each has an index of its own.

    Args:
        alive: Coordinators.
        active: Owners of active sagas, dead or alive.
        time: Now.
    """
    dead = [owner for owner in active if owner not in alive]
    counted: Any = select(_SAGA.c.name, _SAGA.c.version, func.count()).where(_SAGA.c.ended_at.is_(None))
    due = and_(_SAGA.c.wake_at <= time, _SAGA.c.active.is_(False), _SAGA.c.owner.not_in(alive))
    needy = [due, and_(_SAGA.c.active, _SAGA.c.owner.in_(dead))] if dead else [due]
    return [counted.where(need).group_by(_SAGA.c.name, _SAGA.c.version) for need in needy]


def summed(results: Iterable[Sequence[Any]]) -> list[tuple[str, str, int]]:
    """Adds up what the queries found."""
    total: Counter[tuple[str, str]] = Counter()
    for rows in results:
        for name, version, count in rows:
            total[name, version] += count
    return [(name, version, count) for (name, version), count in total.items()]
