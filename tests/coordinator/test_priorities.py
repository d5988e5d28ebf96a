"""Priorities: who is served first where sagas wait for the same; and that nobody waits for ever."""

# ruff: noqa: SLF001 - looks behind the scenes, where users do not

from __future__ import annotations

from functools import partial
from typing import Any

import anyio
import pytest
from anyio.abc import TaskGroup

from sagas import Coordinator, Limit, RequestError, Saga, saga, step
from sagas.core.ranks import AGEING
from tests.coordinator.places import Clock, Gate, Place, until


class Shop:
    """A saga of one step, which notes the order in which it is done; the first one waits."""

    def __init__(self, limit: Limit | None = None) -> None:
        self.gate = Gate()
        self.order: list[str] = []

        @step(limit=limit)
        async def serve(who: str) -> None:
            if not self.order:
                self.order.append(who)
                await self.gate.wait()
            else:
                self.order.append(who)

        @saga(name="serving")
        async def body(who: str) -> None:
            await serve(who)

        self.saga: Saga[[str], None] = body


async def _start_waiting(coordinator: Coordinator, shop: Shop, group: TaskGroup, who: str, priority: int) -> None:
    """Starts a saga that waits for room."""
    assert coordinator._engine is not None
    line = coordinator._engine.load._line
    before = line.length
    group.start_soon(partial(coordinator.run, priority=priority), shop.saga(who))

    async def waits() -> bool:
        return line.length == before + 1

    await until(waits)


async def test_starts_that_wait_for_room_go_on_by_priority(place: Place) -> None:
    """Those of the same in the order in which they came."""
    shop = Shop()
    async with place.coordinator(shop.saga, max_running=1) as coordinator, anyio.create_task_group() as group:
        await coordinator.start(shop.saga("first"))
        await shop.gate.arrival()
        for who, priority in (("low", -5), ("one", 0), ("two", 0), ("high", 7), ("highest", 100)):
            await _start_waiting(coordinator, shop, group, who, priority)
        shop.gate.open()
    assert shop.order == ["first", "highest", "high", "one", "two", "low"]


@pytest.mark.parametrize("across", ["process", "store"])
async def test_attempts_that_wait_for_a_limit_go_on_by_the_priority_of_their_sagas(place: Place, across: Any) -> None:
    """Whenever they came."""
    shop = Shop(Limit(concurrency=1, across=across))
    async with place.coordinator(shop.saga) as coordinator:
        handles = [await coordinator.start(shop.saga("first"))]
        await shop.gate.arrival()
        for who, priority in (("low", -5), ("one", 0), ("high", 7), ("two", 0), ("highest", 100)):
            handles.append(await coordinator.start(shop.saga(who), priority=priority))

        async def all_wait() -> bool:
            assert coordinator._engine is not None
            (gate,) = coordinator._engine.limits._gates.values()
            return gate._line.length == 5

        await until(all_wait)
        shop.gate.open()
        for handle in handles:
            await handle.result()
    assert shop.order == ["first", "highest", "high", "one", "two", "low"]


async def test_whoever_has_waited_long_goes_before_a_higher_priority(place: Place) -> None:
    """Each step of priority is worth a minute."""
    shop = Shop()
    clock = Clock()
    async with (
        place.coordinator(shop.saga, max_running=1, clock=clock, lease=1e6) as coordinator,
        anyio.create_task_group() as group,
    ):
        await coordinator.start(shop.saga("first"))
        await shop.gate.arrival()
        for who, priority in (("old", 0), ("young", 1), ("youngest", 3)):
            await _start_waiting(coordinator, shop, group, who, priority)
            clock.ahead += AGEING + 1
        shop.gate.open()
    assert shop.order == ["first", "youngest", "old", "young"]


async def test_orphans_are_taken_over_by_priority(place: Place) -> None:
    """Which is in the store, so that it outlasts the process."""
    shop = Shop(Limit(concurrency=1))
    priorities = {"first": 100, "low": -5, "one": 0, "high": 7, "two": 0, "higher": 8}
    async with place.coordinator(shop.saga, shutdown_timeout=0) as coordinator:
        for who, priority in priorities.items():
            await coordinator.start(shop.saga(who), id=who, priority=priority)
        await shop.gate.arrival()
    shop.order.clear()
    shop.order.append("again")
    async with place.coordinator(shop.saga, max_running=1) as coordinator:
        for who in priorities:
            await coordinator.run(shop.saga(who), id=who)
        rows = {who: await coordinator._running().in_thread(coordinator._store.get, who) for who in priorities}
    assert shop.order == ["again", "first", "higher", "high", "one", "two", "low"]
    for who, priority in priorities.items():
        assert rows[who].rank == pytest.approx(rows[who].created_at - priority * AGEING, abs=5)


@pytest.mark.parametrize("priority", [101, -101, 1.0, True, "high", None])
async def test_what_is_no_priority_is_refused(priority: Any) -> None:
    """Nothing is started."""
    shop = Shop()
    async with Coordinator("memory:", sagas=[shop.saga]) as coordinator:
        with pytest.raises(RequestError, match="use a whole number from -100 to 100"):
            await coordinator.start(shop.saga("a"), priority=priority)
        with pytest.raises(RequestError, match="use a whole number from -100 to 100"):
            await coordinator.run(shop.saga("a"), priority=priority)
        assert await coordinator.list() == []
