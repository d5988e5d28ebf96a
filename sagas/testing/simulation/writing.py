"""Calls the store of a simulated process, and makes go wrong what is planned to."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sagas.errors import StoreUnavailable
from sagas.stores.port import Batch
from sagas.testing.simulation.loop import give_way
from sagas.testing.simulation.transacting import transact

if TYPE_CHECKING:
    from collections.abc import Callable

    from anyio import CapacityLimiter

    from sagas.stores.port import Committed
    from sagas.testing.simulation.process import Process

__all__ = ["DiskCalls"]


class DiskCalls:
    """See ``sagas.coordinator.calls.Calls``.

    Args:
        process: Which process.
    """

    def __init__(self, process: Process) -> None:
        self._process = process

    def back(self, function: Callable[..., Any], *args: object) -> Any:
        """See ``Calls.back``."""
        return function(*args)

    async def call(self, function: Callable[..., Any], *args: Any, limiter: CapacityLimiter) -> Any:  # noqa: ARG002 - nothing to limit
        """See ``Calls.call``."""
        await give_way()
        batch, *rest = args
        if rest:
            return await transact(self._process, function, batch, *rest)
        if not batch.rows:
            return function(batch)
        stage = self._process.fleet.stage
        options = stage.commit if len(batch.rows) > 1 else stage.of_one
        found = stage.visit("commit", self._process.may_freeze(options))
        if not found:
            done: Committed = function(batch)
            self._process.fleet.committed(self._process, batch, done)
            return done
        return await self._commit_amid(function, batch, [x.what for x in found])

    async def _commit_amid(self, commit: Callable[[Batch], Committed], batch: Batch, what: list[str]) -> Committed:
        """Commits while things go wrong."""
        process = self._process
        fleet, stage = process.fleet, process.fleet.stage
        for one in what:
            stage.note("", f"commit of {_names(batch)}: {one}")
        if "crash before" in what:
            await process.die()
        if "part" in what:
            some = _first_half(batch)
            fleet.committed(process, some, commit(some))
            await process.die()
        if "unavailable" in what:
            raise StoreUnavailable("simulated: the database is away")
        if "pause before" in what:
            await process.freeze()
        done = commit(batch)
        fleet.committed(process, batch, done)
        await self.after(what)
        return done

    async def after(self, what: list[str]) -> None:
        """Makes go wrong what goes wrong once the records are durable."""
        process = self._process
        for one in what:
            if one == "crash after":
                await process.die()
            elif one in ("pause after", "long pause"):
                await process.freeze(long=one == "long pause")
            elif one in ("cancel", "restart", "deploy"):
                process.fleet.order(one)
            elif one in ("clock back", "clock ahead"):
                process.clock.ahead += 3600.0 if one == "clock ahead" else -3600.0
                process.engine.timers.look()
            elif one.startswith("signal "):
                process.fleet.order(one)
        if "doubtful" in what:
            raise StoreUnavailable("simulated: the connection was lost after the commit")


def _first_half(batch: Batch) -> Batch:
    """Keeps the first of several records of a saga, as if the rest had come too late for this commit."""
    rows = batch.rows[: len(batch.rows) // 2]
    written = {(row.saga_id, row.seq) for row in rows}
    return Batch(new=batch.new, rows=rows, locks=[x for x in batch.locks if (x.saga_id, x.seq) in written])


def _names(batch: Batch) -> str:
    """Names the records of a batch."""
    return ", ".join(f"{row.kind} {row.path}".strip() for row in batch.rows)
