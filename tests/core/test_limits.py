"""Limits: what may be declared, and the arithmetic of rates."""

from __future__ import annotations

import math
from itertools import accumulate
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sagas import DeclarationError, Limit, step
from sagas.core.limits import Bucket

_SPEEDS = st.floats(0.01, 1000)
_BURSTS = st.floats(1, 50)
# Each draw: how many seconds after the one before, and how many tokens are wanted.
_DRAWS = st.lists(st.tuples(st.floats(0, 5), st.integers(1, 60)), min_size=1, max_size=40)
_AHEAD = st.integers(0, 20)


@pytest.mark.parametrize(
    ("options", "why"),
    [
        ({}, "limits nothing"),
        ({"concurrency": 0}, "is no number of attempts; use 1 to 10000"),
        ({"concurrency": 1.5}, "is no number of attempts"),
        ({"concurrency": True}, "is no number of attempts"),
        ({"concurrency": 10_001}, "is no number of attempts"),
        ({"rate": 0}, "is no positive number"),
        ({"rate": math.inf}, "is no positive number"),
        ({"rate": math.nan}, "is no positive number"),
        ({"rate": "10/s"}, "is no positive number"),
        ({"rate": 1, "per": -1}, "is no positive number"),
        ({"rate": 1, "across": "cluster"}, "use 'process' or 'store'"),
        ({"rate": 1, "name": "two words"}, "cannot name a limit"),
        ({"rate": 1, "name": ""}, "cannot name a limit"),
    ],
)
def test_a_limit_that_makes_no_sense_is_refused(options: dict[str, Any], why: str) -> None:
    with pytest.raises(DeclarationError, match=why):
        Limit(**options)


@pytest.mark.parametrize("limit", ["5", 2.0, True, object()])
def test_what_is_no_limit_is_refused(limit: Any) -> None:
    with pytest.raises(DeclarationError, match="neither a number nor a Limit"):
        step(limit=limit)(lambda: None)


def test_a_number_is_a_limit_on_what_runs_at_once_in_a_process() -> None:
    @step(limit=5)
    async def work() -> None: ...

    @work.compensator(limit=3)
    async def undo() -> None: ...

    assert work.options.limit == Limit(concurrency=5, across="process")
    assert work.undo is not None
    assert work.undo.limit == Limit(concurrency=3)


def test_a_compensator_has_no_limit_unless_it_asks_for_one() -> None:
    @step(limit=5)
    async def work() -> None: ...

    @work.compensator
    async def undo() -> None: ...

    assert work.undo is not None
    assert work.undo.limit is None


def test_the_bucket_of_a_slow_rate_holds_one_token() -> None:
    assert (Limit(rate=1, per=60).speed, Limit(rate=1, per=60).burst) == (1 / 60, 1.0)
    assert (Limit(rate=0.5).speed, Limit(rate=0.5).burst) == (0.5, 1.0)
    assert (Limit(rate=10, per=2).speed, Limit(rate=10, per=2).burst) == (5.0, 10.0)


@given(draws=_DRAWS, speed=_SPEEDS, burst=_BURSTS, ahead=_AHEAD)
def test_in_no_span_of_time_is_more_drawn_than_the_bucket_holds_and_gains(
    draws: list[tuple[float, int]], speed: float, burst: float, ahead: int
) -> None:
    times = list(accumulate(pause for pause, _ in draws))
    bucket, got = Bucket(burst, 0.0), []
    for now, (_, want) in zip(times, draws, strict=True):
        tokens, bucket = bucket.drawn(now, want, speed=speed, burst=burst, ahead=ahead)
        assert 0 <= tokens <= want + ahead
        got.append(tokens)
    for first in range(len(times)):
        for last in range(first, len(times)):
            most = burst + (times[last] - times[first]) * speed
            assert sum(got[first : last + 1]) <= most + 1e-6


@given(tokens=st.floats(0, 50), want=st.integers(1, 60), ahead=_AHEAD, burst=_BURSTS)
def test_those_to_come_get_what_a_bucket_has_above_its_middle(
    tokens: float, want: int, ahead: int, burst: float
) -> None:
    """And those who need some now get as many as without."""
    bucket = Bucket(min(tokens, burst), 0.0)
    needed, _ = bucket.drawn(0.0, want, speed=1.0, burst=burst)
    got, left = bucket.drawn(0.0, want, speed=1.0, burst=burst, ahead=ahead)
    assert needed <= got <= needed + ahead
    assert got == needed or left.tokens >= burst / 2
    assert got == needed + ahead or left.tokens < burst / 2 + 1


@given(draws=_DRAWS, speed=_SPEEDS, burst=_BURSTS)
def test_after_the_pause_there_is_a_token(draws: list[tuple[float, int]], speed: float, burst: float) -> None:
    bucket, now = Bucket(burst, 0.0), 0.0
    for later, want in draws:
        now += later
        _, bucket = bucket.drawn(now, want, speed=speed, burst=burst)
        there = now + bucket.pause(now, speed=speed, burst=burst)
        assert bucket.drawn(there, 1, speed=speed, burst=burst)[0] == 1
        assert bucket.filled(there, speed=speed, burst=burst).has_one


@given(
    readings=st.lists(st.tuples(st.floats(0, 2), st.floats(-4.9, 0)), min_size=1, max_size=40),
    speed=_SPEEDS,
    burst=_BURSTS,
)
def test_a_clock_that_is_read_out_of_order_gains_nothing(
    readings: list[tuple[float, float]], speed: float, burst: float
) -> None:
    """As by processes whose requests overtake each other."""
    bucket, total = Bucket(burst, 0.0), 0
    clock = latest = 0.0
    for later, off in readings:
        clock += later
        now = max(0.0, clock + off)
        latest = max(latest, now)
        tokens, bucket = bucket.drawn(now, 1000, speed=speed, burst=burst)
        total += tokens
        assert total <= burst + latest * speed + 1e-6


def test_a_clock_that_was_set_back_is_believed() -> None:
    """Else nothing would begin before it is as late again."""
    _, bucket = Bucket(1.0, 1e9).drawn(1e9, 1, speed=1.0, burst=1.0)
    tokens, bucket = bucket.drawn(5e8, 1, speed=1.0, burst=1.0)
    assert tokens == 0
    assert bucket.drawn(5e8 + 1, 1, speed=1.0, burst=1.0)[0] == 1
