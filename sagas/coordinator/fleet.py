"""The coordinators that are alive, and which sagas wait because none of them has their code."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from sagas.core.operations import utc

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from datetime import datetime

    from sagas.stores.port import Lease, SagaRow, Store

__all__ = ["CoordinatorView", "Fleet", "coordinators", "fleet_for"]


@dataclass(frozen=True, slots=True, kw_only=True)
class CoordinatorView:
    """A coordinator that is alive.

    Attributes:
        id: What the journal calls it where it took over a saga.
        name: What it is called for people.
        expires_at: Until when its word holds, unless it says again that it is alive.
        code: The sagas that it has code for, each as ``name@version``.
    """

    id: str
    name: str
    expires_at: datetime
    code: tuple[str, ...]


class Fleet(NamedTuple):
    """What matters of all coordinators together.

    Attributes:
        alive: Their ids.
        code: The sagas that at least one of them has code for, each as ``name@version``.
    """

    alive: frozenset[str]
    code: frozenset[str]

    @classmethod
    def of(cls, leases: Iterable[Lease]) -> Fleet:
        """Puts leases together."""
        held = [lease for lease in leases if not lease.is_a_workers]
        return cls(frozenset(lease.id for lease in held), frozenset(one for lease in held for one in lease.code))

    def lacks(self, name: str, version: str) -> bool:
        """Says whether none of them has the code of a saga."""
        return f"{name}@{version}" not in self.code

    def waits_for(self, row: SagaRow) -> str | None:
        """Says what an open saga lacks that no coordinator drives; ``None`` if that is nothing."""
        if row.ended_at is not None or row.owner in self.alive or not self.lacks(row.name, row.version):
            return None
        return f"code of {row.name} version {row.version}" if self.alive else "a coordinator"


def fleet_for(store: Store, rows: Iterable[SagaRow], now: float) -> Fleet:
    """Reads what tells whether some sagas wait; nothing if all of them have ended."""
    return Fleet.of(store.leases(now) if any(row.ended_at is None for row in rows) else ())


def coordinators(leases: Sequence[Lease]) -> list[CoordinatorView]:
    """Describes those who hold leases."""
    return [
        CoordinatorView(id=lease.id, name=lease.name, expires_at=utc(lease.expires_at), code=lease.code)
        for lease in leases
        if not lease.is_a_workers
    ]
