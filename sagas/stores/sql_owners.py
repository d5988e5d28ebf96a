"""Who drives which sagas, in a SQL database: the leases of coordinators, and claims on what nobody drives."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any

import orjson
from sqlalchemy import ColumnElement, Row, Select, and_, delete, func, insert, or_, select, update

from sagas.stores.port import Lease, SagaRow
from sagas.stores.surveys import count_orphans, summed
from sagas.stores.tables import ACTIVE, metadata

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence
    from contextlib import AbstractContextManager

    from sqlalchemy import Connection

__all__ = ["SqlOwners"]

_saga, _lease = (metadata.tables[name] for name in ("saga", "saga_lease"))
_SAGA_COLUMNS = tuple(_saga.c[name] for name in SagaRow._fields)
_READ_MANY = 500
# Seconds for which a claim keeps others away; long enough to read a journal and to append to it.
_CLAIM = 5.0


class SqlOwners(ABC):
    """See the module."""

    @abstractmethod
    def _read(self, statement: Any) -> Sequence[Row[Any]]:
        """Runs a query."""

    @abstractmethod
    def _aside(self) -> AbstractContextManager[Connection]:
        """Gives a connection for writes that are no journal's, in a transaction that ends with the block."""

    @abstractmethod
    def _time(self, now: float) -> ColumnElement[float]:
        """Gives the time that this store goes by."""

    @abstractmethod
    def _proven_dead(self, owner: str) -> bool:
        """Says whether a coordinator is dead for sure, whatever its lease says."""

    def _lifeline_of(self, owner: str) -> int | None:  # noqa: ARG002 - for databases that have such things
        """Gives what others can tell by that a coordinator's process is alive, if the database itself keeps it."""
        return None

    # --- whose sagas --------------------------------------------------------------------------------------------

    def claim(self, owner: str, now: float, limit: int, code: Collection[str]) -> Sequence[SagaRow]:
        """See ``Store.claim``."""
        queries = self._claimable(owner, now, code)
        if not any(self._read(query.limit(1)) for query in queries):
            return []  # the usual case, which takes no lock
        with self._aside() as connection:
            rows: list[SagaRow] = []
            for query in queries:
                locked = query.limit(limit - len(rows)).with_for_update(skip_locked=True)
                rows.extend(SagaRow._make(row) for row in connection.execute(locked))
            # An owner that came after the leases were read is found now: it had its lease before its first saga.
            alive = self._live(now)
            rows = [row for row in rows if row.owner not in alive]
            claimed = {_saga.c.claimed_by: owner, _saga.c.claimed_at: self._time(now)}
            connection.execute(update(_saga).where(_saga.c.id.in_([row.id for row in rows])).values(claimed))
        return rows

    def _claimable(self, owner: str, now: float, code: Collection[str]) -> list[Select[Any]]:
        """Builds queries for what nobody drives: sagas with something to do, and those whose time has come."""
        owners = self._active_owners()  # before the leases, which are there before anything is owned
        alive = {owner, *self._live(now)}
        time = self._time(now)
        open_to_us = and_(
            _saga.c.ended_at.is_(None),
            (_saga.c.name + "@" + _saga.c.version).in_(code),
            or_(_saga.c.claimed_by.is_(None), _saga.c.claimed_by.not_in(alive), _saga.c.claimed_at < time - _CLAIM),
        )
        dead = [other for other in owners if other not in alive]
        rows = select(*_SAGA_COLUMNS).where(open_to_us)
        queries = [
            rows.where(_saga.c.wake_at <= time, _saga.c.active.is_(False), _saga.c.owner.not_in(alive)).order_by(
                _saga.c.wake_at
            )
        ]
        if dead:
            queries.insert(0, rows.where(ACTIVE, _saga.c.owner.in_(dead)).order_by(_saga.c.rank, _saga.c.key))
        return queries

    def orphans(self, now: float) -> Sequence[tuple[str, str, int]]:
        """See ``Store.orphans``."""
        active = self._active_owners()
        alive = self._live(now)
        return summed(self._read(query) for query in count_orphans(alive, active, self._time(now)))

    def _active_owners(self) -> list[str]:
        """Lists the owners of sagas that have something to do."""
        query = select(_saga.c.owner).where(ACTIVE, _saga.c.ended_at.is_(None)).distinct()
        return [row[0] for row in self._read(query)]

    def hand_over(self, owner: str, saga_ids: Sequence[str]) -> None:
        """See ``Store.hand_over``."""
        for start in range(0, len(saga_ids), _READ_MANY):
            some = saga_ids[start : start + _READ_MANY]
            with self._aside() as connection:
                mine = and_(_saga.c.id.in_(some), _saga.c.owner == owner, _saga.c.ended_at.is_(None))
                connection.execute(update(_saga).where(mine).values(owner="", claimed_by=None))

    def next_wake(self) -> float | None:
        """See ``Store.next_wake``."""
        query = select(func.min(_saga.c.wake_at)).where(_saga.c.ended_at.is_(None), _saga.c.active.is_(False))
        value = self._read(query)[0][0]
        return None if value is None else float(value)

    # --- leases -------------------------------------------------------------------------------------------------

    def renew(self, lease: Lease, now: float) -> float:
        """See ``Store.renew``."""
        time = self._time(now)
        values: dict[str, Any] = {
            "expires_at": time + (lease.expires_at - now),
            "renewed_at": time,
            "code": orjson.dumps(lease.code).decode(),
            "lifeline": self._lifeline_of(lease.id),
        }
        with self._aside() as connection:
            changed = connection.execute(update(_lease).where(_lease.c.id == lease.id).values(values))
            if not changed.rowcount:
                connection.execute(insert(_lease).values(id=lease.id, name=lease.name, **values))
        return lease.expires_at

    def release(self, owner: str) -> None:
        """See ``Store.release``."""
        with self._aside() as connection:
            connection.execute(delete(_lease).where(_lease.c.id == owner))

    def leases(self, now: float) -> Sequence[Lease]:
        """See ``Store.leases``."""
        columns = (_lease.c.id, _lease.c.name, _lease.c.expires_at, _lease.c.code)
        rows = self._read(select(*columns).where(self._holds(now)).order_by(_lease.c.id))
        return [
            Lease(row.id, row.name, row.expires_at, tuple(orjson.loads(row.code or "[]")))
            for row in rows
            if not self._proven_dead(row.id)
        ]

    def alive(self, owner: str, now: float) -> bool:
        """See ``Store.alive``."""
        return owner in self._live(now)

    def _holds(self, now: float) -> ColumnElement[bool]:
        """Says of a lease that it has not run out."""
        return _lease.c.expires_at > self._time(now)

    def _live(self, now: float) -> list[str]:
        """Lists the coordinators that hold a lease and are not known to be dead."""
        rows = self._read(select(_lease.c.id).where(self._holds(now)))
        return [row[0] for row in rows if not self._proven_dead(row[0])]
