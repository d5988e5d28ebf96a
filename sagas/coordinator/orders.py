"""What people and other processes ask of a saga: signals, cancels, and an operator's orders."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import orjson
from pydantic_core import from_json, to_json

from sagas.coordinator.checks import check_revision
from sagas.coordinator.fleet import fleet_for
from sagas.coordinator.loading import lock_answer
from sagas.coordinator.parking import KeepsMoving
from sagas.core import events as e
from sagas.core.transitions import SagaState, StepState
from sagas.errors import CoordinatorClosed, NotApplicable, PayloadError, RequestError, SagaNotFound

if TYPE_CHECKING:
    from sagas.coordinator.engine import Engine
    from sagas.coordinator.runtime import Runtime
    from sagas.coordinator.writes import Write
    from sagas.stores.port import SagaRow

__all__ = ["KINDS", "Orders", "check_order", "encode_order"]

_TRIES = 10
KINDS = ("signal", "cancel", "retry", "skip", "resume")


def encode_order(**fields: object) -> bytes:
    """Writes the body of mail; ``payload`` is JSON already.

    Raises:
        RequestError: Something is no text.
    """
    try:
        return orjson.dumps({k: orjson.Fragment(v) if isinstance(v, bytes) else v for k, v in fields.items()})
    except TypeError as error:
        raise RequestError(f"the request cannot be written to the journal: {error}") from error


def check_order(row: SagaRow | None, saga_id: str, kind: str) -> SagaRow:
    """Refuses orders that no state of the saga could grant.

    Raises:
        SagaNotFound: There is no such saga.
        NotApplicable: It has ended, or needs no operator.
    """
    if row is None:
        raise SagaNotFound(f"there is no saga {saga_id!r}")
    if row.ended_at is not None:
        raise NotApplicable(f"saga {saga_id} has ended ({row.status}), so a {kind} can no longer change it")
    if kind in ("retry", "skip", "resume") and row.status != "stuck":
        raise NotApplicable(f"saga {saga_id} is {row.status}, not stuck, so there is nothing to {kind}")
    return row


class Orders:
    """Carries out orders on the sagas of an engine."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    async def give(self, saga_id: str, kind: str, body: bytes, *, mail: int | None = None) -> bool:
        """Carries out an order, durably; one for a saga that lives elsewhere is posted.

        Args:
            saga_id: For whom.
            kind: One of ``KINDS``, or ``lock`` from a store.
            body: As ``encode_order`` writes it.
            mail: Its id, if it was posted.

        Returns:
            Whether anything was done. Mail that was not is to be kept.

        Raises:
            SagaNotFound: There is no such saga.
            NotApplicable: The saga's state does not allow it.
            PayloadError: A signal does not fit its receiver.
        """
        engine = self._engine
        read = () if mail is None else (mail,)
        fields: dict[str, Any] = from_json(body)
        for attempt in range(_TRIES):  # each time the saga may have moved to another coordinator meanwhile
            runtime = await engine.ensure(saga_id)
            if kind == "lock" and runtime is not None and "" in runtime.execution.halted:
                return False  # better code may go on from where the lock was waited for
            if runtime is not None and not (kind == "resume" and "" in runtime.execution.halted):
                write = self._apply(runtime, kind, body, fields, read)
            else:
                row = await engine.in_thread(engine.store.get, saga_id)
                if kind == "lock" and (row is None or row.ended_at is not None):
                    return await self._discard(read)  # it gave up waiting a moment before
                row = check_order(row, saga_id, kind)
                elsewhere = not await engine.may_drive(row) or await self._waits_for_code(row, kind)
                # One that is stuck may be parked; or its owner left since it was looked for, and it can be driven.
                if not elsewhere and (row.status != "stuck" or not attempt):
                    continue
                write = None if elsewhere else await self._wake_parked(row, runtime, kind, fields, read)
                if write is None:
                    return await self._post(saga_id, kind, body, mail)
            if write is None:
                return await self._discard(read)
            if await write.durable():
                return True
            if engine.closing:
                raise CoordinatorClosed(f"the coordinator was closed before the {kind} for saga {saga_id} was written")
        raise KeepsMoving(f"saga {saga_id} keeps changing hands; try again")

    async def _discard(self, read: tuple[int, ...]) -> bool:
        """Deletes mail that changes nothing."""
        if read:
            await self._engine.in_thread(self._engine.store.discard, read)
        return True

    async def _waits_for_code(self, row: SagaRow, kind: str) -> bool:
        """Says whether an order is for a coordinator that has a saga's code.

        Without any that is alive, whoever is asked rolls a parked saga back: for that its journal is enough.
        """
        engine = self._engine
        if not engine.lacks_code(row):
            return False
        if kind != "cancel" or not await engine.parking.is_parked(row):
            return True
        fleet = await engine.in_thread(fleet_for, engine.store, [row], engine.clock.now())
        return not fleet.lacks(row.name, row.version)

    async def _post(self, saga_id: str, kind: str, body: bytes, mail: int | None) -> bool:
        """Leaves an order for whoever drives the saga."""
        if mail is None:
            await self._engine.in_thread(self._engine.post, saga_id, kind, body)
            return True
        return False

    async def _wake_parked(
        self, row: SagaRow, runtime: Runtime | None, kind: str, fields: dict[str, Any], read: tuple[int, ...]
    ) -> Write | None:
        """Orders about a saga that the code at hand cannot drive; signals wait until it can."""
        if runtime is not None:
            self._engine.lost(runtime)
        if kind in ("resume", "retry"):
            resumed = e.SagaResumed(fields.get("by", ""), fields.get("reason", ""))
            return await self._engine.parking.unpark(row, resumed, read, expected=fields.get("expected"))
        if kind == "cancel":
            cancelled = e.CancelRequested(fields["reason"], fields.get("by", ""))
            return await self._engine.parking.unpark(row, cancelled, read, expected=fields.get("expected"))
        if kind == "skip":
            raise NotApplicable(f"saga {row.id} is parked ({row.error}); resume or cancel it")
        return None

    def _apply(
        self, runtime: Runtime, kind: str, body: bytes, fields: dict[str, Any], read: tuple[int, ...]
    ) -> Write | None:
        """Feeds an order to a saga; ``None`` if it changes nothing."""
        by, reason = fields.get("by", ""), fields.get("reason", "")
        if kind == "lock":
            return self._answer(runtime, body, read)
        check_revision(runtime.id, fields.get("expected"), runtime.revision)
        if kind == "signal":
            payload = _payload(body)
            runtime.execution.check_signal(fields["name"], payload)
            self._refuse_ended(runtime, kind)
            return runtime.feed(e.SignalReceived(fields["name"], payload, by, reason), read=read)
        if kind == "cancel":
            return self._cancel(runtime, e.CancelRequested(fields["reason"], by), read)
        return self._mend(runtime, kind, fields, by, read)

    def _answer(self, runtime: Runtime, body: bytes, read: tuple[int, ...]) -> Write:
        """Tells a saga about a lock, if it still waits for it."""
        answer = lock_answer(body)
        if runtime.execution.waits_for_lock(answer.path):
            return runtime.feed(answer, read=read)
        return runtime.forget_mail(*read)

    def _refuse_ended(self, runtime: Runtime, kind: str) -> None:
        """Refuses orders to a saga that has ended a moment ago."""
        if runtime.execution.state.ended:
            raise NotApplicable(f"saga {runtime.id} has ended, so a {kind} can no longer change it")

    def _cancel(self, runtime: Runtime, event: e.CancelRequested, read: tuple[int, ...]) -> Write | None:
        """Cancels; one that is undoing already is left alone."""
        execution = runtime.execution
        self._refuse_ended(runtime, "cancel")
        if execution.state in (SagaState.PIVOTED, SagaState.PIVOTED_STUCK):
            raise NotApplicable(f"saga {runtime.id} has passed its pivot, so it can only go forward")
        if not execution.can_cancel():
            return None
        return runtime.feed(event, read=read)

    def _mend(
        self, runtime: Runtime, kind: str, fields: dict[str, Any], by: str, read: tuple[int, ...]
    ) -> Write | None:
        """Retries or skips what halts a saga."""
        execution = runtime.execution
        paths = [path for path in execution.halted if path and fields.get("path") in (None, path)]
        if not paths:
            at = f" at {fields['path']}" if fields.get("path") else ""
            raise NotApplicable(f"saga {runtime.id}: nothing{at} waits for a {kind}")
        write: Write | None = None
        for path in paths:
            undoing = execution.steps[path].state is StepState.UNDO_FAILED
            if kind == "skip":
                reason = fields["reason"]
                event: e.Event = e.UndoSkipped(path, reason, by) if undoing else e.StepSkipped(path, reason, by)
            else:
                reason = fields.get("reason", "")
                event = e.UndoRetried(path, by, reason) if undoing else e.StepRetried(path, by, reason)
            write = runtime.feed(event, read=read)
        return write


def _payload(body: bytes) -> bytes:
    """Takes the payload out of a signal, as the JSON it is."""
    try:
        return to_json(from_json(body)["payload"])
    except (ValueError, KeyError) as error:
        raise PayloadError(f"the signal carries no JSON: {error}") from error
