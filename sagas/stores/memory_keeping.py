"""What the store in memory keeps: finished sagas until they are archived or deleted, and schedules."""

from __future__ import annotations

import threading
from collections import Counter
from typing import TYPE_CHECKING

from sagas.stores.keeping import ENDED, HANDOVERS, SUBMITTED, TAKEN, Purge, Purged, ScheduleRow, refuse_open
from sagas.stores.packing import pack, unpack

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from sagas.stores.port import JournalRow, Mail, SagaRow

__all__ = ["MemoryKeeper"]


class MemoryKeeper:
    """See the module."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._sagas: dict[str, SagaRow] = {}
        self._journals: dict[str, list[JournalRow]] = {}
        self._keys: dict[str, int] = {}  # in the order of arrival; never given twice
        self._mail: dict[int, Mail] = {}
        self._archive: dict[str, bytes] = {}
        self._schedules: dict[str, ScheduleRow] = {}

    def time(self, now: float) -> float:
        """See ``Store.time``."""
        return now

    def _journal(self, saga_id: str) -> list[JournalRow]:
        """Gives a journal, wherever it is."""
        packed = self._archive.get(saga_id)
        return self._journals.get(saga_id, []) if packed is None else unpack(saga_id, packed)

    # --- what has ended -----------------------------------------------------------------------------------------

    def purge(self, what: Purge, *, limit: int, after: int = 0, dry_run: bool = False) -> Purged:  # noqa: ARG002 - it is quick to begin again
        """See ``Store.purge``."""
        refuse_open(what)
        with self._lock:
            deleted = [row for row in self._sagas.values() if self._is_to_go(row, what)][:limit]
            archived = [
                row
                for row in self._sagas.values()
                if row.id not in self._archive and row not in deleted and self._may_go(row, what.archive, what)
            ][: limit - len(deleted)]
            if not dry_run:
                self._purge(archived, deleted)
        more = len(archived) + len(deleted) == limit and not dry_run
        return Purged(Counter(x.status for x in archived), Counter(x.status for x in deleted), 1 if more else None)

    def _is_to_go(self, row: SagaRow, what: Purge) -> bool:
        """Says of a saga that nothing of it is to stay."""
        unarchived = row.id not in self._archive and self._may_go(row, what.unarchived, what)
        return unarchived or self._may_go(row, what.delete, what)

    def _may_go(self, row: SagaRow, limits: Mapping[str, float], what: Purge) -> bool:
        """Says of a saga that it ended, long enough ago."""
        if row.ended_at is None or row.status not in ENDED or row.ended_at >= limits.get(row.status, 0.0):
            return False
        if row.ended_at < what.settled or row.id in self._archive:
            return True
        kinds = [record.kind for record in self._journals[row.id]]
        return not any(kind in HANDOVERS for kind in kinds[2 if kinds[:2] == [SUBMITTED, TAKEN] else 0 :])

    def _purge(self, archived: Sequence[SagaRow], deleted: Sequence[SagaRow]) -> None:
        """Archives and deletes."""
        for row in archived:
            self._archive[row.id] = pack(self._journals.pop(row.id))
        for row in deleted:
            del self._sagas[row.id], self._keys[row.id]
            self._journals.pop(row.id, None)
            self._archive.pop(row.id, None)
        gone = {row.id for row in (*archived, *deleted)}
        for mail in [mail for mail in self._mail.values() if mail.saga_id in gone]:
            del self._mail[mail.id]

    # --- schedules ----------------------------------------------------------------------------------------------

    def schedules(self, name: str | None = None) -> Sequence[ScheduleRow]:
        """See ``Store.schedules``."""
        return [row for key, row in sorted(self._schedules.items()) if name in (None, key)]

    def add_schedule(self, row: ScheduleRow) -> bool:
        """See ``Store.add_schedule``."""
        with self._lock:
            return self._schedules.setdefault(row.name, row) is row

    def move_schedule(self, seen: ScheduleRow, spec: str, due_at: float) -> bool:
        """See ``Store.move_schedule``."""
        with self._lock:
            found = self._schedules.get(seen.name)
            if found is None or (found.spec, found.due_at) != (seen.spec, seen.due_at):
                return False
            self._schedules[seen.name] = found._replace(spec=spec, due_at=due_at)
            return True

    def pause_schedule(self, name: str, now: float, *, paused: bool) -> bool:
        """See ``Store.pause_schedule``."""
        with self._lock:
            found = self._schedules.get(name)
            if found is None:
                return False
            due_at = max(found.due_at, now) if found.paused and not paused else found.due_at
            self._schedules[name] = found._replace(paused=paused, due_at=due_at)
            return True

    def remove_schedule(self, name: str) -> bool:
        """See ``Store.remove_schedule``."""
        with self._lock:
            return self._schedules.pop(name, None) is not None
