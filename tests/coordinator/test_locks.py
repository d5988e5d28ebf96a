"""Semantic locks: who holds one, for how long, and that nobody who waits is forgotten, whatever happens."""

from __future__ import annotations

from contextlib import AsyncExitStack

import anyio
import pytest

from sagas import (
    Coordinator,
    Deadlock,
    Handle,
    LockTimeout,
    Rejected,
    Retry,
    SagaCompensated,
    SagaStuck,
    SagaView,
    gather,
    lock,
    receive,
    saga,
    step,
)
from tests.coordinator.places import Clock, Gate, Place, until

ONCE = Retry(attempts=1)


async def waits_for_lock(coordinator: Coordinator, *saga_ids: str) -> None:
    """Waits until sagas wait for a lock, durably."""
    for saga_id in saga_ids:

        async def waits(saga_id: str = saga_id) -> bool:
            view = await coordinator.get(saga_id)
            return any(not x.held for x in view.locks)

        await until(waits)


def held(view: SagaView) -> list[str]:
    """The names of the locks that a saga holds."""
    return [x.name for x in view.locks if x.held]


class Room:
    """A saga that goes into a room which has one key, and stays until it is let out."""

    def __init__(self) -> None:
        self.entered: list[str] = []
        self.inside: set[str] = set()

        @step
        async def enter(who: str) -> None:
            assert not self.inside, f"{who} meets {self.inside}"
            self.inside.add(who)
            self.entered.append(who)

        @enter.compensator
        async def leave(who: str) -> None:
            self.inside.discard(who)

        @step
        async def walk_out(who: str) -> None:
            self.inside.discard(who)

        @saga(name="visit")
        async def visit(who: str) -> str:
            async with lock("key"):
                await enter(who)
                await receive("out")
                await walk_out(who)
            return who

        self.visit = visit
        self.enter = enter

    async def queue(self, coordinator: Coordinator, *names: str) -> list[Handle[str]]:
        """Starts visits one after the other, the first of which gets in."""
        return [await coordinator.start(self.visit(name), id=name) for name in names]


async def test_sagas_hold_a_lock_one_after_the_other_as_they_asked(place: Place) -> None:
    """The next gets it when the one before has ended."""
    room = Room()
    names = [f"s{number}" for number in range(6)]
    async with place.coordinator(room.visit) as coordinator:
        handles = await room.queue(coordinator, *names)
        for name in names:
            await coordinator.signal(name, "out")
        assert [await handle.result() for handle in handles] == names
    assert room.entered == names


async def test_a_lock_is_held_until_the_rollback_is_finished(place: Place) -> None:
    """So nobody sees what is about to be undone."""
    undoing, seen = Gate(), []
    stock = [5]

    @step
    async def reserve(count: int) -> int:
        stock[0] -= count
        return stock[0]

    @reserve.compensator
    async def release(count: int) -> None:
        await undoing.wait()
        stock[0] += count

    @step
    async def look() -> int:
        seen.append(stock[0])
        return stock[0]

    @saga
    async def fails() -> None:
        async with lock("stock"):
            await reserve(3)
        raise Rejected("no")

    @saga
    async def looks() -> int:
        async with lock("stock"):
            return await look()

    async with place.coordinator(fails, looks) as coordinator:
        failing = await coordinator.start(fails(), id="fails")
        await undoing.arrival()
        looking = await coordinator.start(looks(), id="looks")
        await waits_for_lock(coordinator, "looks")
        assert held(await coordinator.get("fails")) == ["stock"]
        undoing.open()
        with pytest.raises(SagaCompensated):
            await failing.result()
        assert await looking.result() == 5
        assert (await coordinator.get("fails")).locks == ()
    assert seen == [5]


async def test_a_lock_of_a_block_is_free_for_others_when_the_block_is_left(place: Place) -> None:
    """While the saga goes on."""
    counted = []

    @step
    async def count(who: str) -> None:
        counted.append(who)

    @saga
    async def brief(who: str) -> None:
        async with lock("shelf", hold="block"):
            await count(who)
        await receive("go on")

    async with place.coordinator(brief) as coordinator:
        for who in "abc":
            await coordinator.start(brief(who), id=who)

        async def all_out() -> bool:
            return len(counted) == 3 and not (await coordinator.get("c")).locks

        await until(all_out)
        assert {(await coordinator.get(who)).status for who in "abc"} == {"running"}
    assert counted == ["a", "b", "c"]


async def test_a_stuck_saga_keeps_its_locks_until_an_operator_acts(place: Place) -> None:
    """What it has done is not undone yet."""

    @step
    async def do() -> None: ...

    @do.compensator(retry=ONCE)
    async def undo() -> None:
        raise OSError("broken")

    @saga
    async def stuck() -> None:
        async with lock("a"):
            await do()
        raise Rejected("no")

    @saga
    async def patient() -> str:
        async with lock("a"):
            return "in"

    async with place.coordinator(stuck, patient) as coordinator:
        with pytest.raises(SagaStuck):
            await coordinator.run(stuck(), id="stuck")
        waiting = await coordinator.start(patient(), id="patient")
        await waits_for_lock(coordinator, "patient")
        assert held(await coordinator.get("stuck")) == ["a"]
        await coordinator.skip("stuck", reason="done by hand")
        assert await waiting.result() == "in"


# --- not getting one ------------------------------------------------------------------------------------------------


async def test_waiting_for_a_lock_ends_with_its_timeout(place: Place) -> None:
    """The body may catch it; the next in line is not held up by who gave up."""
    room = Room()

    @saga
    async def hurried() -> str:
        try:
            async with lock("key", timeout=0.05):
                return "in"
        except LockTimeout:
            return "late"

    async with place.coordinator(room.visit, hurried) as coordinator:
        await room.queue(coordinator, "first")
        assert await coordinator.run(hurried(), id="hurried") == "late"
        (second,) = await room.queue(coordinator, "second")
        for name in ("first", "second"):
            await coordinator.signal(name, "out")
        assert await second.result() == "second"
    assert room.entered == ["first", "second"]


async def test_a_lock_that_is_not_granted_in_time_undoes_the_saga(place: Place) -> None:
    """Unless the body catches it."""
    room = Room()

    @saga
    async def hurried() -> None:
        async with lock("key", timeout=0.05):
            pass

    async with place.coordinator(room.visit, hurried) as coordinator:
        await room.queue(coordinator, "first")
        with pytest.raises(SagaCompensated, match="LockTimeout: lock 'key' was not granted in time"):
            await coordinator.run(hurried())


async def test_of_sagas_that_wait_for_each_other_exactly_one_gives_way(place: Place) -> None:
    """It is undone, and the other gets what it waits for."""
    both = Gate()
    undone: list[str] = []

    @step
    async def first(name: str) -> None:
        await both.wait()

    @first.compensator
    async def undo_first(name: str) -> None:
        undone.append(name)

    @saga
    async def crossing(mine: str, other: str) -> str:
        async with lock(mine):
            await first(mine)
            async with lock(other):
                return mine

    async with place.coordinator(crossing) as coordinator:
        handles = [
            await coordinator.start(crossing("a", "b"), id="ab"),
            await coordinator.start(crossing("b", "a"), id="ba"),
        ]
        await both.arrival(2)
        both.open()
        results: list[str] = []
        causes: list[str] = []
        for handle in handles:
            try:
                results.append(await handle.result())
            except SagaCompensated as error:
                causes.append(f"{error.cause_type} {error.cause_message}")
    assert len(results) == len(causes) == 1
    assert causes[0].startswith("sagas.errors:Deadlock waiting for lock ")
    assert undone == [{"a": "b", "b": "a"}[results[0]]]


async def test_a_deadlock_may_be_caught_and_tried_again(place: Place) -> None:
    """Once the other has gone by."""
    go, passed = Gate(), Gate()

    @step
    async def wait_for(gate: str) -> None:
        await (go if gate == "go" else passed).wait()

    @saga
    async def polite() -> str:
        async with lock("a", hold="block"):
            await wait_for("go")
            try:
                async with lock("b"):
                    return "at once"
            except Deadlock:
                pass
        await wait_for("passed")
        async with lock("a"), lock("b"):
            return "after the other"

    @saga
    async def stubborn() -> str:
        async with lock("b"), lock("a"):
            return "went"

    async with place.coordinator(polite, stubborn) as coordinator:
        handle = await coordinator.start(polite(), id="polite")
        await go.arrival()
        other = await coordinator.start(stubborn(), id="stubborn")
        await waits_for_lock(coordinator, "stubborn")
        go.open()
        assert await other.result() == "went"
        passed.open()
        assert await handle.result() == "after the other"


async def test_a_saga_that_is_cancelled_while_it_waits_leaves_the_line(place: Place) -> None:
    """Those behind it move up."""
    room = Room()
    async with place.coordinator(room.visit) as coordinator:
        _, second, third = await room.queue(coordinator, "a", "b", "c")
        await waits_for_lock(coordinator, "b", "c")
        await coordinator.cancel("b", reason="no time")
        with pytest.raises(SagaCompensated):
            await second.result()
        for name in ("a", "c"):
            await coordinator.signal(name, "out")
        assert await third.result() == "c"
    assert room.entered == ["a", "c"]


async def test_branches_of_a_saga_share_its_locks(place: Place) -> None:
    """Side by side within, one at a time from outside."""
    meet = Gate()

    @step
    async def work() -> None:
        await meet.wait()

    async def branch() -> None:
        async with lock("a", hold="block"):
            await work()

    @saga
    async def body() -> str:
        await gather(branch(), branch(), branch())
        return "done"

    async with place.coordinator(body) as coordinator:
        handles = [await coordinator.start(body(), id=name) for name in ("s", "t")]
        await meet.arrival(3)
        assert meet.arrived == 3
        await waits_for_lock(coordinator, "t")
        meet.open()
        assert [await handle.result() for handle in handles] == ["done", "done"]
    assert meet.arrived == 6


# --- many coordinators, and their ends ------------------------------------------------------------------------------


async def test_a_line_outlives_the_coordinator(place: Place) -> None:
    """Who held the lock holds it, and everybody keeps their place."""
    room = Room()
    names = ["a", "b", "c", "d"]
    async with place.coordinator(room.visit) as coordinator:
        await room.queue(coordinator, *names)
        await waits_for_lock(coordinator, *names[1:])
    async with place.coordinator(room.visit) as coordinator:
        assert held(await coordinator.get("a")) == ["key"]
        for name in reversed(names):
            await coordinator.signal(name, "out")
        for name in names:
            assert await coordinator.run(room.visit(name), id=name) == name
    assert room.entered == names


async def test_coordinators_pass_a_lock_on_to_each_other(place: Place) -> None:
    """In the one order of all who asked."""
    room = Room()
    names = [f"s{number}" for number in range(6)]
    async with AsyncExitStack() as stack:
        homes = [await stack.enter_async_context(place.coordinator(room.visit)) for _ in range(3)]
        handles: list[Handle[str]] = []
        for number, name in enumerate(names):
            handles += await room.queue(homes[number % 3], name)
        for number, name in enumerate(names):
            await homes[number % 3].signal(name, "out")
        assert [await handle.result() for handle in handles] == names
        views = [await homes[0].get(name) for name in names]
    assert room.entered == names
    assert not any("saga taken over" in [line.what for line in view.timeline] for view in views)


async def test_sagas_of_a_dead_coordinator_keep_their_places(place: Place) -> None:
    """Whoever takes over the holder and those who wait, hears the answers in their stead."""
    room = Room()
    async with place.coordinator(room.visit) as dead:
        await room.queue(dead, "a", "b")
        await waits_for_lock(dead, "b")
        async with place.coordinator(room.visit, clock=Clock(ahead=31)) as successor:
            (last,) = await room.queue(successor, "c")
            for name in ("c", "b", "a"):
                await successor.signal(name, "out")
            with anyio.fail_after(10):
                assert await last.result() == "c"
            assert [(await successor.get(name)).status for name in "abc"] == ["completed"] * 3
    assert room.entered == ["a", "b", "c"]


async def test_a_saga_that_is_not_in_memory_hears_that_it_holds_its_lock(place: Place) -> None:
    """However few are kept there while they wait."""
    room = Room()
    names = [f"s{number}" for number in range(5)]
    async with place.coordinator(room.visit, keep_waiting=0) as coordinator:
        handles = await room.queue(coordinator, *names)
        for name in names:
            await coordinator.signal(name, "out")
        with anyio.fail_after(20):
            assert [await handle.result() for handle in handles] == names
    assert room.entered == names


async def test_a_lock_is_granted_to_a_saga_that_no_code_fits_for_when_there_is_some(place: Place) -> None:
    """It keeps its place while it is parked; the rollback of another, from its journal alone, passes the lock on."""
    room = Room()

    @step
    async def wave(who: str) -> str:
        return who

    @saga(name="visit")
    async def careless(who: str) -> str:
        return await wave(who)

    @saga
    async def patient() -> str:
        async with lock("key"):
            return "in"

    async with place.coordinator(room.visit, patient) as coordinator:
        await room.queue(coordinator, "a", "b")

        async def inside() -> bool:
            return [x.state for x in (await coordinator.get("a")).steps] == ["succeeded"]

        await until(inside)
        await waits_for_lock(coordinator, "b")
    async with place.coordinator(careless, patient, steps=[room.enter]) as coordinator:

        async def parked() -> bool:
            return [(await coordinator.get(name)).status for name in "ab"] == ["stuck", "stuck"]

        for name in "ab":
            await coordinator.signal(name, "out")  # so that somebody tries to drive them
        await until(parked)
        await coordinator.start(patient(), id="patient")
        await waits_for_lock(coordinator, "patient")
        await coordinator.cancel("a", reason="no code")

        async def undone() -> bool:
            return (await coordinator.get("a")).status == "compensated"

        await until(undone)
        await waits_for_lock(coordinator, "patient", "b")
    assert room.inside == set()
    async with place.coordinator(room.visit, patient) as coordinator:
        await coordinator.resume("b")
        assert await coordinator.run(room.visit("b"), id="b") == "b"
        assert await coordinator.run(patient(), id="patient") == "in"
    assert room.entered == ["a", "b"]


async def test_what_a_parked_saga_only_waits_for_is_given_up_when_it_is_cancelled(place: Place) -> None:
    """Those behind it move up, though no code of it is here."""
    room = Room()

    @step
    async def wave(who: str) -> str:
        return who

    @saga(name="visit")
    async def careless(who: str) -> str:
        return await wave(who)

    async with place.coordinator(room.visit) as coordinator:
        await room.queue(coordinator, "a", "b", "c")
        await waits_for_lock(coordinator, "b", "c")
    async with place.coordinator(careless) as coordinator:

        async def parked() -> bool:
            return (await coordinator.get("b")).status == "stuck"

        await coordinator.signal("b", "out")
        await until(parked)
        await coordinator.cancel("b", reason="no code")

        async def undone() -> bool:
            return (await coordinator.get("b")).status == "compensated"

        await until(undone)
    async with place.coordinator(room.visit) as coordinator:
        for name in "ac":
            await coordinator.signal(name, "out")
        assert await coordinator.run(room.visit("c"), id="c") == "c"
    assert room.entered == ["a", "c"]


async def test_a_body_that_failed_after_its_pivot_gets_the_lock_that_was_granted_meanwhile(place: Place) -> None:
    """The answer waits for better code, as the saga does."""
    room = Room()

    @step(pivot=True)
    async def confirm() -> None: ...

    async def stand_in_line() -> None:
        async with lock("key", hold="block"):
            pass

    async def fail() -> None:
        await confirm()
        raise ValueError

    @saga(name="late")
    async def broken() -> str:
        await gather(stand_in_line(), fail())
        return "never"

    @saga(name="late")
    async def mended() -> str:
        await gather(stand_in_line(), confirm_only())
        return "in"

    async def confirm_only() -> None:
        await confirm()

    async with place.coordinator(room.visit, broken) as coordinator:
        (first,) = await room.queue(coordinator, "first")
        with pytest.raises(SagaStuck):
            await coordinator.run(broken(), id="late")
        await coordinator.signal("first", "out")
        assert await first.result() == "first"
    async with place.coordinator(room.visit, mended) as coordinator:
        await coordinator.resume("late")
        assert await coordinator.run(mended(), id="late") == "in"
        (second,) = await room.queue(coordinator, "second")
        await coordinator.signal("second", "out")
        assert await second.result() == "second"


async def test_a_lock_that_was_granted_is_held_though_the_time_to_wait_is_over(place: Place) -> None:
    """The answer came while nobody ran the saga, and only afterwards it was too late."""
    gate = Gate()

    @step
    async def work() -> str:
        await gate.wait()
        return "done"

    @saga
    async def first() -> str:
        async with lock("key"):
            return await work()

    @saga
    async def second() -> str:
        async with lock("key", timeout=30):
            return await work()

    async with place.coordinator(first, second, shutdown_timeout=0) as coordinator:
        await coordinator.start(first(), id="first")
        await gate.arrival()
        await coordinator.start(second(), id="second")
        await waits_for_lock(coordinator, "second")
    gate.open()
    async with place.coordinator(first) as coordinator:
        assert await coordinator.run(first(), id="first") == "done"
    async with place.coordinator(first, second, clock=Clock(3600)) as coordinator:
        assert await coordinator.run(second(), id="second") == "done"
