"""When something is due: laws of the arithmetic, and cron expressions over the changes of clocks."""

from __future__ import annotations

import sys
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from zoneinfo import ZoneInfo

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from sagas import DeclarationError
from sagas.coordinator.due import MICRO, Cron, Every, Times, latest, utc_text, zone

# 2001 to 2066; cron expressions know only whole seconds, intervals every microsecond.
_moments = st.integers(10**9 * MICRO, 3 * 10**9 * MICRO)
_intervals = st.builds(
    Every,
    st.integers(100_000, 400 * 86_400 * MICRO).map(lambda micros: micros / MICRO),
    st.integers(0, 4 * 10**9 * MICRO).map(lambda micros: micros / MICRO),
)
_ZONES = ("Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "Asia/Kolkata", "UTC")
_EXPRESSIONS = (
    "* * * * *", "*/15 * * * *", "0 * * * *", "30 */2 * * *", "*/20 2 * * *", "30 2 * * *", "0 2 * * *",
    "0 3 * * *", "15,45 1-3 * * *", "0 0 * * *", "5 4 * * SUN", "0 2 29 2 *", "0 0 1 * *", "0 12 * * MON-FRI",
)  # fmt: skip
_crons = st.builds(Cron, st.sampled_from(_EXPRESSIONS), st.sampled_from(_ZONES))


@given(_intervals | _crons, _moments, st.integers(0, 400 * 86_400 * MICRO))
def test_wherever_one_begins_to_ask_the_due_times_are_the_same(times: Times, at: int, further: int) -> None:
    """The first from a moment on is also the first from any moment between the two; and one comes after the other."""
    first = times.first(at)
    assert first >= at
    assert times.first(first) == first
    assert times.first(min(at + further, first)) == first
    assert times.first(first + 1) > first


@given(_intervals, _moments, st.integers(0, 50))
def test_an_interval_never_drifts(every: Every, at: int, count: int) -> None:
    """Each is as far from the one before as all others."""
    dues = [every.first(at)]
    for _ in range(count + 1):
        dues.append(every.first(dues[-1] + 1))
    assert len({later - earlier for earlier, later in pairwise(dues)}) == 1


@given(_intervals | _crons, _moments, st.integers(0, 40), st.integers(1, 30), st.integers(0, MICRO))
def test_the_latest_are_those_that_one_would_count(times: Times, at: int, dues: int, count: int, more: int) -> None:
    """Without counting from the beginning."""
    counted = [times.first(at)]
    while len(counted) <= dues:
        counted.append(times.first(counted[-1] + 1))
    until = min(counted[-1] + more, times.first(counted[-1] + 1) - 1)
    assert latest(times, at, until, count) == (counted[-count:], len(counted) > count)


@given(_intervals | _crons, _moments)
def test_where_nothing_was_due_there_is_no_latest(times: Times, at: int) -> None:
    first = times.first(at)
    assume(first > at)
    assert latest(times, at, first - 1, 5) == ([], False)


def test_the_latest_of_a_long_time_are_found_at_once() -> None:
    """Ten years of seconds are not counted."""
    asked = 0

    class Counting(Every):
        def first(self, at: int) -> int:
            nonlocal asked
            asked += 1
            return super().first(at)

    found, more = latest(Counting(1.0, 0.0), 0, 10 * 365 * 86_400 * MICRO, 100)
    assert (len(found), more) == (100, True)
    assert asked < 500


# --- changes of clocks -------------------------------------------------------------------------------------------


def _fits(expression: str, wall: datetime) -> bool:
    """Says whether a local time fits; for expressions of numbers, lists, ranges and steps, whose days are all."""
    return all(
        value in _values(text, size)
        for text, value, size in zip(expression.split(), (wall.minute, wall.hour), (60, 24), strict=False)
    )


def _values(text: str, size: int) -> set[int]:
    found: set[int] = set()
    for part in text.split(","):
        span, _, step = part.partition("/")
        first, _, last = span.partition("-")
        whole = range(size) if span == "*" else range(int(first), int(last or first) + 1)
        found.update(list(whole)[:: int(step or 1)])
    return found


def _expected(expression: str, timezone: str, begin: datetime, end: datetime) -> list[int]:
    """What is due from one moment to before another, in seconds, by the rules that the documentation states."""
    wildcard = any(field.startswith("*") for field in expression.split()[:2])
    local = ZoneInfo(timezone)
    minutes = int((end - begin).total_seconds()) // 60
    if wildcard:  # each minute that there is, by what the clock on the wall shows then
        real = (begin + timedelta(minutes=number) for number in range(minutes))
        return [int(x.timestamp()) for x in real if _fits(expression, x.astimezone(local))]
    # each time on the wall, once: the first of two, and the next that there is for one that is left out
    found: set[int] = set()
    wall = begin.astimezone(local).replace(tzinfo=None) - timedelta(hours=3)
    for number in range(minutes + 6 * 60):
        shown = wall + timedelta(minutes=number)
        if _fits(expression, shown):
            found.add(_when(shown, local))
    return sorted(x for x in found if begin.timestamp() <= x < end.timestamp())


def _when(wall: datetime, local: ZoneInfo) -> int:
    while wall.replace(tzinfo=local).astimezone(UTC).astimezone(local).replace(tzinfo=None) != wall:
        wall += timedelta(minutes=1)
    return int(wall.replace(tzinfo=local, fold=0).timestamp())


_hours = st.integers(0, 23)
_minutes = st.sampled_from(["*", "*/20", "0", "30", "0,30", "10-12", "59"])
_hour_fields = st.one_of(
    st.just("*"), st.sampled_from(["*/2", "1-3", "0,12", "2", "1,2,3"]), _hours.map(str), st.just("2-4")
)
_daily = st.tuples(_minutes, _hour_fields).map(lambda fields: f"{fields[0]} {fields[1]} * * *")
# Two days around each change of clocks in two years.
_CHANGES = {
    "Europe/Berlin": [(2026, 3, 29), (2026, 10, 25), (2027, 3, 28), (2027, 10, 31)],
    "America/New_York": [(2026, 3, 8), (2026, 11, 1), (2027, 3, 14), (2027, 11, 7)],
}
_changes = st.sampled_from([(timezone, date) for timezone, dates in _CHANGES.items() for date in dates])


@given(_daily, _changes, st.integers(0, 60))
def test_a_change_of_clocks_skips_and_doubles_nothing_but_as_documented(
    expression: str, change: tuple[str, tuple[int, int, int]], offset: int
) -> None:
    timezone, (year, month, day) = change
    begin = datetime(year, month, day, tzinfo=UTC) - timedelta(hours=12, minutes=offset)
    end = begin + timedelta(hours=36)
    times = Cron(expression, timezone)
    dues: list[int] = []
    due = times.first(int(begin.timestamp()) * MICRO)
    while due < int(end.timestamp()) * MICRO:
        dues.append(due // MICRO)
        due = times.first(due + 1)
    assert dues == _expected(expression, timezone, begin, end)


def _local(times: Cron, timezone: str, begin: str, count: int) -> list[str]:
    """The next due times, as clocks on the wall show them."""
    shown: list[str] = []
    due = int(datetime.fromisoformat(begin).replace(tzinfo=ZoneInfo(timezone)).timestamp()) * MICRO - 1
    for _ in range(count):
        due = times.first(due + 1)
        shown.append(datetime.fromtimestamp(due // MICRO, ZoneInfo(timezone)).isoformat())
    return shown


def test_a_time_that_a_day_in_spring_leaves_out_comes_at_the_next_that_there_is() -> None:
    times = Cron("30 2 * * *", "Europe/Berlin")
    assert _local(times, "Europe/Berlin", "2026-03-28", 3) == [
        "2026-03-28T02:30:00+01:00", "2026-03-29T03:00:00+02:00", "2026-03-30T02:30:00+02:00",
    ]  # fmt: skip


def test_a_time_that_a_day_in_autumn_has_twice_comes_at_the_first() -> None:
    times = Cron("30 2 * * *", "Europe/Berlin")
    assert _local(times, "Europe/Berlin", "2026-10-24", 3) == [
        "2026-10-24T02:30:00+02:00", "2026-10-25T02:30:00+02:00", "2026-10-26T02:30:00+01:00",
    ]  # fmt: skip


def test_what_comes_every_hour_comes_every_hour() -> None:
    times = Cron("0 * * * *", "America/New_York")
    assert [x[11:] for x in _local(times, "America/New_York", "2026-11-01T00:00", 4)] == [
        "00:00:00-04:00", "01:00:00-04:00", "01:00:00-05:00", "02:00:00-05:00",
    ]  # fmt: skip


def test_a_sixth_field_is_seconds() -> None:
    times = Cron("*/30 0 0 * * *", "UTC")
    assert [x[11:19] for x in _local(times, "UTC", "2026-01-01", 3)] == ["00:00:00", "00:00:30", "00:00:00"]


# --- what makes no sense -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("expression", ["", "* * * *", "60 * * * *", "0 0 31 2 *", "x * * * *", "* * * * * * *"])
def test_what_is_no_cron_expression_is_refused(expression: str) -> None:
    with pytest.raises(DeclarationError, match="no cron expression"):
        Cron(expression, "UTC")


@pytest.mark.parametrize("name", ["Europe/Atlantis", "", "../etc/passwd", 7, "Europe"])
def test_what_is_no_time_zone_is_refused(name: str) -> None:
    with pytest.raises(DeclarationError, match="timezone="):
        zone(name)


@pytest.mark.parametrize("seconds", [0, -1, 0.09, float("nan"), float("inf"), "1h", None])
def test_what_is_no_interval_is_refused(seconds: float) -> None:
    with pytest.raises(DeclarationError, match="every="):
        Every(seconds, 0.0)


def test_without_the_extra_a_sentence_names_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "cronsim", None)
    with pytest.raises(DeclarationError, match=r"pip install 'sagakit\[cron\]'"):
        Cron("* * * * *", "UTC")
    assert Every(60, 0.0).first(1) == 60 * MICRO


@given(_moments)
def test_moments_are_written_exactly(at: int) -> None:
    """Two of them never look the same."""
    text = utc_text(at)
    assert text.endswith("Z")
    assert round(datetime.fromisoformat(text).timestamp() * MICRO) == at
    assert ("." in text) == bool(at % MICRO)
