"""Operations of a body, through a real coordinator and its restarts."""

from __future__ import annotations

import contextvars
from datetime import UTC, datetime

import anyio
import anyio.lowlevel
import pytest

import sagas
from sagas import (
    DeterminismError,
    Rejected,
    SagaCompensated,
    current_step,
    gather,
    map_each,
    now,
    race,
    receive,
    record,
    saga,
    scope,
    sleep_until,
    step,
    uuid4,
)
from tests.coordinator.places import Gate, Place, until

LOG: list[str] = []


@pytest.fixture(autouse=True)
def _empty_log() -> None:
    LOG.clear()


@step
async def act(what: str) -> str:
    """Acts, or refuses."""
    if what.startswith("no"):
        raise Rejected(what)
    LOG.append(what)
    return what.upper()


@act.compensator
async def undo_act(what: str) -> None:
    """Takes it back."""
    LOG.append(f"undo {what}")


async def test_a_scope_undoes_what_ran_inside_and_only_that(place: Place) -> None:
    """Then the failure propagates to a body that may catch it."""

    @saga
    async def body() -> str:
        await act("before")
        try:
            async with scope():
                await act("inside")
                await act("no")
        except Rejected as error:
            return await act(f"after {error}")
        return ""

    async with place.coordinator(body) as coordinator:
        assert await coordinator.run(body()) == "AFTER NO"
    assert LOG == ["before", "inside", "undo inside", "after no"]


async def test_a_child_saga_is_a_part_of_its_parent(place: Place) -> None:
    """It gives a result, and is undone with it."""

    @saga
    async def child(name: str) -> str:
        return await act(name) + "!"

    @saga
    async def body(end: str) -> str:
        first = await child("a")
        await act(end)
        return first

    async with place.coordinator(body) as coordinator:
        assert await coordinator.run(body("b")) == "A!"
        with pytest.raises(SagaCompensated):
            await coordinator.run(body("no"))
    assert LOG == ["a", "b", "a", "undo a"]


async def test_gather_and_map_each_give_results_in_order_and_at_most_limit_side_by_side(place: Place) -> None:
    """A failure of one fails all, when the others have ended."""
    gate = Gate()
    most = running = 0

    @step
    async def work(number: int) -> int:
        nonlocal most, running
        running += 1
        most = max(most, running)
        await anyio.lowlevel.checkpoint()
        running -= 1
        return number * 10

    @step
    async def wait(what: str) -> str:
        await gate.wait()
        LOG.append(what)
        return what

    @saga
    async def body() -> tuple[list[int], str]:
        tens = await map_each(work, range(10), limit=2)
        try:
            await gather(wait("slow"), act("no"))
        except Rejected as error:
            return tens, str(error)
        return tens, ""

    async with place.coordinator(body) as coordinator:
        handle = await coordinator.start(body())
        await gate.arrival()
        gate.open()
        assert await handle.result() == ([number * 10 for number in range(10)], "no")
    assert most <= 2
    assert LOG == ["slow"]


async def test_the_losers_of_a_race_are_undone_before_the_body_goes_on(place: Place) -> None:
    """What they have in flight ends first."""
    gate = Gate()

    @step
    async def slow() -> str:
        await gate.wait()
        LOG.append("slow")
        return "slow"

    @slow.compensator
    async def undo_slow(result: str | None) -> None:
        LOG.append(f"undo {result}")

    @saga
    async def body() -> str:
        first = await race(slow(), act("fast"))
        await act("after")
        return first

    async with place.coordinator(body) as coordinator:
        handle = await coordinator.start(body())
        await gate.arrival()

        async def fast_has_won() -> bool:
            return any(x.result == "FAST" for x in (await coordinator.get(handle.id)).steps)

        await until(fast_has_won)
        gate.open()
        assert await handle.result() == "FAST"
    assert LOG[-3:] == ["slow", "undo slow", "after"]


async def test_what_a_body_drew_is_the_same_after_a_restart(place: Place) -> None:
    """Time, chance, identifiers, and values that were recorded once."""
    drawn: list[tuple[object, ...]] = []
    made = 0

    def make() -> int:
        nonlocal made
        made += 1
        return made

    @saga
    async def body() -> str:
        drawn.append((await now(), await sagas.random(), await uuid4(), await record(make, int)))
        await receive("go")
        return str(drawn[-1])

    async with place.coordinator(body) as coordinator:
        await coordinator.start(body(), id="s")

        async def waits() -> bool:
            return (await coordinator.get("s")).waiting

        await until(waits)
    async with place.coordinator(body) as coordinator:
        await coordinator.signal("s", "go")
        assert await coordinator.run(body(), id="s") == str(drawn[0])
    assert made == 1
    assert len(drawn) == 2
    assert drawn[0] == drawn[1]


async def test_a_recorded_value_that_raises_raises_in_the_body(place: Place) -> None:
    """And the coordinator goes on."""

    def broken() -> int:
        raise OSError("no such file")

    @saga
    async def body() -> int:
        return await record(broken, int)

    async with place.coordinator(body) as coordinator:
        with pytest.raises(SagaCompensated, match="no such file"):
            await coordinator.run(body())


async def test_sleeping_until_a_moment_that_is_past_goes_on_at_once(place: Place) -> None:
    """No timer is missed."""

    @saga
    async def body() -> str:
        await sleep_until(datetime(2000, 1, 1, tzinfo=UTC))
        return "awake"

    async with place.coordinator(body) as coordinator:
        with anyio.fail_after(10):
            assert await coordinator.run(body()) == "awake"


async def test_a_body_that_awaits_something_else_fails_at_that_line(place: Place) -> None:
    """And the others go on."""

    @saga
    async def body() -> None:
        await anyio.lowlevel.checkpoint()

    @saga
    async def good() -> str:
        return await act("x")

    async with place.coordinator(body, good) as coordinator:
        with pytest.raises(SagaCompensated, match=DeterminismError.__name__):
            await coordinator.run(body())
        assert await coordinator.run(good()) == "X"


VARIABLE: contextvars.ContextVar[str] = contextvars.ContextVar("VARIABLE", default="unset")


@pytest.mark.parametrize("kind", ["async", "sync"])
async def test_context_variables_leak_neither_from_step_to_step_nor_from_the_caller(place: Place, kind: str) -> None:
    """Steps run as after a restart, where there is no caller."""
    seen: list[str] = []

    @step
    async def look(number: int) -> None:
        seen.append(VARIABLE.get())
        VARIABLE.set(f"step {number}")

    @step
    def look_in_a_thread(number: int) -> None:
        seen.append(VARIABLE.get())
        VARIABLE.set(f"step {number}")

    @saga
    async def body() -> None:
        for number in range(3):
            await (look(number) if kind == "async" else look_in_a_thread(number))
        await gather(*((look if kind == "async" else look_in_a_thread)(number) for number in range(3)))

    before = VARIABLE.get()
    async with place.coordinator(body) as coordinator:
        for _ in range(5):
            await coordinator.run(body())
    assert VARIABLE.get() == before
    assert set(seen) == {before}


async def test_the_caller_s_context_variables_do_not_reach_steps(place: Place) -> None:
    """Those of one request must not show in the saga of another."""
    seen: list[str] = []

    @step
    async def look() -> None:
        seen.append(VARIABLE.get())

    @saga
    async def body() -> None:
        await look()
        await look()

    before = VARIABLE.get()
    async with place.coordinator(body) as coordinator:

        async def request(name: str) -> None:
            VARIABLE.set(name)
            await coordinator.run(body())

        async with anyio.create_task_group() as group:
            for number in range(10):
                group.start_soon(request, f"request {number}")
    assert set(seen) == {before}


async def test_current_step_is_known_in_a_step_and_nowhere_else(place: Place) -> None:
    """With the saga's id and the place."""
    found: list[tuple[str, str, str]] = []

    @step
    async def look() -> None:
        context = current_step()
        found.append((context.saga_id, context.step, context.path))

    @saga
    async def body() -> None:
        await look()

    async with place.coordinator(body) as coordinator:
        await coordinator.run(body(), id="s")
    assert found == [("s", "look", found[0][2])]
    with pytest.raises(sagas.OutsideSaga):
        current_step()
