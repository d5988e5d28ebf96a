"""Sagas that wait for an operator: those that the code at hand cannot drive, and those whose journal cannot be read."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

from sagas.coordinator.checks import check_revision
from sagas.coordinator.loading import read_history
from sagas.coordinator.measuring import name_of
from sagas.coordinator.writes import Unattended, Write
from sagas.coordinator.writing import write_record
from sagas.core import commands as c
from sagas.core import events as e
from sagas.core.failures import describe, one_line
from sagas.core.replay import abandon, parked_by, replay
from sagas.errors import IllegalTransition, NotApplicable, PayloadError, ReplayDiverged
from sagas.stores.port import Change

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sagas.coordinator.engine import Engine
    from sagas.coordinator.loading import History
    from sagas.coordinator.runtime import Runtime
    from sagas.core.definitions import Saga
    from sagas.core.execution import Execution
    from sagas.stores.port import JournalRow, SagaRow

__all__ = ["KeepsMoving", "Parking", "outstanding"]

logger = logging.getLogger("sagas.coordinator")


class KeepsMoving(NotApplicable):
    """A saga changed hands each time that something was asked of it; it can be asked again."""


class Parking:
    """See the module.

    Args:
        engine: Whose sagas.
    """

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def park(self, row: SagaRow, history: History, error: Exception) -> Write:
        """Writes that a saga cannot go on with the code at hand."""
        logger.error("saga %s is parked: %s", row.id, error)
        at = max(history.records[-1].at, self._engine.clock.now())
        parked = write_record(
            e.SagaParked(describe(error)), at, (), saga_id=row.id, seq=len(history.records), after=history.digest,
            codec=self._engine.codec,
        )  # fmt: skip
        return self._write_stuck(row.id, row.name, error, (parked,))

    def mark_stuck(self, row: SagaRow, error: Exception) -> Write:
        """Shows that a saga's journal cannot be read; nothing can be appended to it."""
        logger.error("saga %s is stuck: %s", row.id, error)
        return self._write_stuck(row.id, row.name, error, ())

    def _write_stuck(self, saga_id: str, name: str, error: Exception, rows: tuple[JournalRow, ...]) -> Write:
        """Writes that a saga waits for an operator."""
        change = Change(
            saga_id, "stuck", active=False, wake_at=None, ended_at=None, error=one_line(error), owner=self._engine.owner
        )
        write = Write(Unattended(saga_id, lambda: self._is_stuck(saga_id, name)), rows, change=change)
        self._engine.journal.append(write)
        return write

    def _is_stuck(self, saga_id: str, name: str) -> None:
        """Tells whoever wants to know, when it is durable."""
        self._engine.reported(saga_id, "stuck")
        if self._engine.measuring is not None:
            self._engine.measuring.halted(name)

    def broken(self, runtime: Runtime, error: Exception) -> None:
        """Parks a saga that could not take an event, which only a bug or a codec can cause; the others go on.

        As a record, so that it is fenced as any other, and an operator can resume or cancel the saga.
        """
        logger.error("saga %s cannot be driven on", runtime.id, exc_info=error)
        self._engine.forget(runtime, keep_writes=True)
        if not runtime.seq:
            return
        try:
            row = runtime.encode(e.SagaParked(describe(error)), self._engine.clock.now(), ())
        except Exception:
            logger.exception("saga %s cannot even be parked; it is tried again by the next coordinator", runtime.id)
            return
        self._write_stuck(runtime.id, name_of(runtime), error, (row,))

    async def is_parked(self, row: SagaRow) -> bool:
        """Says whether a saga waits for an operator since its code did not fit."""
        if row.status != "stuck":
            return False
        journals = await self._engine.in_thread(self._engine.store.load, [row.id])
        return parked_by(read_history(row.id, journals.get(row.id, []), self._engine.codec).records) is not None

    async def unpark(
        self,
        row: SagaRow,
        event: e.SagaResumed | e.CancelRequested,
        read: tuple[int, ...] = (),
        *,
        expected: object = None,
    ) -> Write:
        """Lets a saga go on with the code at hand, or rolls it back from its journal alone.

        Raises:
            SagaMovedOn: Its last record is not the expected one.
            NotApplicable: It is not parked, or the code at hand does not fit either.
            JournalCorrupted: Its journal cannot be read.
        """
        engine = self._engine
        journals = await engine.in_thread(engine.store.load, [row.id])
        now = (await engine.in_thread(engine.store.find, [row.id])).get(row.id)
        if now is None or (now.owner, now.status) != (row.owner, row.status):
            raise KeepsMoving(f"saga {row.id} keeps changing hands; try again")
        history = read_history(row.id, journals.get(row.id, []), self._engine.codec)
        check_revision(row.id, expected, history.revision)
        if isinstance(event, e.CancelRequested):
            if parked_by(history.records) is None:
                raise NotApplicable(f"saga {row.id} is not parked")
            execution = abandon(row.id, self._engine.registry.steps, history.records)
            saga: Saga[..., Any] | None = None
        else:
            saga = self._engine.registry.find(history.start.name, history.start.version)
            try:
                execution = replay(saga, row.id, self._engine.registry.steps, history.records)
            except (ReplayDiverged, PayloadError) as error:
                raise NotApplicable(f"saga {row.id} still does not fit the code at hand: {error}") from error
        unnoted, execution.unnoted = execution.unnoted, ()
        runtime = self._engine.adopt(row, history, execution)
        try:
            return runtime.feed(event, read=read, noted=unnoted, dispatch=[*outstanding(execution), *_ends(unnoted)])
        except IllegalTransition as error:
            self._engine.forget(runtime)
            raise NotApplicable(
                f"saga {row.id} has passed its pivot, or may have, so it can only go forward: deploy code that "
                "fits its journal and resume it"
            ) from error


def outstanding(execution: Execution) -> list[c.Command]:
    """Lists what is left to do: commands, and timers."""
    timers = [c.StartTimer(path, until) for path, until in execution.timers.items()]
    return [*execution.outstanding(), *timers]


def _ends(commands: Sequence[c.Command]) -> list[c.Command]:
    """Picks the commands that are not outstanding steps."""
    return [command for command in commands if isinstance(command, (c.Complete, c.Halt))]
