"""The saga of five remote steps, as a user of this library declares it."""

from __future__ import annotations

from benchmarks.workload import STEPS, Done, Order
from sagas import saga, step

__all__ = ["plain_saga", "written_saga"]


@step(name="remote.plain", remote=True)
async def ask_plain(order: Order, number: int) -> Done:  # noqa: ARG001 - a declaration
    """Is performed elsewhere."""
    raise AssertionError


@step(name="remote.written", remote=True)
async def ask_written(order: Order, number: int) -> Done:  # noqa: ARG001 - a declaration
    """Is performed elsewhere, and writes there."""
    raise AssertionError


@saga(name="plain")
async def plain_saga(order: Order) -> Done:
    """Calls five steps."""
    for number in range(STEPS):
        done = await ask_plain(order, number)
    return done


@saga(name="written")
async def written_saga(order: Order) -> Done:
    """Calls five steps that write."""
    for number in range(STEPS):
        done = await ask_written(order, number)
    return done
