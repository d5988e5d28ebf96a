"""The store of a simulated fleet: what is in it outlasts every process."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sagas.stores.locking_memory import MemoryLines
from sagas.stores.memory import MemoryStore
from sagas.stores.memory_limits import MemoryLimits

if TYPE_CHECKING:
    from sagas.stores.port import JournalRow, SagaRow

__all__ = ["Disk"]


class Disk(MemoryStore):
    """See the module."""

    def __init__(self) -> None:
        super().__init__("simulated:")

    def journal(self, saga_id: str) -> list[JournalRow]:
        """Gives what is durable of a saga."""
        return self._journals.get(saga_id, [])

    def row(self, saga_id: str) -> SagaRow | None:
        """Gives a saga as a whole."""
        return self._sagas.get(saga_id)

    @property
    def letters(self) -> int:
        """How many orders and signals wait to be taken note of, by whichever process."""
        return len(self._mail)

    def wipe(self) -> None:
        """Forgets every saga, but not who is alive."""
        for table in (self._sagas, self._journals, self._mail, self._claims, self._archive, self._schedules):
            table.clear()
        self._lines = MemoryLines()
        self._limits = MemoryLimits()
