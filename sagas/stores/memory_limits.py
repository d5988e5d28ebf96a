"""Limits that hold for all coordinators on a store in memory."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sagas.core.limits import Bucket
from sagas.stores.port import Drawn, Holding
from sagas.stores.sharing import Standing, fresh, plan

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["MemoryLimits"]


class MemoryLimits:
    """Permits and buckets, with the same rules as in a database."""

    def __init__(self) -> None:
        self._slots: dict[str, list[str]] = {}
        self._wishes: dict[str, dict[str, tuple[float, float]]] = {}
        self._buckets: dict[str, Bucket] = {}

    def hold(
        self, name: str, owner: str, now: float, alive: Callable[[str], bool], *, slots: int, used: int, want: int
    ) -> Holding:
        """See ``Store.hold_permits``."""
        owners, wishes = self._slots.setdefault(name, []), self._wishes.setdefault(name, {})
        owners.extend([""] * (slots - len(owners)))
        live = {other for other in {*owners[:slots], *wishes} if other and (other == owner or alive(other))}
        free = [slot for slot in range(slots) if owners[slot] not in live]
        mine = [slot for slot in range(slots) if owners[slot] == owner]
        since, _ = wishes.get(owner, (None, 0.0))
        waiting = {other: since for other, (since, said) in wishes.items() if fresh(said, now)}
        others = [
            Standing(owners[:slots].count(other), waiting.get(other))
            for other in live - {owner}
            if other in waiting or other in owners[:slots]
        ]
        planned = plan(slots, Standing(len(mine), since), others, now, used=used, want=want)
        taken = free[: max(0, min(planned.aim - len(mine), len(free) - planned.reserved))]
        for slot in taken:
            owners[slot] = owner
        for slot in mine[planned.aim :]:
            owners[slot] = ""
        held = min(len(mine), planned.aim) + len(taken)
        if held < want:
            wishes[owner] = (now if since is None else since, now)
        else:
            wishes.pop(owner, None)
        return Holding(held, planned.share, planned.starving)

    def keep(self, owner: str) -> dict[str, int]:
        """See ``Store.keep_permits``."""
        return {name: owners.count(owner) for name, owners in self._slots.items() if owner in owners}

    def draw(self, name: str, now: float, *, speed: float, burst: float, want: int, ahead: int) -> Drawn:
        """See ``Store.draw_tokens``."""
        bucket = self._buckets.get(name, Bucket(burst, now))
        got, left = bucket.drawn(now, want, speed=speed, burst=burst, ahead=ahead)
        self._buckets[name] = left
        return Drawn(got, left.pause(now, speed=speed, burst=burst))
