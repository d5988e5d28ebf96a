"""What a body may await, what it sees, and what it must not do."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Awaitable, Callable, Generator
from datetime import UTC, datetime
from typing import Any

import pytest

from sagas import (
    DeterminismError,
    IllegalTransition,
    OutsideSaga,
    PayloadError,
    ReceiveTimeout,
    RequestError,
    gather,
    map_each,
    race,
    receive,
    saga,
    scope,
    sleep,
    sleep_until,
    step,
)
from sagas.core import commands as c
from sagas.core import events as e
from sagas.core.transitions import SagaState
from tests.core.single import Run, act


class Foreign:
    """Something of an event loop."""

    def __await__(self) -> Generator[object, None, None]:
        yield self


def test_awaiting_anything_else_is_refused_at_its_line() -> None:
    """The error is raised at the very await, names what was awaited and where, and may be caught there."""

    @saga
    async def body() -> str:
        try:
            await Foreign()
        except DeterminismError as error:
            return str(error)
        return ""

    lines, first = inspect.getsourcelines(body.function)
    line = first + next(index for index, text in enumerate(lines) if "await Foreign" in text)
    text = Run(body).result
    assert f"{__file__}:{line}" in text
    assert "Foreign" in text
    assert "sagas.sleep" in text


def test_an_event_loop_s_sleep_is_refused() -> None:
    """It fails the saga, whose rollback then runs."""

    @saga
    async def body() -> None:
        await act()
        await asyncio.sleep(0)

    run = Run(body)
    run.feed(e.StepSucceeded("1", b'"x"'))
    assert run.execution.state is SagaState.COMPENSATING
    assert run.execution.cause is not None
    assert run.execution.cause.type == "sagas.errors:DeterminismError"


def test_a_step_awaited_outside_a_saga_runs_the_plain_function() -> None:
    """So that unit tests stay plain."""

    @step
    async def wait(name: str) -> str:
        await asyncio.sleep(0)
        return name

    async def main() -> list[str]:
        return [await act("plain"), await wait("async")]

    assert asyncio.run(main()) == ["plain", "async"]


@pytest.mark.parametrize(
    ("operation", "advice"),
    [
        (lambda: sleep(1), "only a coordinator"),
        (lambda: gather(act()), "only a coordinator"),
        (lambda: receive("go"), "only a coordinator"),
        (lambda: child(), "coordinator.run"),  # type: ignore[has-type]  # noqa: PLW0108 - defined below
        (lambda: write(), r"function\(session"),  # type: ignore[has-type]  # noqa: PLW0108 - defined below
    ],
)
def test_other_operations_outside_a_saga_say_what_to_do(operation: Callable[[], Awaitable[Any]], advice: str) -> None:
    """A saga is run by ``coordinator.run``, a transactional step has no session here."""

    async def main() -> None:
        await operation()

    with pytest.raises(OutsideSaga, match=advice):
        asyncio.run(main())


@saga
async def child() -> str:
    return await act("child")


@step(transactional=True)
def write(session: Any) -> None: ...


@pytest.mark.parametrize(
    "wrong",
    [lambda: map_each(act, [], limit=0), race, lambda: receive(""), lambda: sleep_until(datetime(2026, 1, 1))],  # noqa: DTZ001
)
def test_wrong_arguments_are_refused_at_once(wrong: Callable[[], object]) -> None:
    """Where the operation is built."""
    with pytest.raises(ValueError, match=r"map_each|race|receive|sleep_until"):
        wrong()


def test_a_result_that_cannot_be_written_fails_the_saga_and_not_its_journal() -> None:
    """9: it is compensated."""

    @saga
    async def body() -> int:
        return await act()  # type: ignore[return-value]  # that is the point

    run = Run(body)
    run.feed(e.StepSucceeded("1", b'"x"'))
    assert run.execution.cause is not None
    assert run.execution.cause.type == "sagas.errors:PayloadError"
    assert run.execution.state is SagaState.COMPENSATING
    assert run.again().state is SagaState.COMPENSATING


def test_an_argument_that_cannot_be_written_is_raised_in_the_body() -> None:
    """9: at the call, where it can be caught."""

    @saga
    async def body() -> str:
        try:
            await act(object())  # type: ignore[arg-type]  # that is the point
        except PayloadError:
            return "caught"
        return ""

    assert Run(body).result == "caught"


def test_signals_are_kept_in_order_until_they_are_received() -> None:
    """Each is received once; one that does not fit its type is raised in the body."""

    @saga
    async def body() -> list[Any]:
        await sleep(10)
        got: list[Any] = [await receive("go", int), await receive("go", int)]
        try:
            got.append(await receive("go", int))
        except PayloadError:
            got.append("wrong")
        try:
            await receive("go", timeout=5)
        except ReceiveTimeout:
            got.append("none")
        return got

    run = Run(body)
    for payload in (b"1", b"2"):
        run.feed(e.SignalReceived("go", payload))
    assert run.execution.unread_signals() == {"go": 2}
    run.feed(e.TimerFired("1"))
    with pytest.raises(PayloadError):
        run.execution.check_signal("go", b'"x"')
    run.feed(e.SignalReceived("go", b'"x"'))
    run.feed(e.TimerFired("5"))
    assert run.result == [1, 2, "wrong", "none"]


def test_sleep_until_wakes_at_its_time_and_race_gives_the_first() -> None:
    """Nothing is left waiting when the race is over."""

    @saga
    async def body() -> Any:
        when = datetime(1970, 1, 1, 0, 1, tzinfo=UTC)
        return await race(receive("go"), sleep_until(when), sleep(3600))

    run = Run(body)
    assert run.execution.timers == {"1:1": 60.0, "1:2": 3601.0}
    run.feed(e.SignalReceived("go", b'{"a": 1}'))
    assert run.result == {"a": 1}
    assert not run.execution.timers


def test_map_each_keeps_order_and_limit() -> None:
    """At most two at a time; results in the order of the items."""

    @saga
    async def body() -> list[str]:
        return await map_each(act, ["a", "b", "c"], limit=2)

    run = Run(body)
    assert list(run.execution.open) == ["1:0.1", "1:1.1"]
    run.feed(e.StepSucceeded("1:1.1", b'"B"'))
    assert list(run.execution.open) == ["1:0.1", "1:2.1"]
    run.feed(e.StepSucceeded("1:2.1", b'"C"'))
    run.feed(e.StepSucceeded("1:0.1", b'"A"'))
    assert run.result == ["A", "B", "C"]


def test_empty_groups_are_over_at_once() -> None:
    """No record is needed."""

    @saga
    async def body() -> list[Any]:
        async with scope():
            pass
        return [await gather(), await map_each(act, [])]

    assert Run(body).result == [[], []]


def test_a_saga_s_timeout_undoes_it() -> None:
    """6: as a cancel does."""

    @saga(timeout=30)
    async def body() -> None:
        await act()
        await receive("go")

    run = Run(body)
    run.feed(e.StepSucceeded("1", b'"x"'))
    run.feed(e.TimerFired(""))
    assert list(run.execution.open) == ["1"]
    run.feed(e.UndoSucceeded("1"))
    assert run.execution.state is SagaState.COMPENSATED
    assert run.execution.cause is not None
    assert run.execution.cause.message == "the saga took longer than 30 s"


def test_an_operator_s_retry_grants_a_new_total_timeout_too() -> None:
    """Else the attempt would be out of time before it begins."""

    @step(pivot=True, total_timeout=5)
    def confirm() -> None: ...

    @saga
    async def body() -> None:
        await confirm()

    run = Run(body)
    run.feed(e.StepInDoubt("1", e.ErrorInfo("builtins:OSError", "broke")))
    (again,) = run.feed(e.StepRetried("1"), after=3600.0)
    assert isinstance(again, c.RunStep)
    assert (again.scheduled_at, again.tried, again.doubt) == (run.execution.at, 0, True)
    assert run.again().open["1"] == again


@pytest.mark.parametrize("wait", [e.StepBackedOff, e.StepInDoubt])
def test_a_step_without_an_attempt_in_flight_has_no_outcome(wait: type[e.Event]) -> None:
    """While it backs off or is parked, an outcome is illegal, and changes nothing."""

    @step(pivot=True)
    def confirm() -> None: ...

    @saga
    async def body() -> None:
        await confirm()

    run = Run(body)
    error = e.ErrorInfo("builtins:OSError", "broke")
    run.feed(e.StepBackedOff("1", 1, 99.0, True, error) if wait is e.StepBackedOff else e.StepInDoubt("1", error))
    state = run.execution.steps["1"].state
    for outcome in (e.StepRejected("1", error), e.StepInDoubt("1", error), e.StepSucceeded("1", b"null")):
        with pytest.raises(IllegalTransition):
            run.execution.apply(outcome, 100.0)
    assert run.execution.steps["1"].state is state
    run.execution.close()


def test_a_saga_that_calls_itself_for_ever_is_stopped_before_it_fills_the_memory() -> None:
    @saga
    async def dig() -> None:
        await dig()

    @saga
    async def body() -> str:
        try:
            await dig()
        except RequestError as error:
            return str(error)
        return ""

    assert "200 deep in others" in Run(body).result
