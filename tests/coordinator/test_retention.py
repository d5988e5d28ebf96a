"""Finished sagas are archived or deleted in the background; what callers see of them stays the same."""

# ruff: noqa: SLF001 - looks behind the scenes, where users do not

from __future__ import annotations

import threading
from contextlib import AsyncExitStack
from dataclasses import replace
from datetime import timedelta
from functools import partial
from typing import Any

import pytest

from sagas import (
    Client,
    Coordinator,
    IdempotencyConflict,
    JournalCorrupted,
    Rejected,
    RequestError,
    Retention,
    Retry,
    SagaCompensated,
    SagaNotFound,
    SagaStuck,
    StoreUnavailable,
    receive,
    saga,
    step,
)
from sagas.stores.keeping import Purge, Purged, ScheduleRow
from sagas.stores.memory import MemoryStore
from sagas.stores.packing import pack
from sagas.stores.port import Store
from tests.coordinator.places import Clock, Place, until

AT_ONCE = Retention(completed=0, compensated=0, every=0.01)
DELETE = Retention(completed=0, compensated=0, archive=False, every=0.01)
_CLAIM = "sagas:retention"
_DAY = 86_400.0


class Shop:
    """Sagas for every outcome; knows how often steps were run."""

    def __init__(self) -> None:
        self.reserved: list[str] = []

        @step
        async def reserve(item: str) -> str:
            self.reserved.append(item)
            return f"r-{item}"

        @reserve.compensator(retry=Retry(attempts=1))
        async def release(item: str) -> None:
            if item == "sticky":
                raise ConnectionError("no answer")

        @step
        async def sell(item: str) -> None:
            raise Rejected("sold out")

        @saga
        async def good(item: str) -> str:
            return await reserve(item)

        @saga
        async def bad(item: str) -> None:
            await reserve(item)
            await sell(item)

        @saga
        async def asks(item: str) -> str:
            await reserve(item)
            return await receive("answer", str)

        self.good, self.bad, self.asks = good, bad, asks
        self.sagas = (good, bad, asks)


async def _fill(coordinator: Coordinator, shop: Shop) -> None:
    """A saga of every kind."""
    await coordinator.run(shop.good("book"), id="completed")
    with pytest.raises(SagaCompensated):
        await coordinator.run(shop.bad("pen"), id="compensated")
    with pytest.raises(SagaStuck):
        await coordinator.run(shop.bad("sticky"), id="stuck")
    await coordinator.start(shop.asks("lamp"), id="open")
    await until(lambda: _waits(coordinator, "open"))


async def _waits(coordinator: Coordinator, saga_id: str) -> bool:
    return (await coordinator.get(saga_id)).waiting


def _archived(place: Place) -> set[str]:
    """Reads the archive behind everybody's back."""
    store = place.store()
    if isinstance(store, MemoryStore):
        return set(store._archive)
    return {row[0] for row in place.sql("SELECT id FROM saga JOIN saga_archive USING (key)")}


async def _ids(coordinator: Coordinator) -> set[str]:
    return {row.id for row in await coordinator.list()}


async def test_what_is_archived_looks_as_before(place: Place) -> None:
    """Its view, its place in the list, its result and its failure."""
    shop = Shop()
    async with place.coordinator(*shop.sagas) as coordinator:
        await _fill(coordinator, shop)
        views = {saga_id: await coordinator.get(saga_id) for saga_id in ("completed", "compensated", "stuck", "open")}
        rows = await coordinator.list()
    async with place.coordinator(*shop.sagas, retention=AT_ONCE) as coordinator:

        async def archived() -> bool:
            return _archived(place) == {"completed", "compensated"}

        await until(archived)
        assert {saga_id: await coordinator.get(saga_id) for saga_id in views} == views
        assert await coordinator.list() == rows
        assert await coordinator.run(shop.good("book"), id="completed") == "r-book"
        with pytest.raises(SagaCompensated, match="sold out"):
            await coordinator.run(shop.bad("pen"), id="compensated")
        for call in (shop.good("other"), shop.bad("book")):
            with pytest.raises(IdempotencyConflict):
                await coordinator.start(call, id="completed")
        await coordinator.signal("open", "answer", "yes")
        assert await coordinator.run(shop.asks("lamp"), id="open") == "yes"
    assert shop.reserved == ["book", "pen", "sticky", "lamp"]


async def test_what_is_deleted_is_forgotten_and_nothing_else(place: Place) -> None:
    """An id that was used by one may be used by another."""
    shop = Shop()
    async with place.coordinator(*shop.sagas, retention=DELETE) as coordinator:
        await _fill(coordinator, shop)

        async def deleted() -> bool:
            return await _ids(coordinator) == {"stuck", "open"}

        await until(deleted)
        with pytest.raises(SagaNotFound):
            await coordinator.get("completed")
        handle = await coordinator.start(shop.good("another"), id="completed")
        assert await handle.result() == "r-another"
        assert (await coordinator.get("stuck")).status == "stuck"


async def test_what_a_client_started_goes_at_once_too(place: Place) -> None:
    """That a coordinator began it was no change of hands."""
    shop = Shop()
    async with (
        place.coordinator(*shop.sagas, retention=AT_ONCE),
        Client(place.store(), migrate=True, poll=0.01) as client,
    ):
        assert await client.run(shop.good("book"), id="s") == "r-book"

        async def archived() -> bool:
            return _archived(place) == {"s"}

        await until(archived)
        assert (await client.get("s")).result == "r-book"


async def test_outcomes_have_ages_of_their_own_and_young_sagas_stay(place: Place) -> None:
    shop = Shop()
    async with place.coordinator(*shop.sagas) as coordinator:
        await _fill(coordinator, shop)
    keep = Retention(completed=timedelta(days=30), compensated=7 * _DAY, every=3600)

    async def archived_after(days: float) -> set[str]:
        clock = Clock(days * _DAY)
        async with place.coordinator(*shop.sagas, retention=keep, clock=clock) as coordinator:
            await until(lambda: _walked(coordinator, clock.now() + 1800))
        return _archived(place)

    assert await archived_after(6.9) == set()
    assert await archived_after(7.1) == {"compensated"}
    assert await archived_after(29.9) == {"compensated"}
    assert await archived_after(30.1) == {"completed", "compensated"}


async def _walked(coordinator: Coordinator, after: float) -> bool:
    """Says whether the next walk is to begin only after a time, so that the one before has come to its end."""
    rows = _store(coordinator).schedules(_CLAIM)
    return bool(rows) and rows[0].due_at > after


def _store(coordinator: Coordinator) -> Store:
    return coordinator._store


async def test_archived_sagas_are_deleted_at_an_age_of_their_own(place: Place) -> None:
    shop = Shop()
    keep = Retention(completed=1 * _DAY, compensated=None, archived=timedelta(days=365), every=3600)
    async with place.coordinator(*shop.sagas) as coordinator:
        await _fill(coordinator, shop)
    for days, left in ((2, {"completed", "compensated"}), (366, {"compensated"})):
        clock = Clock(days * _DAY)
        async with place.coordinator(*shop.sagas, retention=keep, clock=clock) as coordinator:
            await until(partial(_walked, coordinator, clock.now() + 1800))
            assert await _ids(coordinator) == left | {"stuck", "open"}


async def test_one_process_of_a_fleet_does_it_at_a_time(on_disk: Place) -> None:
    """Four that walk again and again are never in a walk together."""
    shop = Shop()
    within: list[int] = []
    at_once: list[int] = []
    lock = threading.Lock()

    def watched(coordinator: Coordinator) -> Coordinator:
        """Notes how many purge while it does."""
        store = _store(coordinator)
        purge = store.purge

        def watch(what: Purge, **options: Any) -> Purged:
            with lock:
                within.append(1)
                at_once.append(len(within))
            try:
                return purge(what, **options)
            finally:
                within.pop()

        store.purge = watch  # type: ignore[method-assign]  # as it is called by this one
        return coordinator

    async def walks() -> bool:
        return len(at_once) > 20

    async with AsyncExitStack() as stack:
        fleet = [watched(on_disk.coordinator(*shop.sagas, retention=DELETE)) for _ in range(4)]
        for coordinator in fleet:
            await stack.enter_async_context(coordinator)
        await fleet[0].run(shop.good("book"), id="s")
        await until(walks)
        assert await _ids(fleet[0]) == set()
    assert max(at_once) == 1


async def test_a_walk_goes_on_where_a_process_died(on_disk: Place) -> None:
    """After a minute, in which it may still be at it; then from the place that it noted last."""
    shop = Shop()
    async with on_disk.coordinator(*shop.sagas) as coordinator:
        await _fill(coordinator, shop)
        key = on_disk.sql("SELECT key FROM saga WHERE id = 'completed'")[0][0]
        died = ScheduleRow(_CLAIM, str(key), _store(coordinator).time(Clock().now()) + 60)
        assert _store(coordinator).add_schedule(died)
    async with on_disk.coordinator(*shop.sagas, retention=AT_ONCE) as coordinator:
        await coordinator.run(shop.good("book"), id="later")
        assert _store(coordinator).schedules(_CLAIM) == [died]
    clock = Clock(61)
    async with on_disk.coordinator(*shop.sagas, clock=clock, retention=replace(AT_ONCE, every=3600)) as coordinator:
        await until(lambda: _walked(coordinator, clock.now() + 1800))
    assert _archived(on_disk) == {"compensated", "later"}
    clock = Clock(3700)
    async with on_disk.coordinator(*shop.sagas, clock=clock, retention=replace(AT_ONCE, every=3600)) as coordinator:
        await until(lambda: _walked(coordinator, clock.now() + 1800))
    assert _archived(on_disk) == {"completed", "compensated", "later"}


async def test_an_archived_journal_that_was_tampered_with_is_detected(on_disk: Place) -> None:
    """Whoever reads it hears so, as for any other; the others are unharmed."""
    shop = Shop()
    async with on_disk.coordinator(*shop.sagas, retention=AT_ONCE) as coordinator:
        await coordinator.run(shop.good("book"), id="a")
        await coordinator.run(shop.good("pen"), id="b")
        await coordinator.run(shop.good("cup"), id="c")

        async def archived() -> bool:
            return _archived(on_disk) == {"a", "b", "c"}

        await until(archived)
        keys = dict(on_disk.sql("SELECT id, key FROM saga"))
        rows = _store(coordinator).load(["a"])["a"]
        forged = [*rows[:-1], rows[-1]._replace(data=rows[-1].data.replace(b"r-book", b"r-gold"))]
        on_disk.sql("UPDATE saga_archive SET journal = ? WHERE key = ?", pack(forged), keys["a"])
        on_disk.sql("UPDATE saga_archive SET journal = ? WHERE key = ?", pack(rows), keys["b"])
        for saga_id, item in (("a", "book"), ("b", "pen")):
            with pytest.raises(JournalCorrupted, match=f"saga {saga_id}"):
                await coordinator.get(saga_id)
            with pytest.raises(JournalCorrupted, match=f"saga {saga_id}"):
                await coordinator.run(shop.good(item), id=saga_id)
        assert await coordinator.run(shop.good("cup"), id="c") == "r-cup"


async def test_a_coordinator_that_was_paused_drops_a_saga_that_was_deleted_meanwhile(on_disk: Place) -> None:
    """It attempts nothing more for it."""
    shop = Shop()
    clock = Clock()
    async with on_disk.coordinator(*shop.sagas, clock=clock, lease=30.0) as coordinator:
        await coordinator.start(shop.asks("book"), id="gone")
        await coordinator.start(shop.asks("pen"), id="here")
        await until(lambda: _waits(coordinator, "here"))
        engine = coordinator._running()
        assert set(engine.sagas) == {"gone", "here"}
        for table in ("saga_journal WHERE saga_id", "saga WHERE id"):
            on_disk.sql(f"DELETE FROM {table} = 'gone'")
        clock.ahead = 100.0

        async def dropped() -> bool:
            return set(engine.sagas) == {"here"}

        await until(dropped)


async def test_a_failing_purge_is_tried_again_and_harms_nobody(place: Place, caplog: pytest.LogCaptureFixture) -> None:
    shop = Shop()
    coordinator = place.coordinator(*shop.sagas, retention=AT_ONCE, clock=Clock(pace=0.0001))
    store = _store(coordinator)
    purge, fails = store.purge, [StoreUnavailable("away"), ValueError("a bug")]

    def purge_later(what: Purge, **options: Any) -> Purged:
        if fails:
            coordinator._clock.ahead += 100  # type: ignore[attr-defined]  # a test's clock
            raise fails.pop()
        return purge(what, **options)

    store.purge = purge_later  # type: ignore[method-assign]  # as it is called by this one
    async with coordinator:
        await coordinator.run(shop.good("book"), id="s")

        async def archived() -> bool:
            return _archived(place) == {"s"}

        await until(archived)
    store.purge = purge  # type: ignore[method-assign]  # the memory's store is shared
    told = [record.getMessage() for record in caplog.records if record.name == "sagas.retention"]
    assert len(told) == 2


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"completed": -1}, "completed"),
        ({"compensated": timedelta(seconds=-1)}, "compensated"),
        ({"completed": "30d"}, "completed"),
        ({"every": 0}, "every"),
        ({"completed": 1, "archive": False, "archived": 5}, "never archived"),
        ({"completed": 10, "archived": 5}, "younger"),
    ],
)
def test_what_makes_no_sense_is_refused(options: dict[str, Any], words: str) -> None:
    with pytest.raises(RequestError, match=words):
        Retention(**options)
