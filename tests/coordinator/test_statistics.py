"""Figures from the journal: what is counted, by which window, and which steps are unusual."""

from __future__ import annotations

import json
import math
import random
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sagas import Client, Rejected, RequestError, Retry, SagaCompensated, SagaStuck, Stats, saga, step
from sagas.coordinator import statistics
from sagas.coordinator.sketch import Sketch
from sagas.coordinator.statistics import read_stats
from sagas.coordinator.tallies import StepTally, Tallies
from sagas.coordinator.unusual import LEAST, LEAST_PAST, Unusual, find_unusual
from sagas.stores.keeping import Purge
from sagas.stores.memory import MemoryStore
from sagas.stores.port import Batch, Change, JournalRow, NewSaga, PayloadContext
from tests.coordinator.places import Place

_FLAKY = {"order": 0}


@step(retry=Retry(attempts=5, initial=0.001))
async def reserve(item: str) -> str:
    if item == "flaky" and _FLAKY["order"]:
        _FLAKY["order"] -= 1
        raise ConnectionError("no line")
    return item


@reserve.compensator(retry=Retry(attempts=2, initial=0.001))
async def release(item: str) -> None:
    if item == "stuck":
        raise ConnectionError("no line")


@step
async def charge(item: str) -> None:
    if item != "lamp":
        raise Rejected("no funds")


@saga
async def order(item: str) -> None:
    await reserve(item)
    await charge(item)


@saga
async def other(item: str) -> str:
    return await reserve(item)


# --- what is counted ------------------------------------------------------------------------------------------------


async def test_everything_is_counted_by_saga_and_step(place: Place) -> None:
    _FLAKY["order"] = 2
    async with place.coordinator(order, other) as coordinator:
        for item in ("lamp", "lamp", "pen", "flaky", "stuck"):
            with suppress(SagaCompensated, SagaStuck):
                await coordinator.run(order(item))
        await coordinator.run(other("lamp"))
        stats = await coordinator.stats()
    assert [(x.name, x.started, x.completed, x.compensated, x.stuck, x.open) for x in stats.sagas] == [
        ("order", 5, 2, 2, 1, 0),
        ("other", 1, 1, 0, 0, 0),
    ]
    by_step = {(x.saga, x.step): x for x in stats.steps}
    reserved, charged = by_step["order", "reserve"], by_step["order", "charge"]
    assert (reserved.attempts, reserved.failed, reserved.retries, reserved.succeeded) == (7, 2, 2, 5)
    assert (reserved.undone, reserved.undo_attempts, reserved.undo_failed) == (2, 4, 2)
    assert (charged.attempts, charged.failed, charged.retries, charged.succeeded, charged.undone) == (5, 3, 0, 2, 0)
    assert (reserved.failure_rate, reserved.undo_rate) == (2 / 7, 2 / 5)
    assert stats.sagas[0].undo_rate == 1 / 2
    assert stats.sagas[0].durations.count == 4
    assert stats.sagas[0].time_to_consistent.count == 2
    assert reserved.durations.count == 7
    assert reserved.durations.p50 is not None
    assert reserved.durations.p50 <= (reserved.durations.p99 or 0.0) <= reserved.durations.longest
    assert stats.open == {"running": 0, "compensating": 0, "stuck": 1}
    assert (stats.read, stats.complete, stats.unreadable, stats.backlog) == (6, True, 0, 0)
    assert stats.started_per_second == pytest.approx(6 / 3600)
    assert stats.ended_per_second == pytest.approx(5 / 3600)


async def test_a_client_gives_the_same_and_one_saga_alone_if_asked(place: Place) -> None:
    store = place.store()
    async with place.coordinator(order, other, store=store) as coordinator:
        await coordinator.run(order("lamp"))
        await coordinator.run(other("lamp"))
        async with Client(store if store.in_memory else place.store()) as client:
            stats = await client.stats(name="other", since=timedelta(minutes=5))
    assert [x.name for x in stats.sagas] == ["other"]
    assert [(x.saga, x.step) for x in stats.steps] == [("other", "reserve")]
    assert stats.read == 1
    assert stats.until - stats.since == timedelta(minutes=5)


async def test_what_is_archived_is_counted_and_what_is_deleted_is_not(place: Place) -> None:
    store = place.store()
    async with place.coordinator(order, other, store=store) as coordinator:
        for _ in range(3):
            await coordinator.run(order("lamp"))
        before = await coordinator.stats()
        store.purge(Purge(archive={"completed": 1e12}, settled=1e12), limit=2)
        after = await coordinator.stats()
        assert (after.sagas, after.steps) == (before.sagas, before.steps)
        store.purge(Purge(delete={"completed": 1e12}, settled=1e12), limit=10)
        assert (await coordinator.stats()).read == 0


class Turned:
    """Writes every payload backwards."""

    def encode(self, value: bytes, context: PayloadContext) -> bytes:
        return value[::-1]

    decode = encode


async def test_what_is_written_through_a_codec_is_read_with_it_and_said_to_be_unreadable_without(place: Place) -> None:
    store = place.store()
    async with place.coordinator(other, store=store, codec=Turned()) as coordinator:
        await coordinator.run(other("lamp"))
        assert [x.step for x in (await coordinator.stats()).steps] == ["reserve"]
        async with Client(store if store.in_memory else place.store()) as client:
            stats = await client.stats()
    assert (stats.read, stats.unreadable, stats.steps) == (1, 1, ())
    assert [(x.name, x.completed) for x in stats.sagas] == [("other", 1)]


async def test_numbers_that_make_no_sense_are_refused(place: Place) -> None:
    async with place.coordinator(other) as coordinator:
        for since in (0, -1.0, timedelta(0)):
            with pytest.raises(RequestError):
                await coordinator.stats(since=since)
        with pytest.raises(RequestError):
            await coordinator.stats(limit=0)


# --- the window -----------------------------------------------------------------------------------------------------


@dataclass
class Journal:
    """Sagas of one step that took as long, and failed as often, as it is told."""

    store: MemoryStore

    def add(self, saga_id: str, at: float, attempts: Sequence[tuple[float, str | None]]) -> None:
        def row(seq: int, kind: str, path: str, **fields: Any) -> JournalRow:
            return JournalRow(saga_id, seq, at, kind, path, json.dumps(fields).encode(), b"d")

        new = NewSaga(saga_id, "order", "1", b"f", at, "o", at)
        made = [[at, seconds, error] for seconds, error in attempts]
        rows = [
            row(0, "SagaStarted", "", then=[["step", "1", "charge", {}, False]]),
            row(1, "StepSucceeded", "1", attempts=made, result=None, then=[["completed", None]]),
        ]
        change = Change(saga_id, "completed", active=False, wake_at=None, ended_at=at, error=None, owner="o")
        self.store.commit(Batch([new], rows, {saga_id: change}, [], [], []))

    async def stats(self, now: float, since: float, **options: Any) -> Stats:
        async def call(function: Any, *args: object) -> Any:
            return function(*args)

        return await read_stats(self.store, call, now=now, since=since, **options)


@pytest.fixture
def journal() -> Journal:
    return Journal(MemoryStore())


async def test_a_window_holds_what_started_in_it_also_if_clocks_differ(
    journal: Journal, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(statistics, "_ROWS", 4)
    monkeypatch.setattr(statistics, "_JOURNALS", 3)
    for number, at in enumerate([10, 20, 30, 95, 94, 90, 97, 89, 96, 100]):
        journal.add(f"s{number}", at, [(0.1, None)])
    stats = await journal.stats(now=100, since=10)
    assert (stats.read, stats.complete) == (6, True)
    assert stats.compared == 4  # within ten windows before
    assert (await journal.stats(now=100, since=1)).read == 1
    assert (await journal.stats(now=1000, since=10)).read == 0


async def test_a_large_window_is_cut_off_at_a_number_and_says_so(journal: Journal) -> None:
    for number in range(200):
        journal.add(f"s{number}", 50 + number / 10, [(0.1, None)])
    stats = await journal.stats(now=100, since=100, limit=120)
    assert (stats.read, stats.complete, stats.compared) == (120, False, 80)
    assert (await journal.stats(now=100, since=100, limit=201)).complete


async def test_a_walk_that_loses_its_way_says_so(journal: Journal, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where it stood was deleted meanwhile."""
    monkeypatch.setattr(statistics, "_ROWS", 5)
    for number in range(20):
        journal.add(f"s{number}", 50, [(0.1, None)])
    store = journal.store

    async def call(function: Any, *args: object) -> Any:
        if function == store.load:
            found = store.load(*args)  # type: ignore[arg-type]  # ids
            store.purge(Purge(delete={"completed": 1e12}, settled=1e12), limit=100)
            return found
        return function(*args)

    stats = await read_stats(store, call, now=100.0, since=100.0)
    assert (stats.read, stats.complete) == (5, False)


async def test_what_a_probe_has_found_is_no_attempt(journal: Journal) -> None:
    journal.add("s", 50, [(0.1, "TimeoutError: no answer"), (0.0, "found by the probe")])
    (found,) = (await journal.stats(now=100, since=100)).steps
    assert (found.attempts, found.failed, found.retries, found.succeeded) == (1, 1, 0, 1)


# --- what is unusual ------------------------------------------------------------------------------------------------


def _tallies(durations: Sequence[float], failed: int) -> Tallies:
    tallies = Tallies()
    tally: StepTally = tallies.steps["order", "charge"]
    tally.made.take([[0.0, seconds, "x" if n < failed else None] for n, seconds in enumerate(durations)])
    return tallies


def _unusual(now: Tallies, past: Tallies) -> list[str]:
    return [x.what for x in find_unusual(now, past)]


def test_a_step_that_is_slower_than_it_was_is_named_with_the_numbers() -> None:
    past = _tallies([n / 1000 for n in range(1, 101)], 0)
    now = _tallies([n / 1000 for n in range(51, 151)], 0)
    (found,) = find_unusual(now, past)
    assert found == Unusual(
        saga="order", step="charge", undo=False, what="slower", part=found.part, part_before=found.part_before,
        attempts=100, attempts_before=100, p95=found.p95, p95_before=found.p95_before,
    )  # fmt: skip
    assert [found.part, found.part_before] == pytest.approx([0.55, 0.05], abs=0.02)
    assert [found.p95, found.p95_before] == pytest.approx([0.145, 0.095], rel=0.01)


def test_a_step_that_fails_more_often_than_it_did_is_named() -> None:
    assert _unusual(_tallies([0.1] * 100, 10), _tallies([0.1] * 1000, 10)) == ["failing"]
    assert _unusual(_tallies([0.1] * 100, 3), _tallies([0.1] * 1000, 10)) == []  # chance does that
    assert _unusual(_tallies([0.1] * 10_000, 1_100), _tallies([0.1] * 10_000, 1_000)) == []  # not worth a word


def test_an_undo_is_compared_too() -> None:
    now, past = Tallies(), Tallies()
    now.steps["order", "charge"].undos.take([[0.0, 0.1, "x"]] * 50)
    past.steps["order", "charge"].undos.take([[0.0, 0.1, None]] * 50)
    (found,) = find_unusual(now, past)
    assert (found.undo, found.what) == (True, "failing")


def test_a_few_attempts_say_nothing() -> None:
    assert _unusual(_tallies([0.1] * LEAST, LEAST), _tallies([0.1] * LEAST_PAST, 0)) == ["failing"]
    assert _unusual(_tallies([0.1] * (LEAST - 1), LEAST - 1), _tallies([0.1] * LEAST_PAST, 0)) == []
    assert _unusual(_tallies([0.1] * LEAST, LEAST), _tallies([0.1] * (LEAST_PAST - 1), 0)) == []
    assert _unusual(_tallies([0.1] * LEAST, LEAST), Tallies()) == []


def test_what_is_the_same_as_ever_is_hardly_ever_unusual(rng: random.Random) -> None:
    """Chance alone exceeds three standard errors in one of 740 cases; here there are 400."""
    found: list[str] = []
    for _ in range(200):
        now, past = ([rng.lognormvariate(-2, 1) for _ in range(count)] for count in (60, 300))
        found += _unusual(_tallies(now, sum(rng.random() < 0.2 for _ in range(60))), _tallies(past, 60))
    assert len(found) <= 6


# --- durations ------------------------------------------------------------------------------------------------------


@given(st.lists(st.floats(1e-6, 1e7), min_size=1, max_size=300), st.sampled_from([0.01, 0.5, 0.95, 0.99, 1.0]))
def test_a_quantile_is_right_to_a_percent(durations: list[float], part: float) -> None:
    sketch = Sketch()
    for seconds in durations:
        sketch.add(seconds)
    exact = sorted(durations)[math.ceil(part * len(durations)) - 1]
    assert sketch.quantile(part) == pytest.approx(exact, rel=0.0101)
    assert sketch.longest == max(durations)
    assert sketch.above(exact) <= sum(x > exact for x in durations)
    assert sketch.above(exact) >= sum(x > exact * 1.021 for x in durations)


def test_what_took_no_time_at_all_is_fine() -> None:
    sketch = Sketch()
    assert sketch.quantile(0.5) is None
    sketch.add(0.0)
    assert sketch.quantile(0.5) == 0.0
