"""What a body draws, and what it may change, is the same on every replay, or is refused."""

from __future__ import annotations

from contextlib import suppress
from typing import Any
from uuid import UUID

import orjson
import pytest

from sagas import (
    ReplayDiverged,
    Saga,
    StepFailed,
    gather,
    now,
    random,
    receive,
    record,
    saga,
    scope,
    step,
    uuid4,
    version,
)
from sagas.core import commands as c
from sagas.core import events as e
from sagas.core.execution import Execution
from sagas.core.replay import abandon, replay
from tests.core.single import Run, act, ran


def test_what_is_drawn_is_the_same_on_every_replay() -> None:
    """Time, chance and ids depend on the saga's key and the place alone; a recorded value is computed once."""
    calls: list[int] = []

    def count_calls() -> int:
        calls.append(1)
        return len(calls)

    @saga
    async def body() -> list[Any]:
        async def branch() -> list[Any]:
            return [str(await uuid4()), await random()]

        drawn = [await branch(), await branch(), *await gather(branch(), branch())]
        count = await record(count_calls)
        await act()
        return [drawn, count, (await now()).isoformat()]

    run = Run(body)
    assert isinstance(run.execution.open["2"], c.RunLocal)
    run.feed(e.Recorded("2", b"5"))
    replayed = run.again()
    for execution in (run.execution, replayed):
        execution.apply(e.StepSucceeded("3", b'"x"'), 7.0)
    assert run.execution.result == replayed.result is not None
    drawn, count, at = run.result
    assert len({x for pair in drawn for x in pair}) == 8, "different at every place"
    assert all(UUID(x).version == 4 and 0 <= y < 1 for x, y in drawn)
    assert (count, at, calls) == (5, "1970-01-01T00:00:07+00:00", [])


def test_two_sagas_draw_different_values() -> None:
    """Their keys differ."""

    @saga
    async def body() -> str:
        return str(await uuid4())

    results = set()
    for key in ("a", "b"):
        execution = Execution(body, "s", {})
        execution.apply(e.SagaStarted("body", "1", b"{}", key), 1.0)
        results.add(execution.result)
    assert len(results) == 2


def test_version_lets_live_sagas_go_on_as_they_were() -> None:
    """New sagas run the new branch, those that passed the place before the change the old one, also after a restart."""

    @saga(name="body")
    async def old() -> list[str]:
        return [await act("first"), await act("second")]

    @saga(name="body")
    async def new() -> list[str]:
        results = [await act("first")]
        if await version("audit"):
            results.append(await act("audit"))
        return [*results, await act("second")]

    live = Run(old)
    live.feed(e.StepSucceeded("1", b'"first"'))
    resumed = live.again(new)
    assert orjson.loads(resumed.steps["2"].arguments) == {"name": "second"}
    resumed.close()
    live.execution.close()

    early = Run(old)
    early.execution.close()
    early.execution = early.again(new)
    early.feed(e.StepSucceeded("1", b'"first"'))
    fresh = Run(new)
    fresh.feed(e.StepSucceeded("1", b'"first"'))
    for run in (early, fresh):
        for execution in (run.execution, run.again(new)):
            assert orjson.loads(execution.steps["2"].arguments) == {"name": "audit"}
            execution.close()


def test_a_changed_body_is_refused_and_the_operation_is_named() -> None:
    """10: with the advice to guard the change."""

    @step(name="other")
    def other() -> None: ...

    @saga(name="body")
    async def old() -> None:
        await act()

    @saga(name="body")
    async def new() -> None:
        await other()

    run = Run(old)
    told = r"operation 1: the journal says step act, the body now calls other.*version"
    with pytest.raises(ReplayDiverged, match=told):
        run.again(new)
    run.execution.close()


@step(name="act")
def counted(name: str = "x") -> int:
    return len(name)


@saga(name="body")
async def goes_on() -> str:
    await act()
    return await receive("go", str)


@saga(name="body")
async def fails() -> str:
    await act()
    raise ZeroDivisionError


@saga(name="body")
async def cannot_read() -> str:
    await counted()
    return await receive("go", str)


@saga(name="body")
async def scoped() -> str:
    async with scope():
        await act()
        await counted()
    return ""


@saga(name="body")
async def careful() -> str:
    async with scope():
        await act()
        with suppress(StepFailed):
            await counted()
        return await receive("go", str)


@step(name="act", pivot=True)
def final(name: str = "x") -> str:
    return name


@saga(name="body")
async def pivots() -> str:
    await final()
    return await receive("go", str)


@saga(name="body")
async def pivots_and_fails() -> str:
    await final()
    raise ZeroDivisionError


_SUCCEEDED = e.StepSucceeded("1", b'"x"')


@pytest.mark.parametrize(
    ("old", "new", "events", "told"),
    [
        (goes_on, fails, [_SUCCEEDED], "operation 1: the body now fails after record 1 .*ZeroDivisionError.*act"),
        (goes_on, cannot_read, [_SUCCEEDED], "operation 1: .*PayloadError: the result of step act"),
        (
            scoped, careful, [e.StepSucceeded("1.1", b'"x"'), e.StepRejected("1.2", e.ErrorInfo("a:B", ""))],
            r"operation 1\.1: the journal undoes step act after record 2 \(StepRejected\), the body now goes on",
        ),
        (
            careful, scoped, [e.StepSucceeded("1.1", b'"x"'), e.StepRejected("1.2", e.ErrorInfo("a:B", ""))],
            r"operation 1\.1: the body now fails after record 2 \(StepRejected\), so that act would be undone",
        ),
        (pivots, pivots_and_fails, [_SUCCEEDED], "the body now fails .*ZeroDivisionError.*beyond its pivot"),
    ],
)  # fmt: skip
def test_a_body_that_would_be_undone_elsewhere_is_refused(
    old: Saga[[], str], new: Saga[[], str], events: list[e.Event], told: str
) -> None:
    """10: also at the end of the journal, where no later record shows it; nothing was asked for there yet."""
    run = Run(old)
    for event in events:
        run.feed(event)
    run.execution.close()
    with pytest.raises(ReplayDiverged, match=told):
        run.again(new)
    run.again(old).close()


def test_a_compensator_that_is_gone_is_missed() -> None:
    """5: nothing is called undone that was not; the journal knows that there was one, with the body or without."""

    @saga(name="body")
    async def body() -> str:
        await act()
        return await receive("go", str)

    @step(name="act")
    def bare(name: str = "x") -> str:
        return name

    @saga(name="body")
    async def changed() -> str:
        await bare()
        return await receive("go", str)

    run = Run(body)
    run.feed(e.StepSucceeded("1", b'"x"'))
    run.execution.close()
    steps = {"act": bare}
    for execution in (replay(changed, "s", steps, run.records), abandon("s", steps, run.records)):
        (command,) = execution.apply(e.CancelRequested("no more"), execution.at)
        assert isinstance(command, c.RunUndo)
        assert command.step is bare
        execution.close()


def test_a_step_that_never_had_a_compensator_is_not_undone() -> None:
    """Nor one whose journal does not say, if the code at hand has none."""

    @step
    def bare() -> int:
        return 1

    @saga
    async def body() -> str:
        await bare()
        return await receive("go", str)

    steps = {"bare": bare}
    run = Run(body)
    run.feed(e.StepSucceeded("1", b"1"))
    run.execution.close()
    for execution in (replay(body, "s", steps, run.records), abandon("s", steps, run.records)):
        (command,) = execution.apply(e.CancelRequested("no more"), execution.at)
        assert isinstance(command, c.Complete)
        execution.close()


def test_a_body_that_cannot_be_replayed_starts_nothing_when_it_is_dropped() -> None:
    """Its ``finally`` runs, but what it awaits there is neither run as a plain function nor asked for."""

    @saga(name="body")
    async def old() -> None:
        await act("one")
        await act("two")

    @saga(name="body")
    async def new() -> None:
        try:
            await act("one")
            await gather(act("two"), act("three"))
        finally:
            await act("cleanup")

    ran.clear()
    run = Run(old)
    run.feed(e.StepSucceeded("1", b'"one"'))
    with pytest.raises(ReplayDiverged):
        run.again(new)
    run.execution.close()
    assert ran == []
