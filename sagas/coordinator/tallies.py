"""Counts what journals say, one saga at a time, in memory that grows with the number of steps and not of sagas.

Of a record it reads only the commands and attempts; arguments and results are not decoded.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from typing import TYPE_CHECKING, Any

import orjson

from sagas.coordinator.measuring import still_failed
from sagas.coordinator.sketch import Sketch
from sagas.stores.port import PayloadContext

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sagas.stores.port import Codec, JournalRow, SagaRow

__all__ = ["Attempts", "SagaTally", "StepTally", "Tallies"]


class Attempts:
    """Attempts of a step, or of its undo.

    Attributes:
        failed: How many failed.
        durations: Of all.
    """

    __slots__ = ("durations", "failed")

    def __init__(self) -> None:
        self.failed = 0
        self.durations = Sketch()

    def take(self, attempts: Sequence[Sequence[Any]]) -> None:
        """Counts what a record has of them."""
        for attempt in attempts:
            self.durations.add(attempt[1])
            self.failed += attempt[2] is not None


class StepTally:
    """One step; attributes as in ``StepStats``."""

    __slots__ = ("made", "retries", "succeeded", "undone", "undos")

    def __init__(self) -> None:
        self.made = Attempts()
        self.undos = Attempts()
        self.retries = self.succeeded = self.undone = 0


class SagaTally:
    """One saga; attributes as in ``SagaStats``."""

    __slots__ = ("consistent", "durations", "statuses")

    def __init__(self) -> None:
        self.statuses: Counter[str] = Counter()
        self.durations = Sketch()
        self.consistent = Sketch()

    @property
    def ended(self) -> int:
        """How many have ended."""
        return self.statuses["completed"] + self.statuses["compensated"]


class Tallies:
    """Counts.

    Attributes:
        sagas: By name.
        steps: By names of saga and step.
        read: How many sagas were taken.
        unreadable: How many of them have a journal that cannot be read here.
    """

    def __init__(self) -> None:
        self.sagas: defaultdict[str, SagaTally] = defaultdict(SagaTally)
        self.steps: defaultdict[tuple[str, str], StepTally] = defaultdict(StepTally)
        self.read = 0
        self.unreadable = 0

    def take(self, row: SagaRow, journal: Sequence[JournalRow], codec: Codec | None) -> None:
        """Counts a saga."""
        self.read += 1
        saga = self.sagas[row.name]
        saga.statuses[row.status] += 1
        if row.ended_at is not None:
            saga.durations.add(max(0.0, row.ended_at - row.created_at))
        try:
            records = [(x, _fields(x, codec)) for x in journal]
            _Story(self, row).take(records)
        except Exception:
            # It may be written through a codec that is not at hand, or by a newer version.
            self.unreadable += 1


def _fields(row: JournalRow, codec: Codec | None) -> dict[str, Any]:
    """Reads a record."""
    data = bytes(row.data)
    if codec is not None:
        data = codec.decode(data, PayloadContext(row.saga_id, row.path, row.kind))
    fields: dict[str, Any] = orjson.loads(data)
    return fields


class _Story:
    """Reads one journal."""

    def __init__(self, tallies: Tallies, row: SagaRow) -> None:
        self._tallies = tallies
        self._row = row
        self._names: dict[str, str] = {}
        self._failed: float | None = None
        self._undid = False

    def take(self, records: Sequence[tuple[JournalRow, dict[str, Any]]]) -> None:
        """Counts what it says."""
        for row, fields in records:
            commands = fields.get("then", ())
            steps = [command for command in commands if command[0] == "step"]
            if row.path in self._names:
                self._take_step(row, fields.get("attempts", ()))
            self._names.update((command[1], command[2]) for command in steps)
            self._failed = still_failed(self._failed, row.at, row.kind, row.path, goes_on=bool(steps))
            if self._failed is None and any(command[0] == "undo" for command in commands):
                self._failed = row.at
        ended = self._row.ended_at
        if self._row.status == "compensated" and self._undid and self._failed is not None and ended is not None:
            self._tallies.sagas[self._row.name].consistent.add(max(0.0, ended - self._failed))

    def _take_step(self, row: JournalRow, attempts: Sequence[Sequence[Any]]) -> None:
        """Counts a record of a step or its undo."""
        tally = self._tallies.steps[self._row.name, self._names[row.path]]
        if row.kind.startswith("Undo"):
            self._undid = True
            tally.undos.take(attempts)
            tally.undone += row.kind == "UndoSucceeded"
            return
        if row.kind == "StepSucceeded":
            tally.succeeded += 1
            if attempts and attempts[-1][2] is not None:
                attempts = attempts[:-1]  # what the probe has found
        tally.made.take(attempts)
        tally.retries += len(attempts) if row.kind == "StepBackedOff" else max(0, len(attempts) - 1)
