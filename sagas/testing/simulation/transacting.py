"""Runs transactional steps in a simulated process, and makes go wrong what is planned to."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NoReturn

from sagas.coordinator.transactional import TransactionalAttempt
from sagas.core.failures import one_line
from sagas.errors import StoreUnavailable
from sagas.testing.simulation.stage import Call

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from sqlmodel import Session

    from sagas.stores.port import Batch, Committed
    from sagas.testing.simulation.process import Process

__all__ = ["transact"]


async def transact(
    process: Process,
    run: Callable[[Sequence[Callable[[Session], None]], Callable[[], Batch]], Committed],
    work: Sequence[Callable[[Session], None]],
    finish: Callable[[], Batch],
) -> Committed:
    """Runs steps and commits what they wrote with their records, in one transaction.

    Args:
        process: Where.
        run: Of the store.
        work: The attempts' own functions.
        finish: Gives the records.
    """
    fleet, stage = process.fleet, process.fleet.stage
    prepared: list[Callable[[Session], None]] = []
    calls: list[Call] = []
    for function in work:
        attempt: Any = getattr(function, "__self__", None)
        assert isinstance(attempt, TransactionalAttempt), "a journal runs nothing else"
        call = _call(process, attempt)
        calls.append(call)
        prepared.append(await _prepare(process, attempt, call))
    what = [x.what for x in stage.visit("commit", stage.of_one)]
    for one in what:
        stage.note("", f"commit of a transactional step: {one}")
    if "crash before" in what:
        await process.die()
    if "pause before" in what:
        await process.freeze()
    if "unavailable" in what:
        raise StoreUnavailable("simulated: the database is away")
    done = run(prepared, finish)
    stage.calls += calls  # of what is rolled back, nothing ever happened
    assert fleet.disk.last is not None, "it was committed just now"
    fleet.committed(process, fleet.disk.last, done)
    await process.calls.after(what)
    return done


def _call(process: Process, attempt: TransactionalAttempt) -> Call:
    """Writes down a call."""
    known, context = len(process.fleet.stage.rows), attempt.context
    name, path, key = attempt.step.name, context.path, context.idempotency_key
    return Call("step", name, path, key, attempt.arguments, process.name, known)


async def _prepare(process: Process, attempt: TransactionalAttempt, call: Call) -> Callable[[Session], None]:
    """Comes by a step before it runs; gives what is to run in its place."""
    stage, step = process.fleet.stage, attempt.step
    what = [x.what for x in stage.visit(step.name, stage.options_at(step))]
    stage.note(process.name, f"calls {step.name} in a transaction")
    for one in what:
        stage.note("", f"{step.name}: {one}")
        if one == "down":
            stage.broken[step.name] = one
        elif one in ("cancel", "restart", "deploy"):
            process.fleet.order(one)
    if "crash before" in what:
        await process.die()
    if "rejected" in what:
        call.error = process.fleet.rejection(step)
    elif "error" in what or stage.suffer(step.name):
        call.error = ConnectionError(f"simulated: the request to {step.name} was lost")

    def run(session: Session) -> None:
        if call.error is not None:
            attempt.run(session, instead=_raise(call.error))
        else:
            attempt.run(session)
            call.error = attempt.error
            call.acted += attempt.error is None
            if attempt.error is not None:
                stage.note(process.name, f"{step.name} raises {one_line(attempt.error)}")

    return run


def _raise(error: BaseException) -> Callable[..., NoReturn]:
    """Makes a function that does nothing but fail."""

    def fail(*_: object, **__: object) -> NoReturn:
        raise error

    return fail
