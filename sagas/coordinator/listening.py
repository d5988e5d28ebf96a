"""Hears what other processes announce."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

import anyio
from anyio import CapacityLimiter, to_thread

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from sagas.stores.port import Store

__all__ = ["listen"]

logger = logging.getLogger("sagas.coordinator")

# Seconds that a thread is lent to the store at a time, and between two tries while nobody can be heard.
_PATIENCE = 1.0
_RETRY = 0.2


async def listen(store: Store, hearers: Sequence[Callable[[Sequence[str] | None], None]]) -> None:
    """Passes on what is announced, for ever; where nothing ever is, returns.

    Args:
        store: Where.
        hearers: Each takes the messages; ``None`` while they cannot be heard.
    """
    ear = CapacityLimiter(1)
    while store.announces:
        try:
            heard = await to_thread.run_sync(store.listen, _PATIENCE, limiter=ear, abandon_on_cancel=True)
        except Exception:
            logger.exception("listening to other processes failed; trying again")
            heard = None
        for hear in hearers:
            hear(heard)
        if heard is None:
            await anyio.sleep(_RETRY)
