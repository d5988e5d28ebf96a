"""Runs transactional steps and compensators in a simulated process, and makes go wrong what is planned to."""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Any, NoReturn

from sagas.coordinator.transactional import TransactionalAttempt
from sagas.core.definitions import Compensator, Step
from sagas.core.failures import one_line
from sagas.errors import StoreUnavailable
from sagas.testing.simulation.stage import Call

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Sequence

    from sqlmodel import Session

    from sagas.stores.port import Batch, Committed
    from sagas.testing.simulation.process import Process
    from sagas.testing.simulation.stage import Stage

__all__ = ["transact"]


async def transact(
    process: Process,
    run: Callable[[Sequence[Callable[[Session], None]], Callable[[], Batch]], Committed],
    work: Sequence[Callable[[Session], None]],
    finish: Callable[[], Batch],
) -> Committed:
    """Runs steps and compensators, and commits what they wrote with their records, in one transaction.

    Args:
        process: Where.
        run: Of the store.
        work: The attempts' own functions.
        finish: Gives the records.
    """
    fleet, stage = process.fleet, process.fleet.stage
    prepared: list[Callable[[Session], None]] = []
    calls: list[Call] = []
    pivots: list[Call] = []
    for function in work:
        attempt: Any = getattr(function, "__self__", None)
        assert isinstance(attempt, TransactionalAttempt), "a journal runs nothing else"
        call = _call(process, attempt)
        calls.append(call)
        if isinstance(attempt.work.target, Step) and attempt.work.target.options.pivot:
            pivots.append(call)
        prepared.append(await _prepare(process, attempt, call))
    what = [x.what for x in stage.visit("commit", stage.of_one)]
    for one in what:
        stage.note("", f"commit of a transaction: {one}")
    if "crash before" in what:
        await process.die()
    if "pause before" in what:
        await process.freeze()
    if "unavailable" in what:
        raise StoreUnavailable("simulated: the database is away")
    done = run(prepared, finish)
    stage.calls += calls  # of what is rolled back, nothing ever happened
    stage.pivoted = stage.pivoted or any(x.acted for x in pivots)
    assert fleet.disk.last is not None, "it was committed just now"
    fleet.committed(process, fleet.disk.last, done)
    await process.calls.after(what)
    return done


def _call(process: Process, attempt: TransactionalAttempt) -> Call:
    """Writes down a call."""
    known, context = len(process.fleet.stage.rows), attempt.context
    role = "step" if isinstance(attempt.work.target, Step) else "undo"
    return Call(
        role, context.step, context.path, context.idempotency_key, attempt.work.arguments, process.name, known
    )  # fmt: skip


async def _prepare(process: Process, attempt: TransactionalAttempt, call: Call) -> Callable[[Session], None]:
    """Comes by a step or a compensator before it runs; gives what is to run in its place."""
    stage, target = process.fleet.stage, attempt.work.target
    at = call.step if call.role == "step" else f"undo of {call.step}"
    what = [x.what for x in stage.visit(at, stage.options_at(target))]
    stage.note(process.name, f"calls {at} in a transaction")
    for one in what:
        stage.note("", f"{at}: {one}")
        if one == "down":
            stage.broken[at] = one
        elif one in ("cancel", "restart", "deploy"):
            process.fleet.order(one)
    if "crash before" in what:
        await process.die()
    if "rejected" in what and isinstance(target, Step):
        call.error = process.fleet.rejection(target)
    elif "error" in what or stage.suffer(at):
        call.error = ConnectionError(f"simulated: the request to {at} was lost")
    instead: Callable[..., Any] | None = None if call.error is None else _raise(call.error)
    if instead is None and stage.mutation is not None and isinstance(target, Compensator):
        instead = _broken(stage, target, call)

    def run(session: Session) -> None:
        attempt.run(session, instead)
        call.error = attempt.error
        call.acted += attempt.error is None
        if instead is None and attempt.error is not None:
            stage.note(process.name, f"{at} raises {one_line(attempt.error)}")

    return run


def _broken(stage: Stage, undo: Compensator, call: Call) -> Callable[..., object]:
    """Makes what runs in place of a compensator that is broken on purpose; it gets the session by its name."""
    mutation, (name, *_) = stage.mutation, undo.parameters.skipped
    assert mutation is not None, "whoever asks has made sure"

    def run(session: Session, **arguments: object) -> object:
        result = mutation(stage, undo, call)(**{name: session}, **arguments)
        return _finished(result) if inspect.iscoroutine(result) else result

    return run


def _finished(routine: Coroutine[Any, Any, object]) -> object:
    """Runs a coroutine that has nothing to wait for, since what it is about is a plain function."""
    try:
        routine.send(None)
    except StopIteration as end:
        return end.value
    raise AssertionError("a transactional compensator waits for nothing")


def _raise(error: BaseException) -> Callable[..., NoReturn]:
    """Makes a function that does nothing but fail."""

    def fail(*_: object, **__: object) -> NoReturn:
        raise error

    return fail
