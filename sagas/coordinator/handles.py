"""Waits for the end of a saga, wherever it is driven."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any, Generic, NamedTuple, TypeVar, cast

import anyio

from sagas.coordinator.blame import blamed
from sagas.coordinator.loading import read_history
from sagas.core import commands as c
from sagas.core import events as e
from sagas.errors import CoordinatorClosed, JournalCorrupted, SagaCompensated, SagaStuck, StoreUnavailable

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sagas.coordinator.link import Link
    from sagas.coordinator.runtime import Runtime
    from sagas.core.definitions import Saga
    from sagas.stores.port import JournalRow, SagaRow

__all__ = ["Handle", "outcome"]

R = TypeVar("R")

logger = logging.getLogger("sagas.coordinator")

_LOST = e.ErrorInfo("unknown", "")
# Seconds between two tries to read from a database that is away.
_RETRY = 0.5


class Handle(Generic[R]):
    """A saga that was started.

    Attributes:
        id: Its id.
    """

    __slots__ = ("_link", "_runtime", "_saga", "id")

    def __init__(self, link: Link, saga: Saga[..., Any], saga_id: str, runtime: Runtime | None) -> None:
        self._link = link
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
            CoordinatorClosed: The coordinator or the client is closed; the saga goes on when a coordinator runs.
            JournalCorrupted: It has ended, and its journal is not what was written.
        """
        return cast("R", await outcome(self._link, self._saga, self.id, self._runtime))


async def outcome(link: Link, saga: Saga[..., Any], saga_id: str, runtime: Runtime | None) -> object:
    """Waits for the end of a saga; see ``Handle.result``."""
    runtime = runtime or link.find(saga_id)
    while True:
        if runtime is not None and await _settled(runtime):
            return _report(saga, runtime)
        end = await _end_elsewhere(link, saga_id)
        if end is not None:
            return _read_outcome(link, saga, end)
        if link.closing:
            raise CoordinatorClosed(f"the {link.what} was closed; saga {saga_id} {link.meanwhile}")
        runtime = link.find(saga_id)


# --- sagas that are driven here -------------------------------------------------------------------------------------


async def _settled(runtime: Runtime) -> bool:
    """Waits until a saga has ended or is stuck; says so, or that it is not driven here any more."""
    while not runtime.discarded:
        if runtime.reported in ("completed", "compensated", "stuck"):
            return True
        await runtime.change()
    return False


def _report(saga: Saga[..., Any], runtime: Runtime) -> object:
    """Tells how a saga ended."""
    if runtime.reported == "completed":
        return saga.result_schema.decode(runtime.execution.result or b"null")
    raise _failure(runtime.id, runtime.reported, _cause(runtime))


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


# --- sagas that are driven elsewhere --------------------------------------------------------------------------------


class _End(NamedTuple):
    """How a saga ended, or got stuck."""

    row: SagaRow
    journal: Sequence[JournalRow]


async def _end_elsewhere(link: Link, saga_id: str) -> _End | None:
    """Waits until a saga has ended or is stuck; ``None`` when it is driven here, or nobody may wait any more."""
    with link.watching.wait_for(saga_id) as waiter:
        while not link.closing:
            waiter.ask()
            try:
                end: _End | None = await link.in_thread(_look, link, saga_id)
            except StoreUnavailable as error:  # as sagas themselves, whoever waits for one waits for the database too
                logger.info("the end of saga %s cannot be read now; trying again: %s", saga_id, error)
                await anyio.sleep(_RETRY)
                continue
            if end is not None:
                return end
            await waiter.news()
            if link.find(saga_id) is not None:
                break
    return None


def _look(link: Link, saga_id: str) -> _End | None:
    """Reads how a saga ended, if it has.

    Raises:
        SagaNotFound: There is no such saga.
    """
    row = link.read(saga_id)
    if row.ended_at is not None:
        return _End(row, link.store.load([saga_id]).get(saga_id, []))
    return _End(row, ()) if row.status == "stuck" else None


def _read_outcome(link: Link, saga: Saga[..., Any], end: _End) -> object:
    """Reads the end of a saga from its journal."""
    row = end.row
    if row.status == "stuck":
        kind, _, text = (blamed(row.error).text or "unknown").partition(": ")
        raise SagaStuck(row.id, kind, text)
    history = read_history(row.id, end.journal, link.codec)
    last = next((x for record in history.records[::-1] for x in record.commands if isinstance(x, c.Complete)), None)
    if last is None:
        raise JournalCorrupted(f"saga {row.id}: it has ended ({row.status}), but the end of its journal is missing")
    if row.status == "completed":
        return saga.result_schema.decode(last.result or b"null")
    raise _failure(row.id, row.status, last.cause or _LOST)
