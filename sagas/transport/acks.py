"""Acknowledges what is dealt with, many together, and aside: nobody waits for it.

Until then a message is only held back from others, and one that comes again is answered from memory. So an
acknowledgement may take its time, and then one round trip to the broker, and one write to its disk, does for many.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

import anyio

from sagas.errors import TransportError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from sagas.transport.queues import Delivery, Queue

__all__ = ["Acks"]

logger = logging.getLogger("sagas.transport")

# Seconds for which the first of a batch waits for others, and the part of its visibility that may be.
_LINGER, _PART = 0.05, 0.1


class Acks:
    """See the module.

    Args:
        queue: Whose deliveries.
        most: How many go together at most.
        settled: Called with those that are acknowledged, or cannot be, and so are delivered again.
    """

    def __init__(
        self, queue: Queue, *, most: int, settled: Callable[[Sequence[Delivery]], None] = lambda _: None
    ) -> None:
        self._queue = queue
        self._most = most
        self._settled = settled
        self._linger = min(_LINGER, _PART * queue.visibility)
        self._waiting: list[Delivery] = []
        self._hurrying = False
        self._some = anyio.Event()
        self._enough = anyio.Event()

    def put(self, delivery: Delivery) -> None:
        """Acknowledges soon; at once what others of its group wait for."""
        self._waiting.append(delivery)
        self._some.set()
        if len(self._waiting) >= self._most or delivery.message.group is not None:
            self._enough.set()

    def hurry(self) -> None:
        """Acknowledges at once from now on, since no others will come."""
        self._hurrying = True
        self._enough.set()

    async def run(self) -> None:
        """Acknowledges, until it is cancelled."""
        while True:
            await self._some.wait()
            if not self._hurrying:
                with anyio.move_on_after(self._linger):
                    await self._enough.wait()
            await self.flush()

    async def flush(self) -> None:
        """Acknowledges what there is. What a cancelled call leaves unsaid, another one says; twice does no harm."""
        self._some, self._enough = anyio.Event(), anyio.Event()
        while some := self._waiting[: self._most]:
            await self._acknowledge(some)
            del self._waiting[: len(some)]
            self._settled(some)

    async def _acknowledge(self, deliveries: Sequence[Delivery]) -> None:
        """Acknowledges some; if others have them by now, or the broker is away, they are answered from memory."""
        try:
            await self._queue.ack(*deliveries)
        except TransportError as error:
            logger.info("%s", error)
        except Exception:
            logger.exception("queue %s: messages that are dealt with could not be acknowledged", self._queue.name)
