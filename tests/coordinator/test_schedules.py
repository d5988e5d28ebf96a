"""Sagas that are started by the clock."""

# ruff: noqa: SLF001 - looks behind the scenes, where users do not

from __future__ import annotations

import logging
import time
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any
from zoneinfo import ZoneInfo

import anyio
import pytest

from sagas import Coordinator, DeclarationError, RequestError, Saga, SagaCall, Schedule, StoreUnavailable, saga, step
from sagas.stores.keeping import ScheduleRow
from tests.coordinator.places import Clock, Place, until

_HOUR = 3600.0
# A moment in every test's past: a Tuesday, 90 seconds after a full hour.
_NOON = datetime(2024, 3, 5, 12, 1, 30, tzinfo=UTC)


class Rushed(Clock):
    """A clock that begins at ``_NOON`` and runs ``speed`` times as fast, ``ahead`` by some seconds."""

    def __init__(self, ahead: float = 0.0, *, speed: float = 1.0, began: float | None = None) -> None:
        super().__init__(ahead)
        self._began = time.monotonic() if began is None else began
        self._speed = speed

    def now(self) -> float:
        return _NOON.timestamp() + (time.monotonic() - self._began) * self._speed + self.ahead

    async def sleep(self, seconds: float) -> None:
        await anyio.sleep(min(seconds, 30.0) / self._speed)


class Reports:
    """A saga that is started by a schedule; knows what ran."""

    def __init__(self) -> None:
        self.ran: list[str] = []

        @step
        async def write(what: str) -> None:
            self.ran.append(what)

        @saga
        async def report(what: str) -> None:
            await write(what)

        self.saga: Saga[[str], None] = report

    def make(self, due: datetime) -> SagaCall[None]:
        return self.saga(due.isoformat())

    def schedule(self, name: str = "tick", **options: Any) -> Schedule:
        # A clock that runs fast is late by minutes whenever this machine is slow by some milliseconds.
        usual: dict[str, Any] = {"missed": "all"} | ({} if "cron" in options else {"every": _HOUR})
        return Schedule(name, self.make, **usual | options)

    def coordinator(self, place: Place, *schedules: Schedule, **options: Any) -> Coordinator:
        options = {"clock": Rushed(), "lease": 1e6} | options
        return place.coordinator(self.saga, schedules=schedules, **options)


async def _ids(coordinator: Coordinator) -> list[str]:
    """The sagas, oldest first."""
    return [row.id for row in reversed(await coordinator.list(limit=1_000))]


async def _has(coordinator: Coordinator, count: int) -> None:
    """Waits until so many sagas have been started, and the schedules are at rest again."""

    async def enough() -> bool:
        return len(await _ids(coordinator)) >= count

    await until(enough)


async def _rests(coordinator: Coordinator, after: float, name: str = "tick") -> None:
    """Waits until a schedule is dealt with up to a moment, and knows when it is due next."""

    async def dealt_with() -> bool:
        return any(row.due_at > after and row.due_at % 60 == 0 for row in coordinator._store.schedules(name))

    await until(dealt_with)


def _hours(*hours: int, day: int = 5, name: str = "tick") -> list[str]:
    return [f"{name}@2024-03-{day:02}T{hour:02}:00:00Z" for hour in hours]


async def test_each_due_time_starts_one_saga_that_is_named_by_it(place: Place) -> None:
    """The call is made from the due time, in the schedule's time zone."""
    reports = Reports()
    berlin = reports.schedule(cron="0 * * * *", timezone="Europe/Berlin")
    async with reports.coordinator(place, berlin, clock=Rushed(speed=100_000.0)) as coordinator:
        await _has(coordinator, 3)
        dues = _successive(await _ids(coordinator))
    shown = [due.astimezone(ZoneInfo("Europe/Berlin")).isoformat() for due in dues]
    assert all(text.endswith("+01:00") for text in shown)
    async with reports.coordinator(place) as coordinator:
        for due, text in zip(dues, shown, strict=True):
            await coordinator.run(reports.saga(text), id=f"tick@{due:%Y-%m-%dT%H:%M:%SZ}")
    # Another one may have begun as everybody left.
    assert [text for text in sorted(reports.ran) if text <= shown[-1]] == shown


def _successive(ids: Sequence[str]) -> list[datetime]:
    """Gives the due times of sagas, which have to be full hours, each an hour after the one before."""
    dues = [datetime.fromisoformat(saga_id.removeprefix("tick@")) for saga_id in ids]
    assert all(due.timestamp() % _HOUR == 0 for due in dues)
    assert dues == [dues[0] + number * timedelta(hours=1) for number in range(len(dues))]
    return dues


async def test_nothing_is_due_before_a_schedule_was_first_seen(place: Place) -> None:
    """The hours before are not made up for, whatever the policy."""
    reports = Reports()
    async with reports.coordinator(place, reports.schedule(missed="all")) as coordinator:
        await _rests(coordinator, _NOON.timestamp())
        assert await _ids(coordinator) == []
        assert [row.due_at for row in await coordinator.schedules()] == [_NOON.replace(hour=13, minute=0, second=0)]


@pytest.mark.parametrize(
    ("missed", "started"),
    [("skip", []), ("last", _hours(17)), ("all", _hours(13, 14, 15, 16, 17))],
)
async def test_what_was_missed_is_dealt_with_by_policy(
    place: Place, missed: str, started: list[str], caplog: pytest.LogCaptureFixture
) -> None:
    """After some hours in which nobody was there."""
    reports = Reports()
    schedule = reports.schedule(missed=missed)
    async with reports.coordinator(place, schedule) as coordinator:
        await _rests(coordinator, _NOON.timestamp())
    clock = Rushed(ahead=5 * _HOUR)
    caplog.clear()
    async with reports.coordinator(place, schedule, clock=clock) as coordinator:
        await _rests(coordinator, clock.now())
        assert await _ids(coordinator) == started
    warned = [record for record in caplog.records if record.name == "sagas.schedules"]
    assert len(warned) == (0 if missed == "all" else 1)


@pytest.mark.parametrize(("late", "started"), [(59.0, _hours(13)), (61.0, [])])
async def test_what_is_late_by_a_minute_at_most_is_not_missed(place: Place, late: float, started: list[str]) -> None:
    reports = Reports()
    schedule = reports.schedule(missed="skip")
    async with reports.coordinator(place, schedule) as coordinator:
        await _rests(coordinator, _NOON.timestamp())
    clock = Rushed(ahead=_HOUR - 90 + late)
    async with reports.coordinator(place, schedule, clock=clock) as coordinator:
        await _rests(coordinator, clock.now())
        assert await _ids(coordinator) == started


async def test_of_very_many_the_last_hundred_are_made_up_for(place: Place, caplog: pytest.LogCaptureFixture) -> None:
    """And the log says so."""
    reports = Reports()
    schedule = reports.schedule(every=timedelta(minutes=1))
    async with reports.coordinator(place, schedule) as coordinator:
        await _rests(coordinator, _NOON.timestamp())
    clock = Rushed(ahead=1000 * 60.0)
    async with reports.coordinator(place, schedule, clock=clock) as coordinator:
        await _rests(coordinator, clock.now())
        ids = await _ids(coordinator)
    end = _NOON + timedelta(minutes=1000, seconds=-30)
    assert ids == [f"tick@{end - timedelta(minutes=n):%Y-%m-%dT%H:%M:%SZ}" for n in reversed(range(100))]
    assert ids[0].partition("@")[2] in caplog.text


async def test_a_fleet_with_different_clocks_starts_each_due_time_exactly_once(place: Place) -> None:
    """Some are ahead, some late; what each makes of a due time runs once."""
    reports = Reports()
    schedules = [reports.schedule("a", every=_HOUR), reports.schedule("b", cron="*/30 * * * *")]
    began = time.monotonic()
    async with AsyncExitStack() as stack:
        fleet = [
            reports.coordinator(place, *schedules, clock=Rushed(ahead, speed=20_000.0, began=began))
            for ahead in (0.0, -45.0, 20.0, 45.0)
        ]
        for coordinator in fleet:
            await stack.enter_async_context(coordinator)
        await _has(fleet[0], 30)
        ids = await _ids(fleet[0])
    for name, step_ in (("a", timedelta(hours=1)), ("b", timedelta(minutes=30))):
        dues = sorted(datetime.fromisoformat(x.partition("@")[2]) for x in ids if x.startswith(f"{name}@"))
        assert dues == [dues[0] + number * step_ for number in range(len(dues))]
    async with reports.coordinator(place) as coordinator:
        for row in await coordinator.list(limit=1000):
            what = datetime.fromisoformat(row.id.partition("@")[2]).isoformat()
            await coordinator.run(reports.saga(what), id=row.id)
    assert set(Counter(reports.ran).values()) <= {1, 2}, "once for each schedule"
    assert len(reports.ran) == len(await _all_ids(place, reports))


async def _all_ids(place: Place, reports: Reports) -> list[str]:
    async with reports.coordinator(place) as coordinator:
        return await _ids(coordinator)


async def test_a_crash_after_the_start_starts_the_same_saga_again(place: Place) -> None:
    """The note of it was not written; it is, when the next look finds the saga there."""
    reports = Reports()
    coordinator = reports.coordinator(place, reports.schedule(missed="all"), clock=Rushed(speed=50_000.0))
    store = coordinator._store
    move, fails = store.move_schedule, [True, True]

    def lose(seen: ScheduleRow, spec: str, due_at: float) -> bool:
        if fails and seen.due_at % _HOUR == 0:  # it stands at a due time, whose saga was started by now
            fails.pop()
            raise StoreUnavailable("away")
        return move(seen, spec, due_at)

    store.move_schedule = lose  # type: ignore[method-assign]  # as this coordinator calls it
    async with coordinator:
        await _has(coordinator, 3)
    store.move_schedule = move  # type: ignore[method-assign]  # the memory's store is shared
    assert not fails
    async with reports.coordinator(place) as coordinator:
        dues = _successive(await _ids(coordinator))
        for due in dues:
            await coordinator.run(reports.saga(due.isoformat()), id=f"tick@{due:%Y-%m-%dT%H:%M:%SZ}")
    assert sorted(reports.ran) == [due.isoformat() for due in dues]


async def test_another_call_that_another_version_made_of_it_counts(place: Place) -> None:
    """Its saga is there, so this one goes on."""
    reports = Reports()
    schedule = reports.schedule(missed="all")
    async with reports.coordinator(place, schedule) as coordinator:
        await _rests(coordinator, _NOON.timestamp())
        await coordinator.run(reports.saga("by another version"), id=_hours(13)[0])
    clock = Rushed(ahead=2 * _HOUR)
    async with reports.coordinator(place, schedule, clock=clock) as coordinator:
        await _rests(coordinator, clock.now())
        assert await _ids(coordinator) == _hours(13, 14)
    assert "by another version" in reports.ran


async def test_other_times_count_from_when_they_are_first_seen(place: Place) -> None:
    """What the times before would have made due is neither started nor missed."""
    reports = Reports()
    async with reports.coordinator(place, reports.schedule(missed="all")) as coordinator:
        await _rests(coordinator, _NOON.timestamp())
    clock = Rushed(ahead=5 * _HOUR)
    half = reports.schedule(every=_HOUR / 2)
    async with reports.coordinator(place, half, clock=clock) as coordinator:
        await _rests(coordinator, clock.now())
        assert await _ids(coordinator) == []
        (row,) = await coordinator.schedules()
    assert row.due_at == _NOON.replace(hour=17, minute=30, second=0)


async def test_while_a_fleet_is_replaced_the_process_that_came_last_has_the_schedule(
    place: Place, caplog: pytest.LogCaptureFixture
) -> None:
    """The old ones say so once and leave it alone; nobody takes it back and forth."""
    caplog.set_level(logging.WARNING, "sagas.schedules")
    reports = Reports()
    began = time.monotonic()

    def with_times(minute: int) -> Coordinator:
        schedule = reports.schedule(cron=f"{minute} * * * *")
        return reports.coordinator(place, schedule, clock=Rushed(speed=20_000.0, began=began))

    async with with_times(10) as old:
        await _has(old, 2)
        async with with_times(20) as new:
            await until(lambda: _is(new, "20 * * * *"))
            before = len(await _ids(new))
            await _has(new, before + 3)
            assert all(":20:00Z" in saga_id for saga_id in (await _ids(new))[before + 1 :])
            assert await _is(new, "20 * * * *")
    assert caplog.text.count("left to that one") == 1


async def _is(coordinator: Coordinator, expression: str) -> bool:
    return [row.spec for row in await coordinator.schedules()] == [f"cron {expression} in UTC"]


async def test_a_paused_schedule_starts_nothing_until_it_is_resumed(place: Place) -> None:
    """What came due meanwhile is dealt with; the pause outlasts processes."""
    reports = Reports()
    schedule = reports.schedule(missed="all")
    async with reports.coordinator(place, schedule) as coordinator:
        await _rests(coordinator, _NOON.timestamp())
        await coordinator.pause_schedule("tick")
    clock = Rushed(ahead=3 * _HOUR)
    async with reports.coordinator(place, schedule, clock=clock) as coordinator:
        assert [row.paused for row in await coordinator.schedules()] == [True]
        await coordinator.resume_schedule("tick")
        assert await _ids(coordinator) == []
    clock = Rushed(ahead=5 * _HOUR)
    async with reports.coordinator(place, schedule, clock=clock) as coordinator:
        await _rests(coordinator, clock.now())
        assert await _ids(coordinator) == _hours(16, 17)


async def test_a_running_process_hears_of_pauses(place: Place) -> None:
    """Of its own, and of other processes'."""
    reports = Reports()
    clock = Rushed(speed=20_000.0)
    async with reports.coordinator(place, reports.schedule(), clock=clock) as running:
        await _has(running, 1)
        async with reports.coordinator(place) as other:
            await other.pause_schedule("tick")
            paused_at = clock.now()
            count = len(await _ids(other))

            async def days_have_passed() -> bool:
                return clock.now() > paused_at + 5 * _HOUR

            await until(days_have_passed)
            assert len(await _ids(other)) <= count + 1, "one may have been on its way"
            await other.resume_schedule("tick")
            await _has(other, count + 3)


async def test_a_pause_ends_also_what_makes_up_for_missed_times(place: Place) -> None:
    """Or whoever sees that it was a mistake to start them all could only watch."""
    reports = Reports()
    store = place.store()
    store.open(migrate=True)

    def make(due: datetime) -> SagaCall[None]:
        if due.hour == 15:  # the third of ten
            store.pause_schedule("tick", _NOON.timestamp(), paused=True)
        return reports.saga(due.isoformat())

    schedule = reports.schedule()
    async with reports.coordinator(place, schedule) as coordinator:
        await _rests(coordinator, _NOON.timestamp())
    clock = Rushed(ahead=10 * _HOUR, speed=20_000.0)
    async with reports.coordinator(
        place, Schedule("tick", make, every=_HOUR, missed="all"), clock=clock
    ) as coordinator:
        await _has(coordinator, 3)
        await until(partial(_is_past, clock, clock.now() + 5 * _HOUR))
        assert await _ids(coordinator) == _hours(13, 14, 15)
    store.close()


async def _is_past(clock: Rushed, moment: float) -> bool:
    return clock.now() > moment


async def test_there_is_a_sentence_for_names_that_nobody_has(place: Place) -> None:
    reports = Reports()
    async with reports.coordinator(place) as coordinator:
        for name in ("tick", "sagas:retention"):
            with pytest.raises(RequestError, match="there is no schedule"):
                await coordinator.pause_schedule(name)
            with pytest.raises(RequestError, match="there is no schedule"):
                await coordinator.resume_schedule(name)
        assert await coordinator.schedules() == []


async def test_a_call_that_cannot_be_made_is_tried_again_and_holds_up_no_other_schedule(
    place: Place, caplog: pytest.LogCaptureFixture
) -> None:
    """Nothing is left out, and the log says why it does not go on."""
    reports = Reports()
    fails = [RuntimeError("no rates yet"), RuntimeError("no rates yet")]

    def make(due: datetime) -> SagaCall[None]:
        if fails:
            raise fails.pop()
        return reports.make(due)

    bad = Schedule("bad", make, every=_HOUR, missed="all")
    clock = Rushed(speed=5_000.0)
    async with reports.coordinator(place, bad, reports.schedule("good"), clock=clock) as coordinator:
        await _rests(coordinator, _NOON.timestamp() + 2 * _HOUR, "bad")
        await _rests(coordinator, _NOON.timestamp() + 2 * _HOUR, "good")
        ids = await _ids(coordinator)
    assert set(_hours(13, name="bad") + _hours(13, name="good")) <= set(ids)
    assert caplog.text.count("no rates yet") == 2


async def test_what_is_no_call_of_a_known_saga_is_told(place: Place, caplog: pytest.LogCaptureFixture) -> None:
    reports, stranger = Reports(), Reports()
    made: list[Any] = [stranger.saga("x"), "no call"]

    def make(due: datetime) -> Any:
        return made.pop() if made else reports.make(due)

    clock = Rushed(speed=5_000.0)
    schedule = Schedule("tick", make, every=_HOUR, missed="all")
    async with reports.coordinator(place, schedule, clock=clock) as coordinator:
        await _has(coordinator, 1)
    assert "not among this coordinator's sagas" in caplog.text
    assert "start and run take the call of a saga" in caplog.text


async def test_nothing_is_due_before_its_start_from_which_intervals_count(place: Place) -> None:
    reports = Reports()
    begin = _NOON.replace(hour=15, minute=7, second=0)
    schedule = reports.schedule(every=timedelta(minutes=20), start=begin)
    async with reports.coordinator(place, schedule) as coordinator:
        await _rests(coordinator, _NOON.timestamp())
    clock = Rushed(ahead=3.5 * _HOUR)
    async with reports.coordinator(place, schedule, clock=clock) as coordinator:
        await _rests(coordinator, clock.now())
        assert await _ids(coordinator) == [f"tick@2024-03-05T15:{minute:02}:00Z" for minute in (7, 27)]


async def test_jitter_spreads_schedules_but_moves_no_due_time(place: Place) -> None:
    """Each has its place, which is the same in every process."""
    reports = Reports()
    schedules = [reports.schedule(f"s{number}", jitter=600.0) for number in range(5)]
    offsets = [schedule.offset for schedule in schedules]
    assert len(set(offsets)) == 5
    assert all(0 <= offset < 600 for offset in offsets)
    assert offsets == [reports.schedule(f"s{number}", jitter=600.0).offset for number in range(5)]
    async with reports.coordinator(place, *schedules) as coordinator:
        for schedule in schedules:
            await _rests(coordinator, _NOON.timestamp(), schedule.name)
    middle = sorted(offsets)[2]
    clock = Rushed(ahead=_HOUR - 90 + middle + 0.001)
    async with reports.coordinator(place, *schedules, clock=clock) as coordinator:
        await _has(coordinator, 3)
        assert len(await _ids(coordinator)) == 3
        assert {saga_id.partition("@")[2] for saga_id in await _ids(coordinator)} == {"2024-03-05T13:00:00Z"}


# --- what makes no sense -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"name": ""}, "cannot name a schedule"),
        ({"name": "x" * 151}, "cannot name a schedule"),
        ({"name": "a\nb"}, "cannot name a schedule"),
        ({"name": 7}, "cannot name a schedule"),
        ({"name": "sagas:mine"}, "are taken"),
        ({"make": "report"}, "no function"),
        ({"missed": "some"}, "skip, last, all"),
        ({"jitter": -1}, "jitter"),
        ({"jitter": "1"}, "jitter"),
        ({"start": datetime(2026, 1, 1)}, "no time zone"),  # noqa: DTZ001 - the very thing that is refused
        ({"every": None}, "either cron=… or every=…"),
        ({"cron": "* * * * *"}, "either cron=… or every=…"),
        ({"every": 0}, "every=0"),
        ({"timezone": "Europe/Atlantis"}, "Europe/Atlantis"),
    ],
)
def test_what_makes_no_schedule_is_refused(options: dict[str, Any], words: str) -> None:
    reports = Reports()
    given: dict[str, Any] = {"name": "tick", "make": reports.make, "every": _HOUR} | options
    with pytest.raises(DeclarationError, match=words):
        Schedule(**given)


def test_names_are_unique_and_only_schedules_are_taken() -> None:
    reports = Reports()
    with pytest.raises(DeclarationError, match="two schedules are called 'tick'"):
        Coordinator("memory:", schedules=[reports.schedule(), reports.schedule()])
    makers: list[Callable[[datetime], SagaCall[None]]] = [reports.make]
    with pytest.raises(DeclarationError, match=r"takes Schedule\(…\) objects"):
        Coordinator("memory:", schedules=makers)  # type: ignore[arg-type]  # the very thing that is refused
