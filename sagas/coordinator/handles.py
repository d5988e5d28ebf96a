"""Waits for the end of a saga, wherever it is driven."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Generic, TypeVar, cast

from sagas.coordinator.loading import read_history
from sagas.core import commands as c
from sagas.core import events as e
from sagas.errors import CoordinatorClosed, JournalCorrupted, SagaCompensated, SagaNotFound, SagaStuck

if TYPE_CHECKING:
    from sagas.coordinator.engine import Engine
    from sagas.coordinator.runtime import Runtime
    from sagas.core.definitions import Saga
    from sagas.stores.port import SagaRow

__all__ = ["Handle", "outcome"]

R = TypeVar("R")

_FIRST_LOOK, _LAST_LOOK = 0.02, 0.5
_LOST = e.ErrorInfo("unknown", "")


class Handle(Generic[R]):
    """A saga that was started.

    Attributes:
        id: Its id.
    """

    __slots__ = ("_engine", "_runtime", "_saga", "id")

    def __init__(self, engine: Engine, saga: Saga[..., Any], saga_id: str, runtime: Runtime | None) -> None:
        self._engine = engine
        self._saga = saga
        self._runtime = runtime
        self.id = saga_id

    def __repr__(self) -> str:
        return f"<Handle of saga {self.id}>"

    async def result(self) -> R:
        """Waits for the saga's end.

        Returns:
            What its body returned.

        Raises:
            SagaCompensated: It failed, was cancelled or timed out, and is undone.
            SagaStuck: It needs an operator. Wait again once one has acted.
            CoordinatorClosed: The coordinator is shutting down; the saga goes on when one runs again.
            JournalCorrupted: It has ended, and its journal is not what was written.
        """
        return cast("R", await outcome(self._engine, self._saga, self.id, self._runtime))


async def outcome(engine: Engine, saga: Saga[..., Any], saga_id: str, runtime: Runtime | None) -> object:
    """Waits for the end of a saga; see ``Handle.result``."""
    pause = _FIRST_LOOK
    runtime = runtime or engine.sagas.get(saga_id)
    while True:
        while runtime is not None and not runtime.discarded:
            if runtime.reported == "completed":
                return saga.result_schema.decode(runtime.execution.result or b"null")
            if runtime.reported in ("compensated", "stuck"):
                raise _failure(saga_id, runtime.reported, _cause(runtime))
            await runtime.change()
        if engine.closing:
            raise CoordinatorClosed(f"the coordinator was closed; saga {saga_id} goes on when one runs again")
        row = await engine.in_thread(engine.store.get, saga_id)
        if row is None:
            raise SagaNotFound(f"there is no saga {saga_id!r}")
        if row.ended_at is not None or row.status == "stuck":
            return await _read_outcome(engine, saga, row)
        await engine.clock.sleep(pause)
        pause = min(pause * 2, _LAST_LOOK)
        runtime = engine.sagas.get(saga_id)


def _cause(runtime: Runtime) -> e.ErrorInfo:
    """Says why a saga did not complete."""
    execution = runtime.execution
    if execution.state.stuck:
        return next(iter(execution.halted.values()), _LOST)
    return execution.cause or _LOST


def _failure(saga_id: str, status: str, cause: e.ErrorInfo) -> SagaCompensated | SagaStuck:
    """Makes the exception for a saga that did not complete."""
    kind = SagaCompensated if status == "compensated" else SagaStuck
    return kind(saga_id, cause.type, cause.message)


async def _read_outcome(engine: Engine, saga: Saga[..., Any], row: SagaRow) -> object:
    """Reads the end of a saga from its journal."""
    if row.status == "stuck":
        kind, _, text = (row.error or "unknown").partition(": ")
        raise SagaStuck(row.id, kind, text)
    journals = await engine.in_thread(engine.store.load, [row.id])
    history = read_history(row.id, journals.get(row.id, []), engine.codec)
    end = next((x for record in history.records[::-1] for x in record.commands if isinstance(x, c.Complete)), None)
    if end is None:
        raise JournalCorrupted(f"saga {row.id}: it has ended ({row.status}), but the end of its journal is missing")
    if row.status == "completed":
        return saga.result_schema.decode(end.result or b"null")
    raise _failure(row.id, row.status, end.cause or _LOST)
