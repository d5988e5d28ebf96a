"""Takes what comes from a queue, whatever becomes of the queue meanwhile."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

import anyio

from sagas.errors import TransportClosed, TransportError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sagas.transport.queues import Delivery, Queue

__all__ = ["Intake"]

# Seconds for which one question waits, and for which a broker that fails is left alone.
_WAIT, _PAUSE = 20.0, 0.5


class Intake:
    """Takes deliveries. A broker that is away is asked until it is back, and its log is told so once.

    Whatever the queue raises: an error of a client library would otherwise end all that shares a task group with this.

    Args:
        queue: Where they come from.
        what: They are, for the log.
        logger: It.
    """

    def __init__(self, queue: Queue, what: str, logger: logging.Logger) -> None:
        self._queue = queue
        self._what = what
        self._logger = logger
        self._fails = False

    async def take(self, limit: int) -> Sequence[Delivery]:
        """Waits for deliveries; gives none if none come for a while.

        Raises:
            TransportClosed: The queue is closed.
        """
        try:
            found = await self._queue.receive(limit, wait=_WAIT)
        except TransportClosed:
            raise
        except Exception as error:
            self._tell(error)
            await anyio.sleep(_PAUSE)
            return ()
        if self._fails:
            self._fails = False
            self._logger.warning("queue %s gives %s again", self._queue.name, self._what)
        return found

    def _tell(self, error: Exception) -> None:
        """Says what is wrong, the first time; with the place if it is no trouble of a broker but a fault."""
        level = logging.DEBUG if self._fails else logging.WARNING
        self._fails = True
        self._logger.log(
            level, "queue %s gives no %s at the moment, and is asked until it does: %s", self._queue.name, self._what,
            str(error) or repr(error), exc_info=None if isinstance(error, TransportError) else error,
        )  # fmt: skip
