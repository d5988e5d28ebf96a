"""How people's questions about many sagas are answered in memory: each saga is looked at."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from sagas.stores.surveying import STATUSES, Counted, Found, LockRow, OpenCount, Tally, fits

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from sagas.stores.locking_memory import MemoryLines
    from sagas.stores.rows import SagaRow
    from sagas.stores.surveying import Wanted

__all__ = ["MemorySurveys"]


class MemorySurveys:
    """See the module."""

    _sagas: dict[str, SagaRow]
    _lines: MemoryLines
    _keys: dict[str, int]

    def search(self, wanted: Wanted, *, limit: int, before: int | None = None) -> Found:
        """See ``Store.search``."""
        found: list[SagaRow] = []
        for row in reversed(list(self._sagas.values())):
            if (before is None or self._keys[row.id] < before) and fits(row, wanted):
                if len(found) == limit:
                    return Found(found, self._keys[found[-1].id])
                found.append(row)
        return Found(found, None)

    def count_by_status(self) -> Mapping[str, Counted]:
        """See ``Store.count_by_status``."""
        found = Counter(row.status for row in list(self._sagas.values()))
        return {status: Counted(found[status]) for status in STATUSES}

    def count_open(self) -> OpenCount:
        """See ``Store.count_open``."""
        rows = [row for row in list(self._sagas.values()) if row.ended_at is None]
        return OpenCount(Counter((row.name, row.status) for row in rows), complete=True)

    def tally(self, since: float) -> Tally:
        """See ``Store.tally``."""
        rows = list(self._sagas.values())
        started = Counter(row.name for row in rows if row.created_at >= since)
        ended = Counter((row.name, row.status) for row in rows if row.ended_at is not None and row.ended_at >= since)
        return Tally(started, since, ended, since)

    def lines(self, limit: int) -> Sequence[LockRow]:
        """See ``Store.lines``."""
        return [
            LockRow(ticket.name, ticket.saga_id, ticket.path, 0.0, held=not place)
            for line in self._lines.all()
            for place, ticket in enumerate(line)
        ][:limit]
