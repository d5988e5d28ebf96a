"""How many sagas run at once: starts wait for room, orphans are taken over as there is some."""

# ruff: noqa: SLF001 - looks behind the scenes, where users do not

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from typing import Any

import anyio
import pytest

from sagas import (
    Coordinator,
    CoordinatorBusy,
    CoordinatorClosed,
    Rejected,
    RequestError,
    Retry,
    SagaCompensated,
    SagaNotFound,
    SagaStuck,
    receive,
    saga,
    sleep,
    step,
)
from sagas.coordinator.load import Load
from tests.coordinator.places import Clock, Gate, Place, until


class Work:
    """A saga that works once, waits for a signal if asked to, and works again; each work may be held up."""

    def __init__(self) -> None:
        self.gate = Gate()
        self.inside = self.most = 0
        self.done: list[str] = []

        @step
        async def work(who: str) -> None:
            self.inside += 1
            self.most = max(self.most, self.inside)
            try:
                await self.gate.wait()
            finally:
                self.inside -= 1
            self.done.append(who)

        @saga(name="working")
        async def body(who: str) -> str:
            await work(who)
            return who

        @saga(name="pausing")
        async def pausing(who: str) -> str:
            await receive("go")
            await work(who)
            return who

        self.saga = body
        self.pausing = pausing


def _load(coordinator: Coordinator) -> Load:
    assert coordinator._engine is not None
    return coordinator._engine.load


def _line(coordinator: Coordinator, length: int) -> Callable[[], Any]:
    async def is_so_long() -> bool:
        return _load(coordinator)._line.length == length

    return is_so_long


async def test_a_start_waits_until_there_is_room(place: Place) -> None:
    """And what is started runs to its end."""
    work = Work()
    async with place.coordinator(work.saga, max_running=2) as coordinator, anyio.create_task_group() as group:
        for number in range(5):
            group.start_soon(coordinator.run, work.saga(f"s{number}"))
        await work.gate.arrival(2)
        await until(_line(coordinator, 3))
        assert len(await coordinator.list()) == 2
        work.gate.open()
    assert sorted(work.done) == [f"s{number}" for number in range(5)]
    assert work.most == 2


async def test_sagas_that_wait_do_not_count_and_wake_up_whatever_the_load(place: Place) -> None:
    """Else they could wait for each other."""
    work = Work()
    async with place.coordinator(work.saga, work.pausing, max_running=2) as coordinator:
        for number in range(6):
            await coordinator.start(work.pausing(f"p{number}"), id=f"p{number}")
        for number in range(2):
            await coordinator.start(work.saga(f"s{number}"), id=f"s{number}")
        await work.gate.arrival(2)
        for number in range(6):
            await coordinator.signal(f"p{number}", "go")
        await work.gate.arrival(8)
        assert _load(coordinator).active == 8
        work.gate.open()
        for number in range(6):
            assert await coordinator.run(work.pausing(f"p{number}"), id=f"p{number}") == f"p{number}"
        for number in range(2):
            await coordinator.run(work.saga(f"s{number}"), id=f"s{number}")
        assert _load(coordinator).active == 0


async def test_a_start_that_is_cancelled_while_it_waits_leaves_nothing_behind(place: Place) -> None:
    """Neither a saga nor a place that is taken."""
    work = Work()
    async with place.coordinator(work.saga, max_running=1) as coordinator:
        handle = await coordinator.start(work.saga("a"), id="a")
        await work.gate.arrival()
        with pytest.raises(TimeoutError), anyio.fail_after(0.05):
            await coordinator.start(work.saga("b"), id="b")
        async with anyio.create_task_group() as group:
            for number in range(3):
                group.start_soon(coordinator.start, work.saga(f"c{number}"))
            await until(_line(coordinator, 3))
            group.cancel_scope.cancel()
        work.gate.open()
        await handle.result()
        with pytest.raises(SagaNotFound):
            await coordinator.get("b")
        assert len(await coordinator.list()) == 1
        assert _load(coordinator).active == 0
        assert await coordinator.run(work.saga("b"), id="b") == "b"


async def test_a_start_whose_turn_came_as_it_was_cancelled_gives_its_place_back(place: Place) -> None:
    """To the next in line."""
    work = Work()
    async with place.coordinator(work.saga, max_running=1) as coordinator:
        await coordinator.start(work.saga("a"))
        await work.gate.arrival()
        async with anyio.create_task_group() as group, anyio.create_task_group() as cancelled:
            cancelled.start_soon(coordinator.start, work.saga("b"))
            await until(_line(coordinator, 1))
            group.start_soon(coordinator.run, work.saga("c"))
            await until(_line(coordinator, 2))
            _load(coordinator).leave()  # b is called, and before it can go on …
            cancelled.cancel_scope.cancel()
            _load(coordinator).wake()
            work.gate.open()
        assert sorted(work.done) == ["a", "c"]
        await until(_line(coordinator, 0))


async def test_a_start_gives_up_after_its_timeout(place: Place) -> None:
    """Nothing was started, so it may be tried elsewhere."""
    work = Work()
    async with place.coordinator(work.saga, max_running=1, start_timeout=0.02) as coordinator:
        handle = await coordinator.start(work.saga("a"))
        await work.gate.arrival()
        for ask in (coordinator.start, coordinator.run):
            with pytest.raises(CoordinatorBusy, match=r"no room for another one within 0\.02 s; nothing was started"):
                await ask(work.saga("b"), id="b")
        work.gate.open()
        await handle.result()
        assert [x.id for x in await coordinator.list()] == [handle.id]
        with anyio.fail_after(30):
            result = None
            while result is None:  # as soon as it is known here that there is room
                with suppress(CoordinatorBusy):
                    result = await coordinator.run(work.saga("b"), id="b")
        assert result == "b"


async def test_leaving_turns_away_whoever_waits_for_room(place: Place) -> None:
    """It hears that nothing was started."""
    work = Work()
    heard: list[str] = []

    async with (
        anyio.create_task_group() as group,
        place.coordinator(work.saga, max_running=1, shutdown_timeout=0) as coordinator,
    ):
        await coordinator.start(work.saga("a"))
        await work.gate.arrival()

        async def wait(who: str) -> None:
            with pytest.raises(CoordinatorClosed, match="nothing was started"):
                await coordinator.start(work.saga(who), id=who)
            heard.append(who)

        group.start_soon(wait, "b")
        group.start_soon(wait, "c")
        await until(_line(coordinator, 2))
    assert sorted(heard) == ["b", "c"]
    work.gate.open()
    async with place.coordinator(work.saga) as coordinator:
        assert len(await coordinator.list()) == 1


async def test_one_id_that_is_started_twice_while_there_is_no_room_is_one_saga(place: Place) -> None:
    """And takes one place."""
    work = Work()
    results: list[str] = []
    async with place.coordinator(work.saga, max_running=1) as coordinator, anyio.create_task_group() as group:
        await coordinator.start(work.saga("a"))
        await work.gate.arrival()

        async def run() -> None:
            results.append(await coordinator.run(work.saga("b"), id="b"))

        group.start_soon(run)
        group.start_soon(run)
        await until(_line(coordinator, 2))
        work.gate.open()
    assert results == ["b", "b"]
    assert work.done == ["a", "b"]


async def test_a_saga_that_runs_here_is_found_without_waiting_for_room(place: Place) -> None:
    """It needs none."""
    work = Work()
    async with place.coordinator(work.saga, max_running=1, start_timeout=0) as coordinator:
        first = await coordinator.start(work.saga("a"), id="a")
        again = await coordinator.start(work.saga("a"), id="a")
        work.gate.open()
        assert await first.result() == await again.result() == "a"


async def test_orphans_are_taken_over_as_there_is_room(place: Place) -> None:
    """All of them, in the end."""
    work, slow = Work(), Work()
    async with place.coordinator(slow.saga, shutdown_timeout=0) as coordinator:
        for number in range(12):
            await coordinator.start(slow.saga(f"s{number}"), id=f"s{number}")
        await slow.gate.arrival(12)
    work.gate.open()
    most = 0
    async with place.coordinator(work.saga, max_running=3) as coordinator:

        async def all_done() -> bool:
            nonlocal most
            most = max(most, _load(coordinator).active)
            return len(work.done) == 12

        await until(all_done)
    assert sorted(work.done) == sorted(f"s{number}" for number in range(12))
    assert most <= 3


async def test_orphans_that_wake_up_are_taken_over_as_there_is_room(place: Place) -> None:
    """Many timers may have become due while nobody was there."""
    work = Work()

    @saga
    async def dozing(who: str) -> None:
        await sleep(60)
        await work.saga(who)

    async with place.coordinator(dozing, work.saga) as coordinator:
        for number in range(12):
            await coordinator.start(dozing(f"s{number}"))
    work.gate.open()
    most = 0
    async with place.coordinator(dozing, work.saga, clock=Clock(ahead=61), max_running=3) as coordinator:
        wake = _load(coordinator).wake

        def watch() -> None:
            nonlocal most
            wake()
            most = max(most, _load(coordinator).active)

        _load(coordinator).wake = watch  # type: ignore[method-assign]  # every saga that is taken over is counted there

        async def all_done() -> bool:
            return len(work.done) == 12

        await until(all_done)
    assert 1 <= most <= 3


@pytest.mark.parametrize("order", ["signal", "timer"])
async def test_what_wakes_up_elsewhere_than_in_memory_waits_while_it_is_crowded(on_disk: Place, order: str) -> None:
    """Till fewer than twice as many as the bound have something to do; in the end, all of it has been done."""
    work = Work()

    @saga
    async def dozing(who: str) -> None:
        await sleep(60)
        await work.saga(who)

    bodies = (work.saga, work.pausing, dozing)
    parked = dozing if order == "timer" else work.pausing
    clock = Clock()
    async with (
        on_disk.coordinator(*bodies, max_running=2, keep_waiting=0, clock=clock, lease=1e6) as coordinator,
        on_disk.coordinator(clock=clock, lease=1e6) as other,
    ):
        for number in range(10):
            await coordinator.start(parked(f"p{number}"), id=f"p{number}")

        async def none_in_memory() -> bool:
            assert coordinator._engine is not None
            return not coordinator._engine.sagas

        await until(none_in_memory)
        clock.ahead = 61
        for number in range(10):
            if order == "signal":
                await other.signal(f"p{number}", "go")
            else:  # what the timer does, which goes by the real time
                assert coordinator._engine is not None
                coordinator._engine._timer_due(f"p{number}", "")
        await work.gate.arrival(4)
        await anyio.sleep(0.5)  # several looks
        assert work.inside == 4
        work.gate.open()

        async def all_done() -> bool:
            return len(work.done) == 10

        await until(all_done)


@pytest.mark.parametrize("most", [1, 20])
async def test_starts_do_not_shut_out_orphans(place: Place, most: int) -> None:
    """However many there are of them."""
    work, slow = Work(), Work()
    async with place.coordinator(work.saga, max_running=most) as coordinator, anyio.create_task_group() as group:
        ended = False

        async def keep_starting(who: str) -> None:
            while not ended:
                await coordinator.run(work.saga(who))

        for number in range(2 * most):
            group.start_soon(keep_starting, f"busy{number}")
        await work.gate.arrival(most)
        async with place.coordinator(slow.saga, shutdown_timeout=0) as dying:
            for number in range(5):
                await dying.start(slow.saga(f"orphan{number}"))
            await slow.gate.arrival(5)
        work.gate.open()

        async def all_done() -> bool:
            return sum(who.startswith("orphan") for who in work.done) == 5

        await until(all_done)
        ended = True
    assert work.most <= most


async def test_every_place_is_free_again_in_the_end(place: Place) -> None:
    """However sagas end, pause, or are dropped: nothing counts that does nothing."""

    @step
    async def act(how: str) -> None:
        if how == "rejected":
            raise Rejected(how)

    @act.compensator
    async def take_back(how: str) -> None: ...

    @saga
    async def body(how: str) -> None:
        await act(how)
        if how == "sleeps":
            await sleep(0.02)
        elif how == "waits":
            await receive("go")
        elif how == "fails":
            raise ValueError(how)
        await act("again")

    hows = ["completes", "rejected", "sleeps", "waits", "fails"] * 4
    async with place.coordinator(body, keep_waiting=1, max_running=3) as coordinator:

        async def run(number: int, how: str) -> None:
            with suppress(SagaCompensated):
                await coordinator.run(body(how), id=f"{how}{number}")

        async with anyio.create_task_group() as group:
            for number, how in enumerate(hows):
                group.start_soon(run, number, how)
            for number, how in enumerate(hows):
                if how == "waits":

                    async def is_there(number: int = number) -> bool:
                        return any(x.id == f"waits{number}" for x in await coordinator.list(limit=99))

                    await until(is_there)
                    if number % 2:
                        await coordinator.signal(f"waits{number}", "go")
                    else:
                        await coordinator.cancel(f"waits{number}", reason="enough")

        async def nothing_counts() -> bool:
            return _load(coordinator).active == 0

        await until(nothing_counts)
        assert _load(coordinator).room == 3


async def test_a_stuck_saga_takes_no_room(place: Place) -> None:
    """It waits for an operator."""

    @step
    async def act() -> None: ...

    @act.compensator(retry=Retry(attempts=1))
    async def take_back() -> None:
        raise ConnectionError

    @saga
    async def body() -> None:
        await act()
        raise ValueError

    async with place.coordinator(body, max_running=1) as coordinator:
        for number in range(3):
            with pytest.raises(SagaStuck):
                await coordinator.run(body(), id=f"{number}")
        assert _load(coordinator).active == 0
        await coordinator.skip("1", reason="by hand")
        with pytest.raises(SagaCompensated):
            await coordinator.run(body(), id="1")
        assert _load(coordinator).active == 0


async def test_a_saga_that_was_taken_over_takes_no_room(place: Place) -> None:
    """Whoever lost it drives others instead."""
    work = Work()
    async with place.coordinator(work.saga, max_running=1) as paused:
        await paused.start(work.saga("a"), id="a")
        await work.gate.arrival()
        async with place.coordinator(work.saga, clock=Clock(ahead=31)) as successor:
            await work.gate.arrival(2)
            work.gate.open()
            assert await successor.run(work.saga("a"), id="a") == "a"

        async def nothing_counts() -> bool:
            return _load(paused).active == 0

        await until(nothing_counts)
        assert await paused.run(work.saga("b"), id="b") == "b"


async def test_without_a_bound_nothing_waits() -> None:
    """As many as there are."""
    work = Work()
    async with Coordinator("memory:", sagas=[work.saga], max_running=None) as coordinator:
        handles = [await coordinator.start(work.saga(f"{number}")) for number in range(50)]
        await work.gate.arrival(50)
        work.gate.open()
        for handle in handles:
            await handle.result()


def test_bounds_that_are_none_are_refused() -> None:
    """At once."""
    for options in ({"max_running": 0}, {"start_timeout": -1}, {"limit_turn": 0}):
        with pytest.raises(RequestError, match=next(iter(options))):
            Coordinator("memory:", **options)  # type: ignore[arg-type]  # on purpose
