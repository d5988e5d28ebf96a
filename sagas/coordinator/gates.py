"""Lets attempts begin as their limit allows, by the rank of their sagas."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING

import anyio

from sagas.coordinator.line import Line
from sagas.core.limits import Bucket

if TYPE_CHECKING:
    from sagas.coordinator.clock import Clock
    from sagas.coordinator.line import Ticket
    from sagas.core.limits import Limit

__all__ = ["Gate", "ProcessGate"]


class Gate(ABC):
    """One limit, as this process sees it.

    Attributes:
        inside: How many attempts run.
        limit: What was declared.
    """

    def __init__(self, limit: Limit, clock: Clock) -> None:
        self.limit = limit
        self.inside = 0
        self._clock = clock
        self._line = Line()
        self._stirred = anyio.Event()

    @abstractmethod
    def _is_open(self) -> bool:
        """Says whether one more may begin now."""

    @abstractmethod
    def _draw(self, tokens: int) -> None:
        """Takes a token that is there; or gives one back (-1) that was not used after all."""

    @abstractmethod
    async def run(self) -> None:
        """Gets what there has to be for those who wait, for ever."""

    def enter(self) -> bool:
        """Lets an attempt begin, if it need not wait."""
        if self._line.length or not self._is_open():
            return False
        self._admit()
        return True

    def join(self, rank: float) -> Ticket:
        """Gives a place in the line, for ``wait``."""
        ticket = self._line.join(rank)
        self.stir()
        return ticket

    async def wait(self, ticket: Ticket, within: float | None) -> bool:
        """Waits in line.

        Args:
            ticket: From ``join``. If somebody turns it away, this returns.
            within: Seconds, at most.

        Returns:
            Whether the attempt may begin.
        """
        try:
            return await ticket.wait(within)
        except BaseException:
            if ticket.admitted:
                self._draw(-1)
                self.leave()
            raise

    def leave(self) -> None:
        """Called when an attempt has ended."""
        self.inside -= 1
        if self._line.length:
            self._let_in()
            self.stir()

    def close(self) -> None:
        """Turns away whoever waits."""
        self._line.close()

    def stir(self) -> None:
        """Has ``run`` look again."""
        self._stirred.set()

    async def _rest(self, seconds: float | None) -> None:
        """Waits until there may be something to do."""
        with anyio.move_on_after(seconds):
            await self._stirred.wait()
        self._stirred = anyio.Event()

    def _admit(self) -> None:
        """Notes that one more begins."""
        self.inside += 1
        self._draw(1)

    def _let_in(self) -> None:
        """Lets in whoever may begin now."""
        while self._line.length and self._is_open():
            self._admit()
            self._line.call()


class ProcessGate(Gate):
    """A limit within one process."""

    def __init__(self, limit: Limit, clock: Clock) -> None:
        super().__init__(limit, clock)
        self._bucket = Bucket(0.0 if limit.rate is None else limit.burst, clock.now())

    def _is_open(self) -> bool:
        """See ``Gate``."""
        limit = self.limit
        if limit.concurrency is not None and self.inside >= limit.concurrency:
            return False
        if limit.rate is None:
            return True
        self._bucket = self._bucket.filled(self._clock.now(), speed=limit.speed, burst=limit.burst)
        return self._bucket.has_one

    def _draw(self, tokens: int) -> None:
        """See ``Gate``."""
        if self.limit.rate is not None:
            self._bucket = self._bucket._replace(tokens=self._bucket.tokens - tokens)

    async def run(self) -> None:
        """Lets somebody in whenever there is a new token."""
        limit = self.limit
        if limit.rate is None:
            return
        while True:
            self._let_in()
            full = limit.concurrency is not None and self.inside >= limit.concurrency
            if self._line.length and not full:
                await self._rest(self._bucket.pause(self._clock.now(), speed=limit.speed, burst=limit.burst))
            else:
                await self._rest(None)
