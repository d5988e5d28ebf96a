"""The lines of semantic locks in memory."""

from __future__ import annotations

from itertools import count
from typing import TYPE_CHECKING

from sagas.stores.locking import Lines, Ticket

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

    from sagas.stores.port import LockChange

__all__ = ["MemoryLines"]


class MemoryLines(Lines):
    """See ``Lines``. A dictionary keeps the order in which it was filled, so each is a line."""

    def __init__(self) -> None:
        self._lines: dict[str, dict[str, Ticket]] = {}
        self._sagas: dict[str, dict[str, Ticket]] = {}
        self._called: set[int] = set()
        self._numbers = count(1)

    def all(self) -> list[list[Ticket]]:
        """Gives every line, by the names of the locks."""
        return [list(line.values()) for _, line in sorted(self._lines.items())]

    def leave(self, places: Collection[tuple[str, str]], sagas: Collection[str]) -> set[str]:
        """See ``Lines``."""
        every = {(saga_id, name) for saga_id in sagas for name in self._sagas.get(saga_id, {})}
        return {name for saga_id, name in {*places, *every} if self._leave(saga_id, name)}

    def _leave(self, saga_id: str, name: str) -> bool:
        """Takes one ticket out, if there is one."""
        ticket = self._lines.get(name, {}).pop(saga_id, None)
        if ticket is None:
            return False
        self._called.discard(ticket.number)
        del self._sagas[saga_id][name]
        if not self._sagas[saga_id]:
            del self._sagas[saga_id]
        if not self._lines[name]:
            del self._lines[name]
        return True

    def join(self, takes: Sequence[LockChange]) -> list[Ticket]:
        """See ``Lines``."""
        tickets = [Ticket(next(self._numbers), x.name, x.saga_id, x.path) for x in takes]
        for ticket in tickets:
            self._lines.setdefault(ticket.name, {})[ticket.saga_id] = ticket
            self._sagas.setdefault(ticket.saga_id, {})[ticket.name] = ticket
        return tickets

    def suspects(self, tickets: Sequence[Ticket]) -> list[Ticket]:
        """See ``Lines``."""
        return [
            ticket
            for ticket in tickets
            if any(
                other != ticket and self._last(other.name) != other for other in self._sagas[ticket.saga_id].values()
            )
        ]

    def _last(self, name: str) -> Ticket:
        """Gives the end of a line."""
        return next(reversed(self._lines[name].values()))

    def ahead(self, bounds: Mapping[str, int]) -> list[Ticket]:
        """See ``Lines``."""
        return [x for name, number in bounds.items() for x in self._lines.get(name, {}).values() if x.number < number]

    def of_sagas(self, sagas: Collection[str], until: int) -> list[Ticket]:
        """See ``Lines``."""
        return [x for saga_id in sagas for x in self._sagas.get(saga_id, {}).values() if x.number <= until]

    def call(self, names: Collection[str]) -> list[Ticket]:
        """See ``Lines``."""
        heads = sorted(next(iter(self._lines[name].values())) for name in names if name in self._lines)
        called = [head for head in heads if head.number not in self._called]
        self._called.update(head.number for head in called)
        return called
