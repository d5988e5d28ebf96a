"""How many sagas have something to do in this process, and who waits for room.

Starts wait in order of rank. Sagas that wake up are always let in, since they hold what others may be waiting for:
held back, they could wait for each other. So the bound is one on what is begun. Those that are not even in memory
stay where they are as long as there are twice as many as the bound; up to there no start can take their room.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from sagas.coordinator.line import Line
from sagas.errors import CoordinatorBusy, CoordinatorClosed

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["Load"]

# The part of the room that is kept for orphaned sagas while there may be some, and the most of it.
_PART, _MOST = 10, 500


class Load:
    """See the module.

    Args:
        most: How many may be active; ``None`` for any number.

    Attributes:
        active: How many have something to do.
        on_room: Called when there is room again for orphaned sagas.
    """

    def __init__(self, most: int | None) -> None:
        self.active = 0
        self.on_room: Callable[[], None] = lambda: None
        self._most = sys.maxsize if most is None else most
        self._line = Line()
        self._kept = 0
        self._awaited = False

    @property
    def room(self) -> int:
        """How many more orphaned sagas may be taken over now."""
        return max(0, self._most - self.active)

    @property
    def crowded(self) -> bool:
        """Whether there are so many that not even those that wake up are fetched."""
        return self.spare <= 0

    @property
    def spare(self) -> int:
        """How many more there may be before it is ``crowded``."""
        return 2 * self._most - self.active

    def enter(self) -> bool:
        """Lets a saga begin, if it need not wait."""
        if self._line.length or self.active + self._kept >= self._most:
            return False
        self.active += 1
        return True

    async def wait(self, rank: float, within: float | None) -> None:
        """Waits until a saga may begin.

        Args:
            rank: Of the saga.
            within: Seconds, at most.

        Raises:
            CoordinatorBusy: There was no room in time.
            CoordinatorClosed: The coordinator is being left.
        """
        ticket = self._line.join(rank)
        try:
            admitted = await ticket.wait(within)
        except BaseException:
            if ticket.admitted:
                self.leave()
            raise
        if not admitted and self._line.closed:
            raise CoordinatorClosed("the coordinator was closed while the saga waited for room; nothing was started")
        if not admitted:
            raise CoordinatorBusy(
                f"there are {self.active} sagas with something to do, and no room for another one within {within:g} s; "
                "nothing was started. Try again later, or raise max_running="
            )

    def leave(self) -> None:
        """Called when a saga has nothing to do any more, for now or for ever."""
        self.active -= 1
        self._let_in()

    def wake(self) -> None:
        """Called when a saga has something to do again."""
        self.active += 1

    def keep(self, room: int | None = None) -> None:
        """Keeps room for orphaned sagas, whom a stream of starts would shut out else.

        Args:
            room: For how many; by default, for some, of which ``on_room`` tells.
        """
        self._awaited = room is None
        self._kept = max(1, min(self._most // _PART, _MOST)) if room is None else room
        self._let_in()

    def close(self) -> None:
        """Turns away whoever waits."""
        self._line.close()

    def _let_in(self) -> None:
        """Lets in whoever may begin now."""
        while self._line.length and self.active + self._kept < self._most:
            self.active += 1
            self._line.call()
        if self._awaited and self.active + self._kept <= self._most:
            self._awaited = False
            self.on_room()
