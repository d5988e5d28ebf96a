"""What a coordinator does when its database may have lost the last commits, and before it writes anything more."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Collection

    from sagas.coordinator.engine import Engine

__all__ = ["look_what_is_left"]

logger = logging.getLogger("sagas.coordinator")


async def look_what_is_left(engine: Engine) -> None:
    """Has every saga read again that the database does not know as it stands here.

    Raises:
        StoreUnavailable: The database is away again; to be done once more.
    """
    last = [(x.id, x.kept, x.kept_digest) for x in engine.sagas.values() if x.kept >= 0]
    lost: Collection[str] = await engine.in_thread(engine.store.lost, last)
    if lost:
        logger.error("the database has lost its last commits: %d sagas go on from what it still has", len(lost))
    for saga_id in lost:
        runtime = engine.sagas.get(saga_id)
        if runtime is not None:
            engine.forget(runtime)
        engine.want(saga_id)
    # Also those whose end was lost, or that they wait, so that they are not in memory any more.
    for saga_id in await engine.in_thread(engine.store.unfinished, engine.owner, engine.clock.now()):
        if saga_id not in engine.sagas:
            engine.want(saga_id)
