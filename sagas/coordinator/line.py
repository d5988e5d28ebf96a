"""Waiting in line, by rank."""

from __future__ import annotations

import heapq
from itertools import count

import anyio

__all__ = ["Line", "Ticket"]

# Those who left are taken out of the line when their turn comes, or when they are too many.
_SIFT_FROM = 64


class Ticket:
    """A place in a line.

    Attributes:
        admitted: Whether its turn came; ``None`` as long as nothing is decided.
    """

    __slots__ = ("_decided", "_line", "admitted")

    def __init__(self, line: Line) -> None:
        self._decided = anyio.Event()
        self._line = line
        self.admitted: bool | None = None

    def decide(self, *, admitted: bool) -> None:
        """Lets whoever waits go on, once: admitted, or turned away."""
        if self.admitted is None:
            self.admitted = admitted
            self._line.length -= 1
            self._decided.set()

    async def wait(self, within: float | None = None) -> bool:
        """Waits for its turn, for at most so many seconds, and says whether it came."""
        try:
            with anyio.move_on_after(within):
                await self._decided.wait()
        finally:
            # Also if the task was cancelled; whoever called this looks whether it had been admitted by then.
            self.decide(admitted=False)
        return bool(self.admitted)


class Line:
    """Those who wait, smallest rank first; of the same rank, in the order in which they came.

    Attributes:
        length: How many wait.
        closed: Whether nobody is admitted any more.
    """

    __slots__ = ("_numbers", "_tickets", "closed", "length")

    def __init__(self) -> None:
        self._tickets: list[tuple[float, int, Ticket]] = []
        self._numbers = count()
        self.closed = False
        self.length = 0

    def join(self, rank: float) -> Ticket:
        """Gives a place in the line; in one that is closed, the ticket is turned away already."""
        ticket = Ticket(self)
        self.length += 1
        if self.closed:
            ticket.decide(admitted=False)
            return ticket
        if len(self._tickets) > _SIFT_FROM + 2 * self.length:
            self._tickets = [entry for entry in self._tickets if entry[2].admitted is None]
            heapq.heapify(self._tickets)
        heapq.heappush(self._tickets, (rank, next(self._numbers), ticket))
        return ticket

    def call(self) -> None:
        """Admits the first; somebody has to wait."""
        while True:
            _, _, ticket = heapq.heappop(self._tickets)
            if ticket.admitted is None:
                ticket.decide(admitted=True)
                return

    def close(self) -> None:
        """Turns away everybody, and whoever comes."""
        self.closed = True
        for _, _, ticket in self._tickets:
            ticket.decide(admitted=False)
        self._tickets.clear()
