"""Archives or deletes finished sagas when they are old enough, in the background, one process of a fleet at a time.

Which process does it is a row beside the schedules: it says when somebody may go on, and from where. Nothing depends
on it being one only, since each batch is a transaction that looks anew at what it may touch.
"""

from __future__ import annotations

import logging
from collections import Counter
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING

import anyio

from sagas.coordinator.checks import check_number
from sagas.errors import RequestError, StoreUnavailable
from sagas.stores.keeping import OWN_ROWS, Purge, ScheduleRow

if TYPE_CHECKING:
    from sagas.coordinator.engine import Engine
    from sagas.stores.keeping import Purged

__all__ = ["SETTLED", "Retention", "Sweep"]

logger = logging.getLogger("sagas.retention")

# Seconds after which a coordinator that was paused knows that a saga of its own went on without it.
SETTLED = 3600.0

_NAME = f"{OWN_ROWS}retention"
# On SQLite nobody else writes meanwhile, which takes about 10 ms.
_AT_ONCE = 100
# Seconds for which a process keeps the work to itself, and renews that when half of them are over.
_CLAIM = 60.0
# How long it rests after each batch, as a multiple of the time that this took: usually, and when a walk takes longer
# than there should be between two, so that more sagas end than go.
_REST, _SHORT_REST = 2.0, 0.5
_LEAST_REST = 0.01


@dataclass(frozen=True, slots=True, kw_only=True)
class Retention:
    """How long finished sagas are kept. Open and stuck ones are always kept.

    Ages are seconds, or a ``timedelta``, since the end of a saga. A saga that changed hands within the last hour of
    its life is kept for an hour at least.

    Attributes:
        completed: Age at which completed sagas are archived or deleted; ``None`` to leave them.
        compensated: The same for compensated ones.
        archive: Whether to archive them: the journal is packed, ``get`` still finds it, and the id stays taken.
            Otherwise nothing of them stays, and the id may be used by another saga.
        archived: Age at which archived sagas are deleted; ``None`` for never.
        every: Seconds between two walks through the journal.

    Raises:
        RequestError: An age is none, or these make no sense together.
    """

    completed: float | timedelta | None = None
    compensated: float | timedelta | None = None
    archive: bool = True
    archived: float | timedelta | None = None
    every: float | timedelta = 600.0

    def __post_init__(self) -> None:
        for name in ("completed", "compensated", "archived"):
            value = getattr(self, name)
            if value is not None:
                check_number(name, _seconds(value))
        check_number("every", _seconds(self.every), above=True)
        if self.archived is None:
            return
        if not self.archive:
            raise RequestError("Retention(archive=False, archived=…): what is deleted at once is never archived")
        if any(_seconds(self.archived) < age for age in self._ages().values()):
            raise RequestError("Retention(archived=…) is younger than the age at which sagas are archived")

    def _ages(self) -> dict[str, float]:
        """Gives the ages that are set, by status."""
        both = {"completed": self.completed, "compensated": self.compensated}
        return {status: _seconds(age) for status, age in both.items() if age is not None}

    def due(self, now: float) -> Purge:
        """Says what may go at a time."""
        ages = self._ages()
        if not self.archive:
            return Purge(delete={status: now - age for status, age in ages.items()}, settled=now - SETTLED)
        forgotten = {} if self.archived is None else dict.fromkeys(ages, now - _seconds(self.archived))
        return Purge(
            archive={status: now - age for status, age in ages.items()}, delete=forgotten, settled=now - SETTLED
        )


def _seconds(age: float | timedelta) -> float:
    """Gives an age in seconds."""
    return age.total_seconds() if isinstance(age, timedelta) else age


class Sweep:
    """Does what a retention says, for ever.

    Args:
        engine: Whose store.
        retention: What to do.
    """

    def __init__(self, engine: Engine, retention: Retention) -> None:
        self._engine = engine
        self._retention = retention
        self._every = _seconds(retention.every)

    async def run(self) -> None:
        """Walks through the journal, again and again; a database that is away is waited for."""
        while True:
            try:
                pause = await self._turn()
            except StoreUnavailable as error:
                logger.warning("%s; finished sagas are left until it can", error)
                pause = _CLAIM
            except Exception:
                logger.exception("finished sagas could not be archived or deleted; trying again")
                pause = _CLAIM
            await self._engine.clock.sleep(pause)

    async def _turn(self) -> float:
        """Walks, if it is time and nobody else does; gives seconds until the next look."""
        store, in_thread = self._engine.store, self._engine.in_thread
        now = await self._now()
        rows = await in_thread(store.schedules, _NAME)
        row = rows[0] if rows else ScheduleRow(_NAME, "0", now)
        if not rows:
            await in_thread(store.add_schedule, row)
        if row.due_at > now:
            return row.due_at - now
        return self._every if await self._walk(row, now) else _CLAIM

    async def _walk(self, row: ScheduleRow, now: float) -> bool:
        """Walks from where the last one stopped to the end; says whether it came there."""
        archived: Counter[str] = Counter()
        deleted: Counter[str] = Counter()
        began = now
        after: int | None = int(row.spec)
        claim = await self._move(row, row.spec, now + _CLAIM)
        while claim is not None and after is not None:
            purged = await self._batch(now, after, _REST if now < began + self._every else _SHORT_REST)
            archived.update(purged.archived)
            deleted.update(purged.deleted)
            after, now = purged.after, await self._now()
            if after is not None and now > claim.due_at - _CLAIM / 2:
                claim = await self._move(claim, str(after), now + _CLAIM)
        for counter, what in ((archived, "archived"), (deleted, "deleted")):
            if counter:
                logger.info("%s: %s", what, ", ".join(f"{count} {status}" for status, count in counter.items()))
        return claim is not None and await self._move(claim, "0", now + self._every) is not None

    async def _batch(self, now: float, after: int, rest: float) -> Purged:
        """Purges once, and rests for longer than that took."""
        store, what = self._engine.store, self._retention.due(now)
        began = anyio.current_time()
        purged: Purged = await self._engine.in_thread(lambda: store.purge(what, limit=_AT_ONCE, after=after))
        await anyio.sleep(max(_LEAST_REST, rest * (anyio.current_time() - began)))
        return purged

    async def _move(self, row: ScheduleRow, spec: str, due_at: float) -> ScheduleRow | None:
        """Takes the work or gives it back; ``None`` if somebody else was faster."""
        moved = await self._engine.in_thread(self._engine.store.move_schedule, row, spec, due_at)
        return row._replace(spec=spec, due_at=due_at) if moved else None

    async def _now(self) -> float:
        """Gives the time that the store goes by."""
        now: float = await self._engine.in_thread(self._engine.store.time, self._engine.clock.now())
        return now
