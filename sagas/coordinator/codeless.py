"""Warns of sagas that wait because no coordinator that is alive has their code."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from sagas.coordinator.fleet import Fleet
from sagas.errors import StoreUnavailable

if TYPE_CHECKING:
    from sagas.coordinator.engine import Engine

__all__ = ["CodeWatch"]

logger = logging.getLogger("sagas.coordinator")

_EVERY = 60.0


class CodeWatch:
    """Looks at the start and about once a minute; tells once when sagas begin to wait, and when none does any more.

    Args:
        engine: Whose journal.
    """

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._told: set[tuple[str, str]] = set()

    async def run(self) -> None:
        """Looks, for ever."""
        while True:
            try:
                await self.look()
            except StoreUnavailable as error:
                logger.debug("whether sagas wait for code cannot be told now: %s", error)
            except Exception:
                logger.exception("a look after sagas that wait for code failed; trying again")
            await self._engine.clock.sleep(_EVERY)

    async def look(self) -> None:
        """Looks once."""
        store, now = self._engine.store, self._engine.clock.now()
        orphans, leases = await self._engine.in_thread(lambda: (store.orphans(now), store.leases(now)))
        fleet = Fleet.of(leases)
        waiting = {(name, version): count for name, version, count in orphans if fleet.lacks(name, version)}
        for name, version in sorted(waiting.keys() - self._told):
            logger.warning(
                "sagas of %s version %s wait, %d by now: no coordinator that is alive has their code. Start one that "
                "has, or let a newer version continue it; `sagas list` shows them",
                name, version, waiting[name, version],
            )  # fmt: skip
        for name, version in sorted(self._told - waiting.keys()):
            logger.warning("sagas of %s version %s wait for their code no longer", name, version)
        self._told = set(waiting)
