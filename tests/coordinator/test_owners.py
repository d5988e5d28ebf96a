"""Several coordinators on one journal: shutdown, takeover, fencing."""

# ruff: noqa: SLF001 - looks behind the scenes, where users do not

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence

import anyio
import pytest
from anyio import to_thread

from sagas import (
    Coordinator,
    CoordinatorClosed,
    Rejected,
    Retry,
    SagaCompensated,
    SagaStuck,
    current_step,
    receive,
    saga,
    sleep,
    step,
)
from sagas.stores.port import JournalRow
from sagas.stores.sqlite import SqliteStore
from tests.coordinator.places import Clock, Gate, Place, until


class Work:
    """A saga whose middle step waits at a gate, once."""

    def __init__(self) -> None:
        self.gate = Gate()
        self.done: list[tuple[str, str]] = []
        self.cancelled = 0

        @step
        async def work(what: str) -> str:
            if what == "slow" and not self.gate.arrived:
                try:
                    await self.gate.wait()
                except BaseException:
                    self.cancelled += 1
                    raise
            self.done.append((what, current_step().idempotency_key))
            return what

        @saga(name="working")
        async def body() -> list[str]:
            return [await work("a"), await work("slow"), await work("b")]

        self.saga = body

    def counts(self) -> list[str]:
        """What was done, in order."""
        return [what for what, _ in self.done]


async def test_leaving_lets_running_steps_end_and_starts_nothing_new(place: Place) -> None:
    """The next coordinator goes on from there."""
    work = Work()
    coordinator = place.coordinator(work.saga, shutdown_timeout=10)

    async def open_when_closing() -> None:
        async def closing() -> bool:
            return coordinator._engine is not None and coordinator._engine.closing

        await until(closing)
        with pytest.raises(CoordinatorClosed, match="shutting down"):
            await coordinator.start(work.saga(), id="t")
        work.gate.open()

    async with anyio.create_task_group() as group, coordinator:
        await coordinator.start(work.saga(), id="s")
        await work.gate.arrival()
        group.start_soon(open_when_closing)
    assert work.counts() == ["a", "slow"]
    async with place.coordinator(work.saga) as coordinator:
        assert await coordinator.run(work.saga(), id="s") == ["a", "slow", "b"]
        assert [x.id for x in await coordinator.list()] == ["s"]
    assert work.counts() == ["a", "slow", "b"]


async def test_a_step_that_outlasts_the_shutdown_is_cancelled_and_repeated_under_its_key(place: Place) -> None:
    """It is not taken for a failure."""
    work = Work()
    async with place.coordinator(work.saga, shutdown_timeout=0) as coordinator:
        await coordinator.start(work.saga(), id="s")
        await work.gate.arrival()
    assert work.cancelled == 1
    async with place.coordinator(work.saga) as coordinator:
        assert await coordinator.run(work.saga(), id="s") == ["a", "slow", "b"]
        assert [x.state for x in (await coordinator.get("s")).steps] == ["succeeded"] * 3
    assert work.counts() == ["a", "slow", "b"]


async def test_whoever_waits_hears_that_the_coordinator_was_closed(place: Place) -> None:
    """Instead of waiting for ever."""
    work = Work()
    heard = 0

    async with anyio.create_task_group() as group, place.coordinator(work.saga, shutdown_timeout=0) as coordinator:
        handle = await coordinator.start(work.saga(), id="s")

        async def wait() -> None:
            nonlocal heard
            with pytest.raises(CoordinatorClosed, match="goes on when one runs again"):
                await handle.result()
            heard += 1

        group.start_soon(wait)
        group.start_soon(wait)
        await work.gate.arrival()
    assert heard == 2


async def test_every_open_saga_is_recovered_at_the_start(place: Place) -> None:
    """Running, waiting for a timer, waiting for a signal; compensating."""
    block = Gate()
    undone: list[str] = []
    allowed = False

    @step
    async def book(what: str) -> str:
        return what

    @book.compensator
    async def unbook(what: str) -> None:
        if not allowed:
            await block.wait()
        undone.append(what)

    @saga
    async def body(what: str) -> str:
        await book(what)
        if what == "timer":
            await sleep(0.2)
        elif what == "signal":
            await receive("go")
        else:
            raise Rejected("no")
        return what

    kinds = ("timer", "signal", "compensating")
    async with place.coordinator(body, shutdown_timeout=0) as coordinator:
        for kind in kinds:
            await coordinator.start(body(kind), id=kind)
        await block.arrival()
    allowed = True
    async with place.coordinator(body) as coordinator:
        await coordinator.signal("signal", "go")
        assert await coordinator.run(body("timer"), id="timer") == "timer"
        assert await coordinator.run(body("signal"), id="signal") == "signal"
        with pytest.raises(SagaCompensated):
            await coordinator.run(body("compensating"), id="compensating")
    assert undone == ["compensating"]


async def test_an_owner_whose_lease_ran_out_is_replaced_and_fenced_by_its_next_append(place: Place) -> None:
    """Both make the attempt, under the same key; only one of them advances the saga."""
    work = Work()
    async with place.coordinator(work.saga) as paused:
        handle = await paused.start(work.saga(), id="s")
        await work.gate.arrival()
        async with place.coordinator(work.saga, clock=Clock(ahead=31)) as successor:
            with anyio.fail_after(10):
                assert await successor.run(work.saga(), id="s") == ["a", "slow", "b"]
            assert work.counts() == ["a", "slow", "b"]
            work.gate.open()
            with anyio.fail_after(10):
                assert await handle.result() == ["a", "slow", "b"]

            async def dropped() -> bool:
                return paused._engine is not None and "s" not in paused._engine.sagas

            await until(dropped)
            view = await successor.get("s")
    assert [line.what for line in view.timeline].count("saga taken over") == 1
    assert [x.state for x in view.steps] == ["succeeded"] * 3
    slow = [key for what, key in work.done if what == "slow"]
    assert len(set(slow)) == 1
    assert work.counts().count("b") == 1


async def test_a_successor_leaves_the_sagas_of_a_living_owner_alone(place: Place) -> None:
    """However long a step takes."""
    work = Work()
    async with place.coordinator(work.saga) as owner:
        handle = await owner.start(work.saga(), id="s")
        await work.gate.arrival()
        async with place.coordinator(work.saga) as other:
            waiting = await other.start(work.saga(), id="s")
            work.gate.open()
            assert await handle.result() == await waiting.result() == ["a", "slow", "b"]
            assert "saga taken over" not in [line.what for line in (await other.get("s")).timeline]
    assert work.counts() == ["a", "slow", "b"]


async def test_a_lease_is_renewed_long_before_it_runs_out(place: Place) -> None:
    """A short one holds all the same."""
    work = Work()
    async with place.coordinator(work.saga, lease=0.3) as owner:
        handle = await owner.start(work.saga(), id="s")
        await work.gate.arrival()
        async with place.coordinator(work.saga, lease=0.3) as other:
            store = place.store()
            store.open(migrate=True)
            assert owner._engine is not None
            first = owner._engine.clock.now()

            async def renewed() -> bool:
                assert owner._engine is not None
                return store.alive(owner._engine.owner, first + 0.6)

            await until(renewed)
            assert other._engine is not None
            assert not other._engine.sagas
            if not store.in_memory:
                store.close()
        work.gate.open()
        assert await handle.result() == ["a", "slow", "b"]
    assert work.counts() == ["a", "slow", "b"]


async def test_orders_reach_a_saga_wherever_it_lives(place: Place) -> None:
    """A cancel from another coordinator undoes it."""
    work = Work()
    async with place.coordinator(work.saga) as owner, place.coordinator(work.saga) as other:
        handle = await owner.start(work.saga(), id="s")
        await work.gate.arrival()
        await other.cancel("s", reason="from elsewhere")

        async def stopping() -> bool:
            return (await owner.get("s")).timeline[-1].what == "cancel requested"

        await until(stopping)
        work.gate.open()
        with pytest.raises(SagaCompensated, match="from elsewhere"):
            await handle.result()
    assert work.counts() == ["a", "slow"]


async def test_two_coordinators_share_the_sagas_of_one_that_ended(place: Place) -> None:
    """Each goes to one of them; nothing is done twice."""
    works = [Work() for _ in range(1)]
    work = works[0]
    async with place.coordinator(work.saga, shutdown_timeout=0) as coordinator:
        for number in range(20):
            await coordinator.start(work.saga(), id=f"s{number}")
        await work.gate.arrival()
    async with place.coordinator(work.saga) as first, place.coordinator(work.saga) as second:
        results: list[list[str]] = []

        async def wait(number: int) -> None:
            results.append(await (first if number % 2 else second).run(work.saga(), id=f"s{number}"))

        async with anyio.create_task_group() as group:
            for number in range(20):
                group.start_soon(wait, number)
    assert results == [["a", "slow", "b"]] * 20


async def test_an_order_for_a_stuck_saga_whose_owner_leaves_meanwhile_is_carried_out(place: Place) -> None:
    """It is taken over and tried again; it is not taken for a parked one, for which better code has come."""
    broken = True

    @step
    async def book() -> None:
        pass

    @book.compensator(retry=Retry(attempts=1))
    async def unbook() -> None:
        if broken:
            raise ConnectionError("no line")

    @step
    async def refuse() -> None:
        raise Rejected("never")

    @saga
    async def body() -> None:
        await book()
        await refuse()

    async with place.coordinator(body) as coordinator:
        with pytest.raises(SagaStuck):
            await coordinator.run(body(), id="s")
    broken = False
    async with place.coordinator(body) as coordinator:
        store = coordinator._running().store
        alive, answers = store.alive, [True]
        store.alive = lambda owner, now: answers.pop() if answers else alive(owner, now)  # type: ignore[method-assign]
        await coordinator.retry("s")
        store.alive = alive  # type: ignore[method-assign]
        with pytest.raises(SagaCompensated):
            await coordinator.run(body(), id="s")
        told = [x.what for x in (await coordinator.get("s")).timeline]
    assert told[-4:] == ["saga taken over", "undo retried", "undo succeeded", "saga compensated"]


async def test_a_coordinator_that_takes_nothing_over_runs_what_it_is_given_and_leaves_the_rest(place: Place) -> None:
    """Such as one that an operator starts for a single saga."""
    work = Work()
    async with place.coordinator(work.saga, shutdown_timeout=0) as owner:
        await owner.start(work.saga(), id="left")
        await work.gate.arrival()
    work.gate.open()
    async with place.coordinator(work.saga, take_over=False) as guest:
        with anyio.fail_after(10):
            assert await guest.run(work.saga(), id="given") == ["a", "slow", "b"]
        assert (await guest.get("left")).status == "running"
        assert "saga taken over" not in [line.what for line in (await guest.get("left")).timeline]
    async with place.coordinator(work.saga) as owner:
        assert await owner.run(work.saga(), id="left") == ["a", "slow", "b"]


class Slow(SqliteStore):
    """Stands still between the moment that a saga is claimed and that its journal is read."""

    def __init__(self, url: str) -> None:
        super().__init__(url)
        self.stands = threading.Event()
        self.goes_on = threading.Event()

    def load(self, saga_ids: Sequence[str]) -> Mapping[str, list[JournalRow]]:
        if saga_ids and not self.stands.is_set():
            self.stands.set()
            self.goes_on.wait()
        return super().load(saga_ids)


async def test_a_saga_that_was_taken_over_since_it_was_claimed_is_left_alone(on_disk: Place) -> None:
    """Though its journal, read afterwards, could well be continued."""
    gate = Gate()

    @step
    async def work() -> str:
        await gate.wait()
        return "done"

    @saga
    async def job() -> str:
        return await work()

    async with on_disk.coordinator(job, shutdown_timeout=0) as owner:
        await owner.start(job(), id="s")
        await gate.arrival()
    slow = Slow(f"sqlite:///{on_disk.path}")
    try:
        async with Coordinator(slow, sagas=[job], poll=0.01) as slower:
            await to_thread.run_sync(slow.stands.wait)
            on_disk.sql("UPDATE saga SET claimed_by = NULL")
            async with on_disk.coordinator(job) as faster:
                await gate.arrival(2)
                slow.goes_on.set()
                await until(lambda: _looked(slower))
                gate.open()
                assert await faster.run(job(), id="s") == "done"
                taken = [line for line in (await faster.get("s")).timeline if line.what == "saga taken over"]
                assert len(taken) == 1
    finally:
        slow.goes_on.set()


async def _looked(coordinator: Coordinator) -> bool:
    """Says whether what was claimed has been brought back, or not."""
    return not coordinator._running()._hands.locked()
